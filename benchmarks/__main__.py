"""The command line of `make bench`: options, the order of runs, the exit code."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

from benchmarks.contenders import CHOICE, CONTENDERS, Contender, able
from benchmarks.load import Traffic
from benchmarks.program import RunError, conclude, count, counts, say
from benchmarks.report import Failure, flawless, heading, markdown, save
from benchmarks.run import Run, Servers, firehose_running, kafka_running, measure
from benchmarks.soketi import soketi_running
from tests.kit.process import ProcessError


# How a single run may end. Of a peer that is a finding, of a bridge it fails the
# benchmark, whose other runs go on.
_OUTCOMES = (ProcessError, RunError)

# Enough to fill caches and to let the broker's compiler do its work.
_WARM_UP_EVENTS = 20_000

# A flood's previews: what the benchmark and the firehose keep of them in memory is
# four times as much.
_MOST_PREVIEW_BYTES = 150_000_000

# soketi takes some thousand events a second on two cores, beside all others' work.
_SOKETI_EVENTS = 20_000
_SOKETI_RATE = 1_000

_Planned: TypeAlias = tuple[Contender, Traffic, float | None]


@dataclass(frozen=True)
class _Plan:
    """The runs of a benchmark."""

    turns: int  # runs of each contender and kind
    previews: Sequence[int]  # lengths, each with floods of its own; 0 for none
    rates: Sequence[int]  # events a second at which latency is measured
    rate_seconds: int
    flood_seconds: float  # about how long a flood takes its contender
    events: int | None = None  # of each flood, instead
    soketi: bool = False  # whether those that can also run once with a real soketi

    def runs(self, contenders: Sequence[Contender]) -> Iterator[_Planned]:
        """Give the runs from the firehose: turn by turn, kind by kind."""
        kinds: list[tuple[int, float | None]] = [
            *((preview_bytes, None) for preview_bytes in self.previews),
            *((0, rate) for rate in self.rates),
        ]
        for turn in range(self.turns):
            # Each goes first in its turn: the machine drifts.
            first = turn % len(contenders)
            ordered = [*contenders[first:], *contenders[:first]]
            for preview_bytes, rate in kinds:
                for each in ordered:
                    if each.takes(preview_bytes, rate):
                        yield each, self._traffic(each, preview_bytes, rate), rate

    def soketi_runs(self, contenders: Sequence[Contender]) -> Iterator[_Planned]:
        """Give the runs from a real soketi in their order."""
        for each in contenders:
            yield each, Traffic(_SOKETI_EVENTS), None
        for each in contenders:
            if each.takes(0, _SOKETI_RATE):
                yield each, Traffic(_SOKETI_RATE * self.rate_seconds), _SOKETI_RATE

    def _traffic(
        self, contender: Contender, preview_bytes: int, rate: float | None
    ) -> Traffic:
        if rate is not None:
            return Traffic(int(rate * self.rate_seconds))
        events = self.events or contender.events(preview_bytes, self.flood_seconds)
        if preview_bytes:
            events = min(events, _MOST_PREVIEW_BYTES // preview_bytes)
        return Traffic(events, preview_bytes=preview_bytes)


# With all contenders there are 35 runs in a turn, each of 3 to 4 s with its start, its
# end and the judging: some twelve minutes on two cores that nothing else uses.
_WHOLE = _Plan(
    turns=5,
    previews=(0, 20_000, 90_000),
    rates=(100, 1_000, 5_000),
    rate_seconds=3,
    flood_seconds=1.5,
    soketi=True,
)
_QUICK = _Plan(
    turns=1,
    previews=(0, 20_000),
    rates=(1_000,),
    rate_seconds=2,
    flood_seconds=1.0,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure, print and save.

    Returns:
        0 if all events of all the bridge's runs arrived once and in order, whatever the
        speed; 1 if not, or if a run failed; 2 for wrong options; 130 if it was stopped.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the bridge beside others that read the same events.",
    )
    parser.add_argument("--contenders", **CHOICE)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="once, at one rate and with one size of previews: one or two minutes",
    )
    for option, kind, meaning in (
        ("--events", count, "events of each flood (default: by the contender's pace)"),
        ("--runs", count, "runs of each contender"),
        ("--previews", counts, "lengths of previews, each with floods of its own"),
        ("--rates", counts, "rates at which latency is measured, or 0 for none"),
        ("--seconds", count, "how long a rate is kept up"),
    ):
        parser.add_argument(option, type=kind, metavar="NUMBER", help=meaning)
    options = parser.parse_args(arguments)
    usual = _QUICK if options.quick else _WHOLE
    rates = usual.rates if options.rates is None else options.rates
    plan = replace(
        usual,
        turns=options.runs or usual.turns,
        previews=options.previews or usual.previews,
        rates=[rate for rate in rates if rate],
        rate_seconds=options.seconds or usual.rate_seconds,
        events=options.events,
    )
    return conclude("make bench", lambda: _bench(options.contenders, plan))


def _bench(asked: Sequence[Contender], plan: _Plan) -> int:
    contenders, left_out = able(asked, signing=False)
    for line in left_out:
        say(line)
    if not contenders:
        return 1
    head = "\n".join([heading("Benchmark"), *left_out])
    runs: list[Run] = []
    failures: list[Failure] = []
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder:
        for outcome in _measure(plan, contenders, Path(folder)):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                say(outcome.line)
            else:
                runs.append(outcome)
                say(_line(outcome))
    text = markdown(head, runs, failures)
    sys.stdout.write(f"\n{text}\n")
    save(text, {"runs": [asdict(run) for run in runs], "failures": failures})
    return 0 if flawless(runs, failures) else 1


def _measure(
    plan: _Plan, contenders: Sequence[Contender], folder: Path
) -> Iterator[Run | Failure]:
    with kafka_running() as (kafka, pids):
        with firehose_running(folder) as (firehose, pid):
            servers = Servers(kafka, firehose, folder, (*pids, pid))
            say("warming up")
            events = min(plan.events or _WARM_UP_EVENTS, _WARM_UP_EVENTS)
            measure(servers, CONTENDERS["bridge"], Traffic(events), None)
            for planned in plan.runs(contenders):
                yield _outcome(servers, *planned)
        if plan.soketi:
            signing, _ = able(contenders, signing=True)
            with soketi_running() as (soketi, source):
                servers = Servers(kafka, source, folder, (*pids, soketi.pid))
                for planned in plan.soketi_runs(signing):
                    yield _outcome(servers, *planned)


def _outcome(
    servers: Servers, contender: Contender, traffic: Traffic, rate: float | None
) -> Run | Failure:
    try:
        return measure(servers, contender, traffic, rate)
    except _OUTCOMES as error:
        pace = "in a flood" if rate is None else f"at {rate:g} events/s"
        size = f"of {traffic.frame_bytes:,} bytes from {servers.source.name}"
        reason = str(error).splitlines()[0]
        line = f"{contender.title}: failed {pace} {size}: {reason}"
        return Failure(contender.title, line)


def _line(run: Run) -> str:
    pace = "flood" if run.rate is None else f"{run.rate:g}/s"
    parts = [
        f"{run.contender:<42}{run.source} {pace:<6}",
        f"{run.events_per_second:>9,.0f} events/s",
        f"{run.cpu_us_per_event:>6.1f} us CPU each",
    ]
    if run.latency is not None:
        parts.append(f"p50 {run.latency.p50:.2f} ms, p99 {run.latency.p99:.2f} ms")
    if run.verdict is not None and not run.verdict.flawless:
        parts.append(str(run.verdict))
    return "  ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
