"""Whether every job that ended upstream ended in Kafka, in time, and gaps say so.

Pure: what upstream knows, what is on the topics and when it was seen come in, findings
and figures go out. It imports nothing of the bridge.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.chaos.truth import (
    TERMINAL,
    AccountTruth,
    Span,
    Step,
    Truth,
    UpstreamJob,
    after_good_time,
)
from tests.chaos.verdict import Verdict
from tests.kit.gap_judge import Gap
from tests.kit.reader import Record


# The promise: within a minute of recovery, where limits allow.
_PROMISED_SECONDS = 60.0

_MINUTE = 60.0

# A quarter of the bridge's own share is what stale jobs may be asked for.
_STALE_SHARE = 4

# Publisher and bridge read the same clock, as in a soak.
_TOLERANCE_SECONDS = 0.05

# Of a gap's edges: which of two clocks was read first is not known.
_EDGE_SECONDS = 0.1

# Calls that were under way, or not yet on disk, when a bridge was killed.
_CALLS_LOST_BY_A_START = 8


# -- What the topic says of each job --------------------------------------


@dataclass(frozen=True)
class _Entry:
    """One record of a job; times are seconds since the epoch."""

    status: str
    origin: str
    read: float  # when the bridge learned of it
    seen: float  # when a consumer had it
    place: str
    value: Mapping[str, Any]


class _Published(list[_Entry]):
    """All records of a job by offset, without repeats."""

    @property
    def end(self) -> _Entry | None:
        """The first terminal one; None without any."""
        return next((each for each in self if each.status in TERMINAL), None)

    def in_flight(self, at: float) -> bool:
        """Whether a bridge knew it to be unfinished at a moment."""
        return self[0].read <= at and (self.end is None or self.end.seen > at)

    @property
    def last_read(self) -> float:
        """When anything but its end was learned last; minus infinity if never."""
        before = [each.read for each in self if each.status not in TERMINAL]
        return max(before, default=-math.inf)


_Seen: TypeAlias = Mapping[tuple[int, int], float]
_Figures: TypeAlias = defaultdict[str, Counter[str]]


def _published(
    records: Sequence[Record], seen: _Seen
) -> dict[str, dict[str, _Published]]:
    """Give each account's jobs; what no consumer has seen is seen at infinity."""
    jobs: dict[str, dict[str, _Published]] = defaultdict(
        lambda: defaultdict(_Published)
    )
    identities = set()
    for record in records:
        if record.headers["ce_id"] in identities:
            continue
        identities.add(record.headers["ce_id"])
        value = json.loads(record.value or b"")
        account = record.headers["ce_source"].decode().rpartition("/")[2]
        entry = _Entry(
            value["status"],
            record.headers["bridge_origin"].decode(),
            record.timestamp / 1000,
            seen.get((record.partition, record.offset), math.inf),
            f"{record.partition}/{record.offset}",
            value,
        )
        jobs[account][value["request_id"]].append(entry)
    return jobs


def _check_entries(job: UpstreamJob, entries: _Published) -> Iterable[str]:
    """Say what is wrong with a job's records beside what it was upstream."""
    name, end, word = f"job {job.request_id}", job.end, entries.end
    if word is not None:
        if end is None:
            yield f"{name}: {word.status} at {word.place}, and it runs"
        elif end.status != word.status:
            yield f"{name}: {word.status} at {word.place}, and it is {end.status}"
        elif word.origin == "webhook":
            code = word.value.get("error_code")
            if code != job.error_code:
                yield (
                    f"{name}: error_code {code!r} at {word.place}, and it is"
                    f" {job.error_code!r}"
                )
    steps = iter(job.steps)
    for entry in entries:
        if entry.origin != "socket":
            continue
        event = entry.status, entry.value["progress"]
        # A subsequence: each one is behind the one before.
        if not any((step.status, step.progress) == event for step in steps):
            yield f"{name}: {event} at {entry.place} was no event, or not in this order"
            return


# -- What must be there, and when -----------------------------------------


@dataclass(frozen=True)
class _Account:
    """An account, what the topic says of its jobs, and its gaps."""

    truth: AccountTruth
    jobs: Mapping[str, _Published]
    gaps: Sequence[Gap]

    @property
    def has_webhooks(self) -> bool:
        return self.truth.retry_waits is not None

    def end_of(self, job: UpstreamJob) -> _Entry | None:
        """Give a job's terminal record."""
        entries = self.jobs.get(job.request_id)
        return entries.end if entries else None

    def gap_of(self, end: Step) -> Gap | None:
        """Give the gap in which an end may have been missed, the longest one."""
        begun, ended = end.begun or end.at, end.ended or end.at
        over = [
            gap for gap in self.gaps if gap.covers(begun, ended, _TOLERANCE_SECONDS)
        ]
        return max(over, key=lambda gap: gap.until or 0.0, default=None)

    def may_know(self, job: UpstreamJob) -> bool:
        """Whether a bridge that does its work knows of a job."""
        if self.has_webhooks or job.request_id in self.jobs:
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
            for step in job.steps
        )

    def deadline(self, truth: Truth, end: Step) -> float:
        """Give the moment until which a job that ended must have ended on the topic."""
        away = [Span(gap.since, gap.until or math.inf) for gap in self.gaps]
        if self.has_webhooks:
            begun = self._delivered(truth, end)
            return after_good_time(begun, _PROMISED_SECONDS, away)
        recovered = after_good_time(end.at, 0.0, away)
        share, patience = self.truth.limits.minute, 0.0
        if self.gap_of(end) is None:
            share, patience = share // _STALE_SHARE, truth.stale_seconds
        asked = sum(
            recovered - _MINUTE <= call.at <= recovered for call in self.truth.calls
        )
        away += truth.status_faults
        # What later gaps leave is asked about in the same minutes, and by the order of
        # progress it may come first.
        until, later = -math.inf, recovered
        while later > until:
            until = later
            ends = [gap.until for gap in self.gaps if gap.until is not None]
            moments = [recovered, *(at for at in ends if recovered < at < until)]
            in_flight = sum(
                any(job.in_flight(at) for at in moments) for job in self.jobs.values()
            )
            # In whole minutes: the server's minute begins with a call of its own.
            minutes = math.ceil((asked + in_flight) / max(1, share))
            allowed = max(_PROMISED_SECONDS, _MINUTE * minutes)
            later = after_good_time(end.at, patience + allowed, away)
        return until

    def _delivered(self, truth: Truth, end: Step) -> float:
        """Give the moment at which the webhook of an end found a bridge."""
        due = end.at
        for wait in self.truth.retry_waits or ():
            if not any(away.begun <= due <= away.ended for away in truth.bridge_away):
                break
            due += wait
        return due

    def may_stay_unknown(self, end: Step) -> bool:
        """Whether the calls that could find an end were used up."""
        if self.has_webhooks:
            return False
        share = self.truth.limits.day
        # A gap that comes later asks about it with its own jobs.
        if not any((gap.until or math.inf) > end.at for gap in self.gaps):
            share //= _STALE_SHARE
        # Where the server counts another minute's calls, it is right.
        return len(self.truth.calls) >= share - 1


def waiting(
    truth: Truth,
    records: Sequence[Record],
    seen: _Seen,
    gaps: Mapping[str, Sequence[Gap]],
) -> dict[str, float]:
    """Give the jobs that must still end on the topic, and until when each may take."""
    jobs = _published(records, seen)
    found = {}
    for each in truth.accounts:
        account = _Account(each, jobs[each.client_id], gaps[each.client_id])
        for job in each.jobs.values():
            end = job.end
            if (
                end is not None
                and account.end_of(job) is None
                and account.may_know(job)
                and not account.may_stay_unknown(end)
            ):
                found[job.request_id] = account.deadline(truth, end)
    return found


def settling_seconds(truth: Truth, records: Sequence[Record]) -> float:
    """Give how long the limits let the gaps of calm accounts take to be resolved."""
    jobs = _published(records, {})
    minutes = [
        sum(job.end is None for job in jobs[each.client_id].values())
        / max(1, each.limits.minute)
        for each in truth.accounts
    ]
    # The minute that has begun may be used up, and so may be its successor's begin.
    return _MINUTE * (2 + math.ceil(max(minutes)))


# -- The judgment ---------------------------------------------------------


def judge_healing(
    verdict: Verdict,
    truth: Truth,
    records: Sequence[Record],
    seen: _Seen,
    gaps: Mapping[str, Sequence[Gap]],
) -> None:
    """Add what became of jobs."""
    figures: _Figures = defaultdict(Counter)
    jobs = _published(records, seen)
    known = {each.client_id for each in truth.accounts}
    verdict.findings += [
        f"records of {name}, an unknown account" for name in jobs.keys() - known
    ]
    for each in truth.accounts:
        account = _Account(each, jobs[each.client_id], gaps[each.client_id])
        verdict.findings += _judge_account(figures, truth, account)
    verdict.figures |= figures


def _judge_account(figures: _Figures, truth: Truth, account: _Account) -> Iterable[str]:
    known, own = account.truth.jobs, account.truth
    for request_id, entries in account.jobs.items():
        if request_id in known:
            yield from _check_entries(known[request_id], entries)
        else:
            yield f"job {request_id} is at {entries[0].place} and never was"
    for job in known.values():
        yield from _judge_job(figures, truth, account, job)
    in_gaps = [
        _InGap(known[request_id], entries)
        for request_id, entries in account.jobs.items()
        if request_id in known
    ]
    for gap in account.gaps:
        if gap.until is None:
            yield f"never closed: {gap}"
        elif gap.healed is None or gap.unknown is None:
            yield f"never resolved: {gap}"
        else:
            # A process knows no gap that was resolved before it began.
            later = [each.begun for each in truth.bridge_away if each.begun > gap.until]
            yield from _check_gap(gap, gap.until, min(later, default=math.inf), in_gaps)
            figures["what gaps report"] += Counter(
                {
                    "status-endpoint": gap.healed[0],
                    "webhook": gap.healed[1],
                    "unknown": gap.unknown,
                }
            )
    yield from _judge_calls(figures, len(truth.bridge_away), own)
    if account.has_webhooks and own.undelivered:
        yield f"{own.undelivered} webhooks of {own.client_id} never got 2xx"


def _judge_job(
    figures: _Figures, truth: Truth, account: _Account, job: UpstreamJob
) -> Iterable[str]:
    end = job.end
    figures["jobs upstream"][end.status if end else "running"] += 1
    if end is None:
        return
    gap = account.gap_of(end)
    name = (
        f"job {job.request_id} of {account.truth.client_id}, {end.status}"
        f" at {end.at:.3f} in {gap or 'no gap'}"
    )
    entry = account.end_of(job)
    if entry is None:
        if not account.may_know(job):
            # It began and ended while nothing was received, and had no webhook.
            figures["jobs not on the topic"]["lost"] += 1
        elif account.may_stay_unknown(end):
            figures["jobs not on the topic"]["unknown by the limits"] += 1
        elif job.request_id in account.jobs:
            yield f"{name}: it never ended on the topic"
        else:
            yield f"{name}: lost, though an event or a webhook reported it"
        return
    figures["jobs ended on the topic"][entry.origin] += 1
    if entry.origin == "socket":
        return
    if gap is not None:
        figures["of those in a gap"][entry.origin] += 1
    took, allowed = entry.seen - end.at, account.deadline(truth, end) - end.at
    if took > allowed:
        yield (
            f"{name}: on the topic {took:.1f} s later by {entry.origin},"
            f" {took - allowed:.1f} s too late"
        )
    else:
        share = f"up to {math.ceil(10 * took / allowed)}0%"
        figures["of the time that a job was allowed"][share] += 1


def _judge_calls(
    figures: _Figures, restarts: int, account: AccountTruth
) -> Iterable[str]:
    """The bridge leaves the owner's share, and is never refused."""
    calls = [call for call in account.calls if call.code < 500]
    figures["calls of the endpoint"].update(str(call.code) for call in account.calls)
    refused = sum(call.code == 429 for call in calls)
    if refused:
        yield f"{account.client_id} was refused {refused} calls"
    slack = _CALLS_LOST_BY_A_START * restarts
    day, minute = account.limits.day, account.limits.minute
    if len(calls) > day + slack:
        yield f"{account.client_id} asked {len(calls)} times, of {day:g}"
    # As the server does: a minute begins with a call, and then the next one.
    most, count, ends = 0, 0, -math.inf
    for at in sorted(call.at for call in calls):
        if at >= ends:
            count, ends = 0, at + _MINUTE
        count += 1
        most = max(most, count)
    if most > minute + slack:
        yield f"{account.client_id} asked {most} times in a minute, of {minute}"


# -- What gaps report -----------------------------------------------------


@dataclass
class _Bounds:
    """What must be counted, and what may be."""

    least: int = 0
    most: int = 0

    def count(self, *, must: bool, may: bool) -> None:
        self.least += must
        self.most += must or may

    def __str__(self) -> str:
        return " to ".join(map(str, sorted({self.least, self.most})))


@dataclass(frozen=True)
class _InGap:
    """A job that is on the topic, beside a gap: what must be, and what may be."""

    job: UpstreamJob
    entries: _Published

    def was_known(self, gap: Gap) -> tuple[bool, bool]:
        """Whether it was in flight when a gap opened."""
        first, end = self.entries[0], self.entries.end
        must = first.seen <= gap.opened and (end is None or end.read > gap.opened)
        may = first.read <= gap.opened + _EDGE_SECONDS and (
            end is None or end.seen >= gap.opened - _EDGE_SECONDS
        )
        return must, may

    def ended_in(self, gap: Gap, until: float) -> tuple[bool, bool]:
        """Whether it ended upstream within a gap."""
        if self.job.end is None:
            return False, False
        at, edge = self.job.end.at, _EDGE_SECONDS
        must = gap.since + edge < at < until - edge
        return must, gap.since - edge < at < until + edge


def _check_gap(
    gap: Gap, until: float, forgotten: float, jobs: Sequence[_InGap]
) -> Iterable[str]:
    """Say which numbers of a gap are not what upstream and the topic know."""
    in_flight, by_endpoint, by_webhook, unknown, went_on = (_Bounds() for _ in range(5))
    new = 0  # those that the gap met when it had opened
    for job in jobs:
        must_know, may_know = job.was_known(gap)
        in_flight.count(must=must_know, may=may_know)
        must_end, may_end = job.ended_in(gap, until)
        end = job.entries.end
        # Anything but its end was learned after the gap.
        later = job.entries.last_read > until + _EDGE_SECONDS
        if end is None:
            unknown.count(must=must_know and must_end, may=not later)
            went_on.count(must=False, may=may_know)
            continue
        after = end.seen >= gap.since
        # Known before the gap was over, so that the gap may have swallowed it.
        may = after and not later
        if end.origin == "status-endpoint":
            by_endpoint.count(must=must_know and must_end, may=may)
            new += may and not must_know
        elif end.origin == "webhook":
            in_it = must_end and gap.opened < end.read and end.seen < forgotten
            may_count = after and (may_end or not later)
            by_webhook.count(must=in_it, may=may_count)
            new += may_count and not must_know
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
        went_on.least -= new
        told.append(("went on", went_on, rest))
    for what, bounds, number in told:
        if not bounds.least <= number <= bounds.most:
            yield f"{gap}: {number} {what}, and it must be {bounds}"
