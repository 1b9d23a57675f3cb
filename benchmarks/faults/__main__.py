"""The command line of `make bench-faults`: options, order of runs, files, exit code."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders import Contender
from benchmarks.faults.course import FaultRun, through
from benchmarks.faults.outages import OUTAGES, Ground, Outage
from benchmarks.faults.report import FaultFailure, FaultReport
from benchmarks.line_up import LINE_UP, PEERS, Entry, chosen, signing, standing
from benchmarks.machine import describe
from benchmarks.orders import OrderError
from benchmarks.saving import save
from benchmarks.telling import say
from benchmarks.traffic import CLIENT_ID
from tests.kit.broker import BrokerError
from tests.kit.cache import FetchError
from tests.kit.dryapi import DryApi
from tests.kit.kafka import KafkaServer
from tests.kit.npm import SOKETI_VERSION
from tests.kit.process import PortTakenError, ProcessError
from tests.kit.reader import ReadTimeoutError
from tests.kit.soketi import SoketiServer


_EXPECTED = (
    BrokerError,
    FetchError,
    OrderError,
    PortTakenError,
    ProcessError,
    ReadTimeoutError,
)

# With these a run of a peer may end: what it lacks is a finding.
_OUTCOMES = (OrderError, ProcessError)

# soketi takes ten times as much on two cores.
_RATE = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Let servers fail, print and save.

    Returns:
        0 if no bridge lost an event without telling, doubled one or put one out of
        order; 1 if one did, or if a run failed; 2 for wrong options; 130 when it was
        interrupted.
    """
    options = _options(arguments)
    # The servers have to be ended. trio takes Ctrl-C at a moment that suits it.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    entries, unable = signing(options.contenders)
    entries, skipped = standing(entries)
    skipped = unable | skipped
    for name, reason in skipped.items():
        say(f"left out: {name}: {reason}")
    if not entries:
        say("make bench-faults: nobody of those can run here")
        return 1
    more = {"soketi": SOKETI_VERSION}
    for entry in entries:
        more |= entry.contender.versions()
    machine = describe(own_kafka=True, more=more)
    runs: list[FaultRun] = []
    failures: list[FaultFailure] = []
    try:
        for outcome in _measure(options.only, entries, options.rate):
            if isinstance(outcome, FaultRun):
                runs.append(outcome)
                say(_line(outcome))
            else:
                failures.append(outcome)
                say(f"{outcome.contender:<37}{outcome.outage:<18}{outcome.reason}")
    except _EXPECTED as error:
        say(f"make bench-faults: {error}")
        return 1
    except KeyboardInterrupt:
        say("make bench-faults: stopped before the report")
        return 130
    meanings = {outage.name: outage.meaning for outage in options.only}
    report = FaultReport(
        machine, options.rate, meanings, runs, list(PEERS), failures, skipped
    )
    sys.stdout.write(f"\n{report.markdown()}\n")
    for file in save(report, "-faults"):
        say(f"saved {file}")
    return 0 if report.flawless else 1


def _measure(
    outages: Sequence[Outage], entries: Sequence[Entry], rate: float
) -> Iterator[FaultRun | FaultFailure]:
    with _ground() as ground:
        for outage in outages:
            for entry in entries:
                yield _outcome(entry.contender, outage, ground, rate)


def _outcome(
    contender: Contender, outage: Outage, ground: Ground, rate: float
) -> FaultRun | FaultFailure:
    try:
        return through(contender, outage, ground, rate)
    except _OUTCOMES as error:
        if contender.name not in PEERS:
            raise
        return FaultFailure(contender.name, outage.name, str(error))


@contextmanager
def _ground() -> Iterator[Ground]:
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        KafkaServer() as kafka,
        SoketiServer() as soketi,
        # The token that every contender is given.
        DryApi(soketi, {CLIENT_ID: "any"}).serving() as dryapi,
    ):
        yield Ground(kafka, soketi, dryapi.url, Path(folder))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="Let soketi and Kafka fail around the bridge and its peers.",
    )
    parser.add_argument(
        "--contenders",
        type=_contenders,
        default=chosen(None),
        metavar="NAME,...",
        help=f"who runs: all, or some of {', '.join(LINE_UP)}",
    )
    parser.add_argument(
        "--only",
        type=_outages,
        default=OUTAGES,
        metavar="NAME,...",
        help=f"what fails: some of {', '.join(each.name for each in OUTAGES)}",
    )
    parser.add_argument(
        "--rate",
        type=int,
        default=_RATE,
        help="events a second (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.rate < 1:
        parser.error("a rate is at least 1")
    return options


def _contenders(text: str) -> list[Entry]:
    try:
        return chosen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _outages(text: str) -> list[Outage]:
    by_name = {outage.name: outage for outage in OUTAGES}
    names = text.split(",")
    for name in names:
        if name not in by_name:
            raise argparse.ArgumentTypeError(
                f"no outage {name!r}; there are {', '.join(by_name)}"
            )
    return [by_name[name] for name in names]


def _line(run: FaultRun) -> str:
    verdict = run.verdict
    missing = verdict.away + verdict.lost
    whole = verdict.whole_seconds
    parts = [
        f"{run.contender:<37}{run.outage:<18}{verdict.accepted:>7,} accepted",
        f"{missing:,} missing, {verdict.told:,} of them told",
        f"{verdict.duplicated:,} doubled",
        f"{verdict.disordered:,} out of order",
        "never whole again" if whole is None else f"whole after {whole:.1f} s",
    ]
    return "  ".join(parts if run.end is None else [*parts, run.end])


if __name__ == "__main__":
    sys.exit(main())
