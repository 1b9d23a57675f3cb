"""Whether what gaps tell of their healing is what upstream and the topic know.

Pure. What happened around the edges of a gap may be counted or not, for nobody knows
which of two clocks was read first: so each number lies between what must be counted
and what may be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.fates import Fate, Span
from tests.chaos.gaps import ReportedGap
from tests.chaos.heard import Course


__all__ = ["check_ledger"]

_TOLERANCE_SECONDS = 0.1


@dataclass
class _Bounds:
    """What must be counted, and what may be."""

    least: int = 0
    most: int = 0

    def count(self, *, must: bool, may: bool) -> None:
        self.least += must
        self.most += must or may

    def holds(self, number: int) -> bool:
        return self.least <= number <= self.most

    def __str__(self) -> str:
        if self.least == self.most:
            return str(self.least)
        return f"{self.least} to {self.most}"


def check_ledger(
    fates: Mapping[str, Fate],
    courses: Mapping[str, Course],
    gaps: Sequence[ReportedGap],
    bridge_away: Sequence[Span],
) -> Iterable[str]:
    """
    Say what is wrong with what the gaps of one account tell.

    Args:
        fates: Its jobs upstream.
        courses: Its jobs on the topic.
        gaps: Its gaps.
        bridge_away: When no bridge ran.
    """
    jobs = [
        _Job(fates[request_id], course)
        for request_id, course in courses.items()
        if request_id in fates
    ]
    for gap in gaps:
        if gap.until is None:
            yield f"never closed: {gap}"
        elif gap.healed is None or gap.unknown is None:
            yield f"never settled: {gap}"
        else:
            # A process knows no gap that was settled before it began.
            later = [each.begun for each in bridge_away if each.begun > gap.until]
            forgotten = min(later, default=math.inf)
            yield from _check_gap(gap, gap.until, forgotten, jobs)


@dataclass(frozen=True)
class _Job:
    fate: Fate
    course: Course

    def was_known(self, gap: ReportedGap) -> tuple[bool, bool]:
        """Tell whether it must, and may, have been in flight when a gap opened."""
        first, end = self.course.first, self.course.end
        must = first.seen <= gap.opened and (end is None or end.read > gap.opened)
        may = first.read <= gap.opened + _TOLERANCE_SECONDS and (
            end is None or end.seen >= gap.opened - _TOLERANCE_SECONDS
        )
        return must, may

    def ended_in(self, gap: ReportedGap, until: float) -> tuple[bool, bool]:
        """Tell whether it must, and may, have ended upstream within a gap."""
        end = self.fate.end
        if end is None:
            return False, False
        must = gap.since + _TOLERANCE_SECONDS < end.at < until - _TOLERANCE_SECONDS
        may = gap.since - _TOLERANCE_SECONDS < end.at < until + _TOLERANCE_SECONDS
        return must, may

    def heard_after(self, until: float) -> bool:
        """Tell whether anything but its end was heard of it after a gap."""
        return self.course.last_heard > until + _TOLERANCE_SECONDS


def _check_gap(
    gap: ReportedGap, until: float, forgotten: float, jobs: Sequence[_Job]
) -> Iterable[str]:
    in_flight, by_endpoint, by_webhook, unknown, went_on = (_Bounds() for _ in range(5))
    strangers = 0
    for job in jobs:
        must_know, may_know = job.was_known(gap)
        in_flight.count(must=must_know, may=may_know)
        must_end, may_end = job.ended_in(gap, until)
        end = job.course.end
        later = job.heard_after(until)
        if end is None:
            unknown.count(must=must_know and must_end, may=not later)
            went_on.count(must=False, may=may_know)
        else:
            after = end.seen >= gap.since
            # Heard of before the gap was over, so that the gap may have swallowed it.
            may = after and not later
            if end.origin == "status-endpoint":
                by_endpoint.count(must=must_know and must_end, may=may)
                strangers += may and not must_know
            elif end.origin == "webhook":
                in_it = must_end and gap.opened < end.read and end.seen < forgotten
                may_count = after and (may_end or not later)
                by_webhook.count(must=in_it, may=may_count)
                strangers += may_count and not must_know
            went_on.count(
                must=must_know and end.origin == "socket" and end.read > until,
                may=may_know,
            )
    assert gap.healed is not None
    assert gap.unknown is not None
    told = [
        ("healed by the status endpoint", by_endpoint, gap.healed[0]),
        ("healed by webhook", by_webhook, gap.healed[1]),
        ("unknown", unknown, gap.unknown),
    ]
    if gap.jobs_in_flight is not None:
        told.append(("in flight", in_flight, gap.jobs_in_flight))
        rest = gap.jobs_in_flight - sum(gap.healed) - gap.unknown
        # Those that a gap met when it had opened were not in flight then.
        went_on.least -= strangers
        told.append(("went on", went_on, rest))
    for what, bounds, number in told:
        if not bounds.holds(number):
            yield f"{gap}: {number} {what}, and it must be {bounds}"
