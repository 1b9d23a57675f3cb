"""The command line of `make bench`: options, order of runs, files, exit code."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks import receiving
from benchmarks.amounts import count, counts
from benchmarks.contenders import BRIDGE, FLOOR, Contender
from benchmarks.course import Course, Run, RunError
from benchmarks.line_up import LINE_UP, PEERS, Entry, Plan, chosen, standing
from benchmarks.machine import describe
from benchmarks.orders import OrderError
from benchmarks.receiving import ReceivingError
from benchmarks.receiving_report import Reception
from benchmarks.report import Failure, Report
from benchmarks.saving import save
from benchmarks.soketi import SoketiSource
from benchmarks.telling import say
from benchmarks.traffic import CLIENT_ID, Traffic
from benchmarks.upstream import FIREHOSE, SOKETI
from tests.kit.broker import BrokerError, KafkaBroker, existing_kafka
from tests.kit.cache import FetchError
from tests.kit.dryapi import DryApi
from tests.kit.kafka import KafkaServer
from tests.kit.npm import SOKETI_VERSION, fetch_soketi
from tests.kit.process import PortTakenError, ProcessError
from tests.kit.soketi import SoketiServer


_EXPECTED = (
    BrokerError,
    FetchError,
    OrderError,
    PortTakenError,
    ProcessError,
    ReceivingError,
    RunError,
)

# With these a run of a peer may end: what it lacks is a finding.
_OUTCOMES = (OrderError, ProcessError, RunError)

# Enough to fill caches and to let the broker's compiler do its work.
_WARM_UP_EVENTS = 20_000

# With everybody there are 32 runs in a turn, each of 3 to 4 s with its start, its end
# and the judging: about ten minutes on two cores that nobody else uses.
_WHOLE = Plan(
    turns=5,
    previews=(0, 20_000, 90_000),
    rates=(100, 1_000, 5_000),
    rate_seconds=3,
    flood_seconds=1.5,
    soketi=True,
)
_QUICK = Plan(
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
        0 if all events of all the bridge's runs arrived once and in order, whatever
        the speed; 1 if not, or if a run failed; 2 for wrong options; 128 and the
        signal's number when it was stopped.
    """
    options = _options(arguments)
    signal.signal(signal.SIGTERM, _exit)
    plan = _plan(options)
    entries, skipped = standing(options.contenders)
    if plan.soketi and (obstacle := _soketi_obstacle()) is not None:
        plan = replace(plan, soketi=False)
        skipped["a real soketi"] = obstacle
    for name, reason in skipped.items():
        say(f"left out: {name}: {reason}")
    if not entries:
        say("make bench: nobody of those can run here")
        return 1
    more = {"soketi": SOKETI_VERSION} if plan.soketi else {}
    for entry in entries:
        more |= entry.contender.versions()
    machine = describe(own_kafka=existing_kafka() is None, more=more)
    runs: list[Run] = []
    failures: list[Failure] = []
    try:
        receptions = _receptions() if options.parts else ()
        with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder:
            for outcome in _measure(plan, entries, Path(folder)):
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                    say(f"{outcome.contender:<36}{outcome.reason}")
                else:
                    runs.append(outcome)
                    say(_line(outcome))
    except _EXPECTED as error:
        say(f"make bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("make bench: stopped before the report")
        return 130
    names = FLOOR.name, BRIDGE.name
    report = Report(machine, *names, runs, receptions, PEERS, failures, skipped)
    sys.stdout.write(f"\n{report.markdown()}\n")
    for file in save(report):
        say(f"saved {file}")
    return 0 if report.flawless else 1


def _receptions() -> Sequence[Reception]:
    """Measure what takes no server; best before servers are about."""
    say("what receiving costs")
    return receiving.measure()


def _exit(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the bridge beside others that read the same events.",
    )
    parser.add_argument(
        "--contenders",
        type=_contenders,
        default=chosen(None),
        metavar="NAME,...",
        help=f"who runs: all, or some of {', '.join(LINE_UP)} (default: all but"
        f" {', '.join(name for name, entry in LINE_UP.items() if entry.asked_for)})",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="once, at one rate and with one size of previews: about a minute",
    )
    parser.add_argument(
        "--parts",
        action="store_true",
        help="also what receiving costs, without any server",
    )
    for option, kind, meaning in _AMOUNTS:
        parser.add_argument(option, type=kind, metavar="NUMBER", help=meaning)
    return parser.parse_args(arguments)


# Without a number a whole and a quick benchmark have their own.
_AMOUNTS = (
    ("--events", count, "events of each flood (default: by the contender's pace)"),
    ("--runs", count, "runs of each contender"),
    ("--previews", counts, "lengths of previews, each with floods of its own"),
    ("--rates", counts, "rates at which latency is measured, or 0 for none"),
    ("--seconds", count, "how long a rate is kept up"),
)


def _plan(options: argparse.Namespace) -> Plan:
    """Take what was asked for, and the rest from what is usual."""
    usual = _QUICK if options.quick else _WHOLE
    rates = usual.rates if options.rates is None else options.rates
    return Plan(
        turns=options.runs or usual.turns,
        previews=options.previews or usual.previews,
        rates=[rate for rate in rates if rate],
        rate_seconds=options.seconds or usual.rate_seconds,
        flood_seconds=usual.flood_seconds,
        events=options.events,
        soketi=usual.soketi,
    )


def _contenders(text: str) -> list[Entry]:
    try:
        return chosen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _measure(
    plan: Plan, entries: Sequence[Entry], folder: Path
) -> Iterator[Run | Failure]:
    with _kafka() as (kafka, pids):
        course = Course(kafka, pids, folder)
        with course.open():
            _warm_up(
                course, entries, min(plan.events or _WARM_UP_EVENTS, _WARM_UP_EVENTS)
            )
            for contender, traffic, rate in plan.runs(entries):
                yield _outcome(course, contender, traffic, rate)
        against_soketi = list(plan.soketi_runs(entries))
        if against_soketi:
            with _soketi(course):
                for contender, traffic, rate in against_soketi:
                    yield _from_soketi(course, contender, traffic, rate)


def _outcome(
    course: Course, contender: Contender, traffic: Traffic, rate: float | None
) -> Run | Failure:
    try:
        return course.run(contender, traffic, rate)
    except _OUTCOMES as error:
        if contender.name not in PEERS:
            raise
        return Failure(contender.name, traffic, rate, str(error))


def _from_soketi(
    course: Course, contender: Contender, traffic: Traffic, rate: float | None
) -> Run | Failure:
    """Run; it comes last, and whoever fails here must not spoil the whole report."""
    try:
        return replace(course.run(contender, traffic, rate), source=SOKETI)
    except _OUTCOMES as error:
        return Failure(contender.name, traffic, rate, str(error), SOKETI)


def _soketi_obstacle() -> str | None:
    """Say what keeps soketi from being started."""
    try:
        fetch_soketi()
    except FetchError as error:
        return str(error)
    return None


@contextmanager
def _soketi(course: Course) -> Iterator[None]:
    """Let events come from a real soketi."""
    with (
        SoketiServer() as soketi,
        # The token that every contender is given.
        DryApi(soketi, {CLIENT_ID: "any"}).serving() as dryapi,
        course.reading(SoketiSource(soketi, dryapi.url), soketi.pid),
    ):
        yield


def _warm_up(course: Course, entries: Sequence[Entry], events: int) -> None:
    """Have the broker do what it is going to do."""
    say("warming up")
    for entry in entries:
        if entry.contender.publishes:
            course.run(entry.contender, Traffic(events), None)
            return


@contextmanager
def _kafka() -> Iterator[tuple[KafkaBroker, tuple[int, ...]]]:
    existing = existing_kafka()
    if existing is not None:
        existing.check()
        yield existing, ()
    else:
        with KafkaServer() as server:
            yield server, server.pids


def _line(run: Run) -> str:
    rate = "flood" if run.rate is None else f"{run.rate:g}/s"
    rate = rate if run.source == FIREHOSE else f"{run.source} {rate}"
    parts = [
        f"{run.contender:<36}{rate:>14}",
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
