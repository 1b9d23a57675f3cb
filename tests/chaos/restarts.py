"""`make restarts`: soketi is ended and started again and again, under load.

Owns the course and what must be true of it beyond a soak's verdict: how fast the
bridge is back, how often it connects, one gap a restart, and that nothing grows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

import trio

from tests.chaos.fault_log import Fault
from tests.chaos.gaps import ReportedGap
from tests.chaos.soak import Course, Outcome, Place
from tests.chaos.soak_faults import restart_soketi
from tests.chaos.stage import Options
from tests.chaos.vitals import Life, lives


__all__ = [
    "Return",
    "growth",
    "most_connects",
    "restarts",
    "returns",
    "shortcomings",
    "summary",
]

# The promise is of outages below half a minute: for so long no wait is longer.
_SHORT_OUTAGE_SECONDS = 30.0
_BACK_SECONDS = 2.0

# `pusher.backoff_max_seconds`, and what a connect takes.
_BACK_LATE_SECONDS = 32.0

_MOST_CONNECTS = 10
_WINDOW_SECONDS = 10.0

# Two loops' sockets and a pool's threads come and go.
_FEW = 4

# Python's allocator gives memory back by the MiB. Fifty restarts of a leak that
# matters, a connection's buffers of 256 KiB, would be 12 MiB.
_FLAT_BYTES = 12 * 2**20

# Most outages are a crash and its restart; some last as long as a deployment. The
# time up varies around `pusher.stable_after_seconds`, by which waits begin anew.
_DOWN_SECONDS = ((0.0, 8.0), (8.0, 35.0))
_UP_SECONDS = ((0.5, 6.0), (25.0, 35.0))
_RARE = (7, 1)

# A connection that was lost behind the bridge's back is noticed by then: activity
# and pong timeout.
_UNSEEN_SECONDS = 40.0

_SUBSCRIBED_SECONDS = 60.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Return:
    """
    One restart, and the gap that tells of it.

    Attributes:
        outage_seconds: From soketi's end to when it accepted connections.
        back_seconds: From then to the bridge's subscription.
    """

    outage_seconds: float
    back_seconds: float


async def restarts(
    times: int, place: Place, options: Options, say: Callable[[str], None]
) -> Outcome:
    """Restart soketi so many times, and judge what is on the topics."""
    course = Course("restarts", place, options, say)
    random = Random(options.seed)
    try:
        async with course.running():
            # Warm, so that growth is growth.
            await trio.sleep(_uniform(random, _UP_SECONDS))
            for _ in range(times):
                how = random.choice(("terminated", "killed"))
                down_seconds = _uniform(random, _DOWN_SECONDS)
                before = await _subscriptions(course)
                fault = await restart_soketi(
                    place.soketi, course.log, how, down_seconds
                )
                with trio.fail_after(_SUBSCRIBED_SECONDS):
                    # Another process changes what is looked at.
                    while await _subscriptions(course) == before:  # noqa: ASYNC110
                        await trio.sleep(_LOOK_SECONDS)
                course.tell(f"subscribed; soketi was up after {_outage(fault):.1f} s")
                await trio.sleep(_uniform(random, _UP_SECONDS))
            await course.finish()
        outcome = await course.judge()
    finally:
        course.stage.bridge.kill()
    outcome.verdict.findings += shortcomings(outcome)
    return outcome


async def _subscriptions(course: Course) -> int:
    numbers = await course.stage.bridge.metrics()
    return numbers.total("bridge_connects_total", outcome="subscribed")


def _uniform(random: Random, ranges: Sequence[tuple[float, float]]) -> float:
    (chosen,) = random.choices(ranges, _RARE)
    return random.uniform(*chosen)


def _outage(fault: Fault) -> float:
    assert fault.up is not None
    return fault.up - fault.begun


# -- The judgement --------------------------------------------------------


def returns(
    faults: Sequence[Fault], gaps: Sequence[ReportedGap]
) -> list[tuple[Fault, list[ReportedGap]]]:
    """Give each of soketi's restarts the gaps that lie over it."""
    found = []
    for fault in faults:
        if fault.up is None:
            continue
        over = [
            gap
            for gap in gaps
            if gap.until is not None
            and gap.since <= fault.up
            and gap.until >= fault.begun
            and gap.cause != "first_start"
        ]
        found.append((fault, over))
    return found


def back(fault: Fault, gap: ReportedGap) -> Return:
    """Tell how long after soketi the bridge was back."""
    assert fault.up is not None
    assert gap.until is not None
    return Return(_outage(fault), gap.until - fault.up)


def _alone(fault: Fault, gap: ReportedGap, faults: Sequence[Fault]) -> bool:
    """Tell whether nothing else happened between soketi's end and the return."""
    assert gap.until is not None
    until = gap.until

    def touches(other: Fault) -> bool:
        lingers = _UNSEEN_SECONDS if other.kind == "cable lost" else 0.0
        ended = float("inf") if other.ended is None else other.ended + lingers
        return other.begun <= until and ended >= fault.begun

    return not any(
        touches(other)
        for other in faults
        # Kafka is no part of the session.
        if other is not fault and not other.kind.startswith("kafka")
    )


def most_connects(accepts: Sequence[float]) -> int:
    """Give the most connections within any ten seconds."""
    most, first = 0, 0
    for last, accepted in enumerate(accepts):
        while accepted - accepts[first] >= _WINDOW_SECONDS:
            first += 1
        most = max(most, last - first + 1)
    return most


def shortcomings(outcome: Outcome) -> list[str]:
    """Say what is not as it should be, beyond the verdict on events and gaps."""
    found = []
    for number, (fault, over) in enumerate(returns(outcome.faults, outcome.gaps), 1):
        if len(over) != 1:
            names = ", ".join(map(str, over)) or "none"
            found.append(
                f"restart {number} ({fault.kind}) has {len(over)} gaps: {names}"
            )
            continue
        course = back(fault, over[0])
        short = course.outage_seconds < _SHORT_OUTAGE_SECONDS
        if course.back_seconds > (_BACK_SECONDS if short else _BACK_LATE_SECONDS):
            found.append(
                f"restart {number} ({fault.kind}): subscribed {course.back_seconds:.2f}"
                f" s after soketi was up, after {course.outage_seconds:.1f} s"
            )
    connects = most_connects(outcome.accepts)
    if connects > _MOST_CONNECTS:
        found.append(f"{connects} connects within {_WINDOW_SECONDS:g} s")
    of_bridge = lives(outcome.looks)
    for life in of_bridge:
        found += growth(life)
    if len(of_bridge) > 1:
        found.append(f"the bridge has lived {len(of_bridge)} times")
    return found


def growth(life: Life, *, few: int = _FEW, flat_bytes: int = _FLAT_BYTES) -> list[str]:
    """
    Say what a life has more of at its end than when it was warm.

    Args:
        life: The life.
        few: How many more descriptors, threads and tasks are none.
        flat_bytes: How much more memory is none.
    """
    first, last = life.first, life.last
    found = []
    if last.descriptors > first.descriptors + few:
        found.append(f"descriptors: {first.descriptors}, then {last.descriptors}")
    if last.threads > first.threads + few:
        found.append(f"threads: {first.threads}, then {last.threads}")
    # A look that got no answer tells nothing.
    fewest = last.tasks if first.tasks is None else first.tasks
    if last.tasks is not None and fewest is not None and last.tasks > fewest + few:
        found.append(f"tasks: {fewest}, then {last.tasks}")
    if last.rss_bytes > first.rss_bytes + flat_bytes:
        grown = (last.rss_bytes - first.rss_bytes) / 2**20
        found.append(f"memory grew by {grown:.1f} MiB in {life.seconds:.0f} s")
    return found


def summary(outcome: Outcome) -> list[str]:
    """Say in figures how fast it was back, where nothing else happened meanwhile."""
    found = [
        back(fault, over[0])
        for fault, over in returns(outcome.faults, outcome.gaps)
        if len(over) == 1 and _alone(fault, over[0], outcome.faults)
    ]
    lines = [
        f"most connects within {_WINDOW_SECONDS:g} s: {most_connects(outcome.accepts)}"
    ]
    for name, chosen in (
        ("below 30 s", [r for r in found if r.outage_seconds < _SHORT_OUTAGE_SECONDS]),
        ("longer", [r for r in found if r.outage_seconds >= _SHORT_OUTAGE_SECONDS]),
    ):
        if chosen:
            times = [each.back_seconds for each in chosen]
            lines.append(
                f"outages {name}: {len(chosen)}, subscribed after soketi was up within"
                f" {median(times):.2f} s (median), {max(times):.2f} s (longest)"
            )
    return lines
