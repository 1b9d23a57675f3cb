"""Whether every job that ended upstream ended in Kafka, and in time.

Pure: what upstream knows, what stands on the topics and when it was seen come in,
findings and figures go out. It imports nothing of the bridge. What gaps tell of their
healing is judged by `healing_ledger`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.fates import AccountTruth, Fate, Span, Step, Truth, after_good_time
from tests.chaos.gaps import ReportedGap
from tests.chaos.healing_ledger import check_ledger
from tests.chaos.heard import Course, Word, check_course, hear
from tests.kit.reader import Record


__all__ = [
    "HealingVerdict",
    "Waiting",
    "judge_healing",
    "settling_seconds",
    "waiting",
]

# The promise: within a minute of recovery, where limits allow.
_PATIENCE_SECONDS = 60.0

_MINUTE = 60.0

# A quarter of the bridge's own share is what silent jobs may be asked for.
_SILENT_SHARE = 4

# As a soak has it: publisher and bridge read the same clock.
_TOLERANCE_SECONDS = 0.05

# Calls that were under way, or not yet on disk, when a bridge was killed.
_CALLS_LOST_BY_A_START = 8


@dataclass
class HealingVerdict:
    """
    What became of the jobs.

    Attributes:
        jobs: How many there were, by how they ended upstream.
        ways: How many ended on the topic, by how the bridge learned of it.
        healed: The same of those that ended within a gap.
        unknown: How many the bridge knew of, and couldn't learn the end of: the limits
            were used up.
        lost: How many began and ended while nobody heard, and had no webhook.
        times: How long after the end of its gap each healed job had ended on the topic.
        used: Of the time that a job was allowed after its end, what was used at most:
            1 is all of it.
        gaps: How many gaps there were, by cause.
        settled: What the gaps tell of their healing: by the status endpoint, by
            webhook, unknown.
        calls: How often the status endpoint was asked, by the answer's status.
        repeats: Records that stand there once more, with the same `ce_id`.
        findings: Everything that is not as it should be, a line each.
    """

    jobs: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    healed: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    lost: int = 0
    times: list[float] = field(default_factory=list)
    used: float = 0.0
    gaps: Counter[str] = field(default_factory=Counter)
    settled: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    findings: list[str] = field(default_factory=list)


def judge_healing(
    truth: Truth,
    records: Sequence[Record],
    seen: Mapping[tuple[int, int], float],
    gaps: Mapping[str, Sequence[ReportedGap]],
) -> HealingVerdict:
    """
    Judge a run.

    Args:
        truth: What upstream knows.
        records: All records of the topic, by partition and offset.
        seen: When a consumer had the record of a partition and an offset.
        gaps: The gaps of each account.
    """
    verdict = HealingVerdict()
    courses, found, verdict.repeats = hear(records, seen)
    verdict.findings += found
    strangers = courses.keys() - {each.client_id for each in truth.accounts}
    verdict.findings += [
        f"records of {each}, which is no account" for each in strangers
    ]
    for account in truth.accounts:
        heard = courses.get(account.client_id, {})
        _judge_account(
            verdict, truth, _Account(account, heard, gaps[account.client_id])
        )
    return verdict


@dataclass(frozen=True)
class Waiting:
    """
    A job that ended upstream and not yet on the topic.

    Attributes:
        request_id: Its name.
        until: Until when it may take.
    """

    request_id: str
    until: float


def waiting(
    truth: Truth,
    records: Sequence[Record],
    seen: Mapping[tuple[int, int], float],
    gaps: Mapping[str, Sequence[ReportedGap]],
) -> list[Waiting]:
    """Give the jobs that must still end on the topic, as `judge_healing` sees it."""
    courses, _, _ = hear(records, seen)
    return [
        Waiting(fate.request_id, account.deadline(truth, end))
        for each in truth.accounts
        for account in (
            _Account(each, courses.get(each.client_id, {}), gaps[each.client_id]),
        )
        for fate in each.fates.values()
        if (end := fate.end) is not None
        and account.end_of(fate) is None
        and account.may_know(fate)
        and not account.may_stay_unknown(end)
    ]


@dataclass(frozen=True)
class _Account:
    """An account, what the topic tells of its jobs, and its gaps."""

    truth: AccountTruth
    courses: Mapping[str, Course]
    gaps: Sequence[ReportedGap]

    @property
    def has_webhooks(self) -> bool:
        return self.truth.retry_waits is not None

    def end_of(self, fate: Fate) -> float | None:
        """Tell when a consumer had a job's terminal record; None if there is none."""
        course = self.courses.get(fate.request_id)
        end = course and course.end
        return end.seen if end else None

    def gap_of(self, end: Step) -> ReportedGap | None:
        """Give the gap in which an end may have been missed, the longest one."""
        begun, ended = end.begun or end.at, end.ended or end.at
        over = [
            gap for gap in self.gaps if gap.covers(begun, ended, _TOLERANCE_SECONDS)
        ]
        return max(over, key=lambda gap: gap.until or 0.0, default=None)

    def may_know(self, fate: Fate) -> bool:
        """Tell whether a bridge that does its work knows of a job."""
        if self.has_webhooks or fate.request_id in self.courses:
            return True
        return any(
            step.taken
            and step.begun is not None
            and step.ended is not None
            and not any(
                gap.until is None
                or gap.covers(step.begun, step.ended, _TOLERANCE_SECONDS)
                for gap in self.gaps
            )
            for step in fate.steps
        )

    def in_flight(self, at: float) -> int:
        """Count the jobs that a bridge knew to be unfinished at a moment."""
        return sum(
            course.first.read <= at and (course.end is None or course.end.seen > at)
            for course in self.courses.values()
        )

    def deadline(self, truth: Truth, end: Step) -> float:
        """Tell until when a job that ended must have ended on the topic."""
        away = [Span(gap.since, gap.until or math.inf) for gap in self.gaps]
        if self.has_webhooks:
            begun = self._told(truth, end)
            return after_good_time(begun, _PATIENCE_SECONDS, away)
        recovered = after_good_time(end.at, 0.0, away)
        limits = self.truth.limits
        share, patience = limits.minute, 0.0
        if self.gap_of(end) is None:
            share, patience = share // _SILENT_SHARE, truth.silent_seconds
        asked = sum(
            recovered - _MINUTE <= call.at <= recovered for call in self.truth.calls
        )
        # In whole minutes: the server's minute begins with a call of its own.
        minutes = math.ceil((asked + self.in_flight(recovered)) / max(1, share))
        patience += max(_PATIENCE_SECONDS, _MINUTE * minutes)
        return after_good_time(end.at, patience, [*away, *truth.status_faults])

    def _told(self, truth: Truth, end: Step) -> float:
        """Tell when the webhook of an end found a bridge."""
        due = end.at
        for wait in self.truth.retry_waits or ():
            if not any(away.begun <= due <= away.ended for away in truth.bridge_away):
                break
            due += wait
        return due

    def may_stay_unknown(self, end: Step) -> bool:
        """Tell whether the calls that could tell of an end were used up."""
        if self.has_webhooks:
            return False
        share = self.truth.limits.day
        # A gap that comes later asks about it with its own jobs.
        if not any((gap.until or math.inf) > end.at for gap in self.gaps):
            share //= _SILENT_SHARE
        # Where the server counts another minute's calls, it is right.
        return len(self.truth.calls) >= share - 1


def settling_seconds(truth: Truth, records: Sequence[Record]) -> float:
    """Tell how long the limits let the gaps of calm accounts take to be settled."""
    courses, _, _ = hear(records, {})
    minutes = [
        sum(course.end is None for course in courses.get(each.client_id, {}).values())
        / max(1, each.limits.minute)
        for each in truth.accounts
    ]
    # The minute that has begun may be used up, and so may be its successor's begin.
    return _MINUTE * (2 + math.ceil(max(minutes)))


def _judge_account(verdict: HealingVerdict, truth: Truth, account: _Account) -> None:
    fates = account.truth.fates
    for request_id, course in account.courses.items():
        fate = fates.get(request_id)
        if fate is None:
            verdict.findings.append(
                f"job {request_id} is at {course.first.place} and never was"
            )
        else:
            verdict.findings += check_course(fate, course)
    for fate in fates.values():
        _judge_fate(verdict, truth, account, fate)
    for gap in account.gaps:
        verdict.gaps[gap.cause] += 1
    verdict.findings += check_ledger(
        fates, account.courses, account.gaps, truth.bridge_away
    )
    for gap in account.gaps:
        if gap.healed is not None and gap.unknown is not None:
            by_endpoint, by_webhook = gap.healed
            verdict.settled["status-endpoint"] += by_endpoint
            verdict.settled["webhook"] += by_webhook
            verdict.settled["unknown"] += gap.unknown
    _judge_calls(verdict, truth, account.truth)
    if account.has_webhooks and account.truth.undelivered:
        verdict.findings.append(
            f"{account.truth.undelivered} webhooks of {account.truth.client_id} never"
            " got 2xx"
        )


def _judge_fate(
    verdict: HealingVerdict, truth: Truth, account: _Account, fate: Fate
) -> None:
    end = fate.end
    verdict.jobs[end.status if end else "running"] += 1
    if end is None:
        return
    gap = account.gap_of(end)
    name = (
        f"job {fate.request_id} of {account.truth.client_id}, {end.status}"
        f" at {end.at:.3f} in {gap or 'no gap'}"
    )
    course = account.courses.get(fate.request_id)
    word = course.end if course else None
    if word is not None:
        allowed = account.deadline(truth, end) - end.at
        for line in _judge_end(verdict, word, gap, word.seen - end.at, allowed):
            verdict.findings.append(f"{name}: {line}")
    elif not account.may_know(fate):
        verdict.lost += 1
    elif account.may_stay_unknown(end):
        verdict.unknown += 1
    elif course is None:
        verdict.findings.append(f"{name}: lost, though it was told of")
    else:
        verdict.findings.append(f"{name}: it never ended on the topic")


def _judge_end(
    verdict: HealingVerdict,
    word: Word,
    gap: ReportedGap | None,
    took: float,
    allowed: float,
) -> Iterable[str]:
    """Count how an end was learned of; say whether it took longer than allowed."""
    verdict.ways[word.origin] += 1
    if word.origin == "socket":
        return
    if gap is not None:
        verdict.healed[word.origin] += 1
        verdict.times.append(max(0.0, word.seen - (gap.until or math.inf)))
    verdict.used = max(verdict.used, took / allowed)
    if took > allowed:
        yield (
            f"on the topic {took:.1f} s later by {word.origin}, {took - allowed:.1f} s"
            " too late"
        )


def _judge_calls(verdict: HealingVerdict, truth: Truth, account: AccountTruth) -> None:
    """The bridge leaves the owner's share, and is never refused."""
    calls = [call for call in account.calls if call.code < 500]
    verdict.calls.update(str(call.code) for call in account.calls)
    refused = sum(call.code == 429 for call in calls)
    if refused:
        verdict.findings.append(f"{account.client_id} was refused {refused} calls")
    slack = _CALLS_LOST_BY_A_START * (truth.starts - 1)
    if len(calls) > account.limits.day + slack:
        verdict.findings.append(
            f"{account.client_id} asked {len(calls)} times, of {account.limits.day:g}"
        )
    most = _most_in_a_window([call.at for call in calls])
    if most > account.limits.minute + slack:
        verdict.findings.append(
            f"{account.client_id} asked {most} times in a minute, of"
            f" {account.limits.minute}"
        )


def _most_in_a_window(calls: Sequence[float]) -> int:
    """Count as the server does: a minute begins with a call, and then the next one."""
    most, count, ends = 0, 0, -math.inf
    for at in sorted(calls):
        if at >= ends:
            count, ends = 0, at + _MINUTE
        count += 1
        most = max(most, count)
    return most
