"""
`make bench-faults`: the bridge and its peers while soketi or Kafka is away.

Owns the order of runs, the report and the command line. What happens in a run is for
`outages`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.contenders import CONTENDERS, DEFAULTS, Contender, able
from benchmarks.outages import OUTAGES, FaultRun, Ground, Outage, through
from benchmarks.program import RunError, conclude, count, named, say
from benchmarks.report import BRIDGES, Failure, heading, save, table
from benchmarks.soketi import soketi_running
from tests.kit.kafka import KafkaServer
from tests.kit.process import ProcessError


# soketi takes ten times as much on two cores.
_RATE = 500

_HEAD = [
    "contender",
    "outage (s)",
    "events that soketi took",
    "on the topic",
    "not received while away",
    "lost otherwise",
    "of these, reported in a gap",
    "duplicated",
    "out of order",
    "all is on the topic again after (s)",
]

# Flaws that no column has; they are rare.
_MORE = ("altered", "foreign", "holes")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Let servers fail, print and save.

    Returns:
        0 if no bridge lost an event without reporting it, duplicated one or put one out
        of order; 1 if one did, or if a bridge's run failed; 2 for wrong options; 130 if
        it was stopped.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="Let soketi and Kafka fail around the bridge and its peers.",
    )
    parser.add_argument(
        "--contenders",
        type=named(CONTENDERS),
        default=DEFAULTS,
        metavar="NAME,...",
        help=f"who runs: some of {', '.join(CONTENDERS)}",
    )
    parser.add_argument(
        "--only",
        type=named(OUTAGES),
        default=list(OUTAGES.values()),
        metavar="NAME,...",
        help=f"what fails: some of {', '.join(OUTAGES)}",
    )
    parser.add_argument(
        "--rate",
        type=count,
        default=_RATE,
        help="events a second (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    return conclude("make bench-faults", lambda: _bench(**vars(options)))


def _bench(contenders: list[Contender], only: list[Outage], rate: int) -> int:
    able_ones, left_out = able(contenders, signing=True)
    for line in left_out:
        say(line)
    head = [heading("Through outages"), f"- {rate} events/s, published all along"]
    runs: list[FaultRun] = []
    failures: list[Failure] = []
    sections = []
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        KafkaServer() as kafka,
        soketi_running() as (soketi, source),
    ):
        ground = Ground(kafka, soketi, source, Path(folder))
        for outage in only:
            rows, remarks = [], []
            for contender in able_ones:
                try:
                    run = through(contender, outage, ground, rate)
                except (ProcessError, RunError) as error:
                    reason = str(error).splitlines()[0]
                    line = f"- {contender.title}: failed: {reason}"
                    failures.append(Failure(contender.title, line))
                    remarks.append(line)
                else:
                    runs.append(run)
                    rows.append(_row(run))
                    remarks += _remarks(run)
                    say(f"{outage.name}: {', '.join(rows[-1])}")
            sections += ["", f"## {outage.meaning}", "", *table(_HEAD, rows)]
            sections += ["", *remarks] if remarks else []
    text = "\n".join([*head, *left_out, *sections, ""])
    sys.stdout.write(f"\n{text}")
    data = {"runs": [asdict(run) for run in runs], "failures": failures}
    save(text, data, "-faults")
    wrong = {run.contender for run in runs if not run.flawless}
    wrong |= {failure.contender for failure in failures}
    return 1 if wrong & BRIDGES else 0


def _row(run: FaultRun) -> list[str]:
    verdict = run.verdict
    counts = (
        verdict.accepted,
        verdict.accepted - verdict.away - verdict.lost,
        verdict.away,
        verdict.lost,
        verdict.reported,
        verdict.topic.duplicated,
        verdict.topic.disordered,
    )
    recovery = verdict.recovery_seconds
    return [
        run.contender,
        f"{run.outage_seconds:.1f}",
        *(f"{number:,}" for number in counts),
        "never" if recovery is None else f"{recovery:.1f}",
    ]


def _remarks(run: FaultRun) -> list[str]:
    flaws = asdict(run.verdict.topic)
    lines = [f"{name} {flaws[name]:,}" for name in _MORE if flaws[name]]
    lines += [*run.findings, *([run.end] if run.end else [])]
    return [f"- {run.contender}: {line}" for line in lines]


if __name__ == "__main__":
    sys.exit(main())
