"""The command line of `make bench-growth`: options, order of runs, files, exit code."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.amounts import count
from benchmarks.contenders import ROOT
from benchmarks.course import Course, RunError
from benchmarks.growth import runs
from benchmarks.growth.axes import AXES, Axis, Point
from benchmarks.growth.figures import Growth
from benchmarks.growth.pending import filled
from benchmarks.growth.report import markdown
from benchmarks.machine import describe
from benchmarks.orders import OrderError
from benchmarks.saving import keep
from benchmarks.telling import say
from tests.kit.broker import BrokerError, KafkaBroker
from tests.kit.downloads import FetchError
from tests.kit.kafka import KafkaServer
from tests.kit.process import PortTakenError, ProcessError


__all__ = ["Plan", "main", "plan_of"]

_EXPECTED = (
    BrokerError,
    FetchError,
    OrderError,
    PortTakenError,
    ProcessError,
    RunError,
)

# With these one run may end, and leave the servers as they were.
_OUTCOMES = (OrderError, ProcessError, RunError)

_RESULTS = ROOT / "benchmarks" / "results"

_WARM_UP_EVENTS = 20_000


@dataclass(frozen=True)
class Plan:
    """
    What is measured.

    Attributes:
        axes: Along which axes, and at which sizes.
        turns: How often at each size.
        flood_events: Events of a flood of small ones.
        rate_seconds: How long 1,000 events/s are kept up.
        payload_seconds: How long a flood of one size about takes.
        rows: How many rows are accepted on top of those that wait, and drained.
    """

    axes: Sequence[Axis]
    turns: int
    flood_events: int
    rate_seconds: int
    payload_seconds: float
    rows: int

    def order(self, axis: Axis) -> Iterator[int]:
        """Give an axis' sizes turn by turn, another one first each time: it drifts."""
        for turn in range(self.turns):
            place = turn % len(axis.values)
            yield from [*axis.values[place:], *axis.values[:place]]


# Twelve to fifteen minutes on two cores that nobody else uses.
_WHOLE = Plan((), 3, 100_000, 3, 1.5, 100_000)
_QUICK = Plan((), 1, 20_000, 2, 0.5, 20_000)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure, print and save.

    Returns:
        0 if every event of every run arrived once and in order, whatever it cost; 1
        if not, or if a run failed; 130 when it was interrupted.
    """
    plan = plan_of(arguments)
    # As Ctrl-C: the servers have to be ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine = describe(own_kafka=True)
    points: list[Point] = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
            KafkaServer() as kafka,
        ):
            for point in _measure(plan, kafka, kafka.pids, Path(folder)):
                points.append(point)
                say(_line(point))
    except _EXPECTED as error:
        say(f"make bench-growth: {error}")
        return 1
    except KeyboardInterrupt:
        say("make bench-growth: stopped before the report")
        return 130
    now = datetime.now(UTC)
    growth = Growth(f"{now.day} {now:%B %Y}", machine, points)
    sys.stdout.write(f"\n{markdown(growth)}\n")
    _save(growth, now)
    return 0 if growth.flawless else 1


def plan_of(arguments: Sequence[str] | None) -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description="Measure what an event costs as the bridge's load grows.",
    )
    parser.add_argument(
        "--axes",
        type=_axes,
        default=list(AXES.values()),
        metavar="NAME,...",
        help=f"some of {', '.join(AXES)} (default: all)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="once, at two sizes: about two minutes"
    )
    parser.add_argument("--turns", type=count, help="runs at each size (default: 3)")
    parser.add_argument(
        "--pending",
        type=count,
        help="the largest number of rows that wait; 10,000,000 of them take 2.4 GB"
        " and two minutes to fill",
    )
    options = parser.parse_args(arguments)
    usual = _QUICK if options.quick else _WHOLE
    axes = [
        replace(axis, values=axis.quick if options.quick else axis.values)
        for axis in options.axes
    ]
    if options.pending is not None:
        axes = [_up_to(axis, options.pending) for axis in axes]
    return replace(usual, axes=axes, turns=options.turns or usual.turns)


def _up_to(axis: Axis, most: int) -> Axis:
    if axis.name != "pending":
        return axis
    below = [value for value in axis.values if value < most]
    return replace(axis, values=[*below, most])


def _axes(text: str) -> list[Axis]:
    names = text.split(",")
    for name in names:
        if name not in AXES:
            raise argparse.ArgumentTypeError(
                f"no axis {name!r}; there are {', '.join(AXES)}"
            )
    # In the usual order: outboxes are filled last, and the disk is quiet before.
    return [axis for name, axis in AXES.items() if name in names]


def _measure(
    plan: Plan, kafka: KafkaBroker, pids: tuple[int, ...], folder: Path
) -> Iterator[Point]:
    amounts = runs.Amounts(plan.flood_events, plan.rate_seconds, plan.payload_seconds)
    course = Course(kafka, pids, folder)
    with course.open():
        say("warming up")
        runs.warm_up(course, _WARM_UP_EVENTS)
        for axis in plan.axes:
            if axis.name != "pending":
                for value in plan.order(axis):
                    measure = partial(runs.point, course, axis.name, value, amounts)
                    yield _outcome(axis, value, measure)
    for axis in plan.axes:
        if axis.name == "pending":
            outboxes = filled(kafka, folder, axis.values, plan.rows, say)
            with outboxes as ready:
                for value in plan.order(axis):
                    yield _outcome(axis, value, partial(ready.point, value))


def _outcome(axis: Axis, value: int, measure: Callable[[], Point]) -> Point:
    """Measure once; a run that fails is told in the report, and others go on."""
    try:
        return measure()
    except _OUTCOMES as error:
        return Point(axis.name, value, {}, f"failed: {str(error).splitlines()[0]}")


def _line(point: Point) -> str:
    shown = {
        "events_per_second": "{:,.0f} events/s",
        "flood_us": "{:,.1f} us each",
        "rate_us": "{:,.0f} us each at 1,000/s",
        "accept_us": "{:,.1f} us to accept one",
        "drain_us": "{:,.1f} us to drain one",
        "open_seconds": "opens in {:.2f} s",
    }
    parts = [
        text.format(point.figures[name])
        for name, text in shown.items()
        if name in point.figures
    ]
    if point.flaws:
        parts.append(point.flaws)
    return f"{point.axis:<12}{point.value:>12,}  {'  '.join(parts)}"


def _save(growth: Growth, now: datetime) -> None:
    _RESULTS.mkdir(exist_ok=True)
    stem = f"growth-{now:%Y-%m-%dT%H-%M-%SZ}"
    for suffix, text in ((".json", growth.json()), (".md", markdown(growth))):
        keep(_RESULTS / f"{stem}{suffix}", text)


if __name__ == "__main__":
    sys.exit(main())
