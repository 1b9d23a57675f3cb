"""
Growth along the axes that a flood and a trickle show: accounts, partitions, size.

Owns which events a size has and what of a run becomes a point. The runs themselves are
`course`'s.
"""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.contenders import BRIDGE, Contender
from benchmarks.course import Course, Run
from benchmarks.growth.accounts import ManyAccounts
from benchmarks.growth.axes import PARTITIONS, Point
from benchmarks.line_up import LINE_UP
from benchmarks.traffic import Traffic, frame_of


__all__ = ["Amounts", "point", "warm_up"]

_RATE = 1_000

# What the benchmark and the firehose keep of previews in memory is four times as much.
_MOST_PREVIEW_BYTES = 150_000_000


class Amounts:
    """
    How much each run is given to do.

    Args:
        flood_events: Events of a flood of small ones.
        rate_seconds: How long 1,000 events/s are kept up.
        payload_seconds: How long a flood of one size about takes.
    """

    def __init__(
        self, flood_events: int, rate_seconds: int, payload_seconds: float
    ) -> None:
        self.flood_events = flood_events
        self.rate_seconds = rate_seconds
        self._payload_seconds = payload_seconds

    def large(self, preview_bytes: int) -> int:
        """Give how many events with such a preview a flood has."""
        events = LINE_UP["bridge"].events(preview_bytes, self._payload_seconds)
        return min(events, _MOST_PREVIEW_BYTES // max(preview_bytes, 1))


def point(course: Course, axis: str, value: int, amounts: Amounts) -> Point:
    """
    Measure at one size.

    Args:
        course: On which, open.
        axis: The axis' name: sessions, partitions or payload.
        value: The size.
        amounts: How much to do.

    Raises:
        RunError: A process ended in the middle.
        ProcessError: A process didn't start.
        OrderError: The firehose failed.
        BrokerError: The broker refused a topic.
    """
    if axis == "payload":
        traffic = Traffic(amounts.large(value), preview_bytes=value)
        return _point(axis, value, _run(course, BRIDGE, traffic, None))
    contender: Contender = BRIDGE
    accounts, events = 1, amounts.flood_events
    if axis == "sessions":
        contender, accounts = ManyAccounts(), value
    else:
        course.partitions = value
    try:
        flood = Traffic(events, accounts=accounts)
        trickle = Traffic(_RATE * amounts.rate_seconds, accounts=accounts)
        return _point(
            axis,
            value,
            _run(course, contender, flood, None),
            _run(course, contender, trickle, _RATE),
        )
    finally:
        course.partitions = PARTITIONS


def warm_up(course: Course, events: int) -> None:
    """Have the broker do what it is going to do."""
    course.run(BRIDGE, Traffic(events), None)


def _run(
    course: Course, contender: Contender, traffic: Traffic, rate: float | None
) -> Run:
    return course.run(contender, traffic, rate)


def _point(axis: str, value: int, flood: Run, trickle: Run | None = None) -> Point:
    figures = {
        "events": flood.traffic.events,
        "event_bytes": len(frame_of(flood.traffic.payload(0))),
        "events_per_second": flood.events_per_second,
        "flood_us": flood.cpu_us_per_event,
        "rest_bytes": flood.usage.rest_bytes,
        "peak_bytes": flood.usage.peak_bytes,
        "start_seconds": flood.start_seconds,
        "written_share": flood.written_seconds
        * flood.events_per_second
        / flood.traffic.events,
        "others_cores": flood.usage.others_cores,
    }
    runs = [flood]
    if trickle is not None:
        runs.append(trickle)
        figures["rate_us"] = trickle.cpu_us_per_event
        if trickle.latency is not None:
            figures["p50_ms"] = trickle.latency.p50
            figures["p99_ms"] = trickle.latency.p99
    flaws = {
        name: count
        for run in runs
        if run.verdict is not None
        for name, count in asdict(run.verdict).items()
        if count
    }
    told = ", ".join(f"{name} {count:,}" for name, count in flaws.items())
    return Point(axis, value, figures, told)
