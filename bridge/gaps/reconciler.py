"""
Finds out how the jobs ended whose end was missed in a gap.

Only dryAPI's reports of single jobs are stored. A job in flight is pending for a closed
gap if its last event is from before the gap's end. `next_job` returns the next job to
request: pending jobs first, those most likely to have ended before the others, then
stale ones.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from enum import Enum, auto
from heapq import heapify, heappop, heappush
from itertools import accumulate
from typing import Annotated, Final, NoReturn

import msgspec
import structlog
import trio

from bridge.events.record import Origin, Record
from bridge.gaps.ledger import ClosedGap, Ledger
from bridge.gaps.limiter import Limiter, Purpose
from bridge.gaps.status import Answer, Outcome, without_extras
from bridge.metric import counter, gauge
from bridge.outbox import Outbox
from bridge.outbox.values import Healing, JobInFlight
from bridge.settings import ReconciliationSettings
from bridge.threads import answer_of


__all__ = ["GIVE_UP_SECONDS", "Account", "Reconciler", "ReconciliationStatistics"]

_log = structlog.get_logger("bridge.gaps")

# Running jobs send events every few seconds. Those that do so after a gap need no call,
# of which a Basic account has 200 a day.
_LISTEN_SECONDS: Final = 5.0

# The same without a status endpoint: dryAPI repeats a failed webhook after a minute.
_LISTEN_UNASKED_SECONDS: Final = 60.0

# How long the endpoint may fail before a gap's jobs are unknown: an incident or a
# deployment of dryAPI passes within minutes.
GIVE_UP_SECONDS: Final = 900.0

# How often the jobs of an account are looked through.
_LOOK_SECONDS: Final = 60.0

# One failed call may be a broken connection, two a restart: those are not reported.
_UNAVAILABLE_AFTER: Final = 3

# The longest wait between two calls for a stale job. By default the outbox forgets a
# job a day after its last event.
_MAX_STALE_SECONDS: Final = 86_400.0 / 4

# The first may be for a job that dryAPI's database doesn't have yet.
_MAX_NOT_FOUND: Final = 2

# So many jobs take milliseconds: other tasks run in between.
_PORTION: Final = 500

# The endpoint reports `processing` for all running jobs, so that it seldom is news.
_STEPS: Final = {"pending": 0, "processing": 1, "in_progress": 2, "done": 3, "error": 3}
_END: Final = 3


_JOBS: Final = counter(
    "bridge_reconciliation_jobs",
    "Jobs looked up by status requests: healed, superseded by an event, or unknown.",
    "client_id",
    "result",
)


class ReconciliationStatistics:
    """Counts since the start; each account has its zeros from the start."""

    requests: Annotated[
        dict[tuple[str, str], int],
        counter(
            "bridge_reconciliation_requests",
            "Completed requests to dryAPI's status endpoint, by outcome.",
            "client_id",
            "outcome",
        ),
    ]
    # Jobs whose end was written because the endpoint reported it.
    healed: Annotated[dict[str, int], _JOBS.of(result="healed")]
    # Responses that weren't needed: an event came in the meantime.
    superseded: Annotated[dict[str, int], _JOBS.of(result="superseded")]
    # Jobs of gaps that counted as unknown, also if they were known later.
    unknown: Annotated[dict[str, int], _JOBS.of(result="unknown")]
    waiting: Annotated[
        dict[tuple[str, str], int],
        gauge(
            "bridge_reconciliation_waiting",
            "Jobs that wait for a status request, of gaps or because they are stale.",
            "client_id",
            "purpose",
        ),
    ]

    def __init__(self, accounts: Iterable[str]) -> None:
        accounts = list(accounts)
        self.requests = {(who, outcome): 0 for who in accounts for outcome in Outcome}
        self.healed = dict.fromkeys(accounts, 0)
        self.superseded = dict.fromkeys(accounts, 0)
        self.unknown = dict.fromkeys(accounts, 0)
        self.waiting = {(who, purpose): 0 for who in accounts for purpose in Purpose}


class _Reported(Enum):
    """What a response says of a job."""

    ENDED = auto()
    RUNS = auto()
    UNKNOWN = auto()
    UNANSWERED = auto()


class _Check(msgspec.Struct):
    """What dryAPI reported of a job since its last event."""

    last_seen_us: int
    stale_seconds: float
    # When it was last reported as running, and when its end became unknown.
    alive_us: int = 0
    gone_us: int = 0
    tries: int = 0
    not_found: int = 0
    # When it is asked about next as a stale job; and since when there is no answer.
    due: float = -math.inf
    unanswered_since: float | None = None


# A job's place in the order: its purpose, rank, client id and request id.
_Entry = tuple[bool, int, int, float, int, str, str]


class Account:
    """An account, and what dryAPI reported of its jobs; `make` makes its records."""

    def __init__(
        self, client_id: str, ce_source: str, make: Callable[[bytes, int], Record]
    ) -> None:
        self.client_id = client_id
        self.ce_source = ce_source
        self.make = make
        self.checks: dict[str, _Check] = {}
        self.look_at = math.inf
        # The gaps that closed a moment ago, and when their jobs may be asked about.
        self.listening: dict[str, float] = {}
        # The end of the last unresolved gap.
        self.until_us = 0

    @property
    def due(self) -> float:
        """When its jobs are looked through next."""
        return min(self.look_at, *self.listening.values(), math.inf)


class Reconciler:
    """
    Reconciles the accounts that share a token, or those that aren't asked about.

    Args:
        accounts: At least one.
        settings: Those of reconciliation.
        ledger: The gaps.
        outbox: The jobs in flight; takes the records.
        statistics: Is updated.
        limiter: When calls may be made; None if the endpoint isn't to be asked.
        ask: Asks about a job, as `status.ask`; None likewise.
        max_event_bytes: Larger events lose the members that only pass through.
        keep_jobs_seconds: When the outbox forgets a job without events.
        give_up_seconds: How long the endpoint may fail.
        now_us: The wall clock, microseconds since the epoch.
    """

    def __init__(  # noqa: PLR0913 - what it connects, each given by name
        self,
        accounts: Sequence[Account],
        settings: ReconciliationSettings,
        *,
        ledger: Ledger,
        outbox: Outbox,
        statistics: ReconciliationStatistics,
        limiter: Limiter | None,
        ask: Callable[[str], Awaitable[Answer]] | None,
        max_event_bytes: int,
        keep_jobs_seconds: float,
        give_up_seconds: float = GIVE_UP_SECONDS,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._accounts = {one.client_id: one for one in accounts}
        self._ledger = ledger
        self._outbox = outbox
        self._statistics = statistics
        self._limiter = limiter
        self._ask_endpoint = ask
        self._max_event_bytes = max_event_bytes
        self._now_us = now_us
        self._listen_seconds = (
            _LISTEN_UNASKED_SECONDS if limiter is None else _LISTEN_SECONDS
        )
        self._keep_us = round(keep_jobs_seconds * 1_000_000)
        self._stale_seconds = settings.stale_after_seconds
        self._give_up_seconds = give_up_seconds
        self._plan: list[_Entry] = []
        self._news = trio.Event()
        # Since when the endpoint has not responded, and how often it has failed since.
        self._unanswered_since: float | None = None
        self._failures = 0
        self._is_refused = False
        self._exhausted: set[Purpose] = set()

    def gap_closed(self, closed: ClosedGap) -> None:
        """Ask about the jobs of a gap, unless they send events within a moment."""
        at = trio.current_time() + self._listen_seconds
        self._accounts[closed.gap.client_id].listening[closed.gap.gap_id] = at
        self._news.set()

    async def run(self) -> NoReturn:
        """Reconcile until cancelled; the next process derives what is left."""
        for account in self._accounts.values():
            account.look_at = trio.current_time() + self._listen_seconds
        while True:
            for account in self._accounts.values():
                if account.due <= trio.current_time():
                    await self._look(account)
            found = await self.next_job()
            wake_at = min(one.due for one in self._accounts.values())
            if found is not None:
                purpose, account, job = found
                at = self._possible_at(purpose)
                if at is None:
                    self._give_up(purpose)
                    continue
                if at <= trio.current_time():
                    await self._ask(purpose, account, job)
                    continue
                wake_at = min(wake_at, at)
            self._news = trio.Event()
            with trio.move_on_at(wake_at):
                await self._news.wait()

    async def next_job(self) -> tuple[Purpose, Account, JobInFlight] | None:
        """Return the job to ask about next; None if there is none now."""
        passed = 0
        while self._plan:
            is_stale, *_, client_id, request_id = self._plan[0]
            # Soon jobs of a gap may need the calls.
            if is_stale and any(one.listening for one in self._accounts.values()):
                return None
            account = self._accounts[client_id]
            job = self._outbox.jobs.find(account.ce_source, request_id)
            purpose = Purpose.STALE if is_stale else Purpose.GAP
            if job is not None and self._is_wanted(purpose, account, job):
                return purpose, account, job
            self._pop()
            passed += 1
            if passed % _PORTION == 0:
                await trio.lowlevel.checkpoint()
        return None

    # -- Looking ----------------------------------------------------------------

    async def _look(self, account: Account) -> None:
        """Derive what is pending, resolve gaps, and plan what to ask."""
        now, client_id = trio.current_time(), account.client_id
        account.look_at = now + _LOOK_SECONDS
        account.listening = {
            gap_id: at for gap_id, at in account.listening.items() if at > now
        }
        self._ledger.expire()
        gaps = [
            one
            for one in self._ledger.unresolved(client_id)
            if one.gap.gap_id not in account.listening
        ]
        ends_us = [gap.until_us for gap in gaps]
        account.until_us = ends_us[-1] if ends_us else 0
        jobs = await trio.to_thread.run_sync(self._outbox.jobs.of, account.ce_source)
        await self._renew_checks(account, jobs, gaps)
        # How many jobs each gap is the first to wait for, or not to know the end of.
        pending, unknown = [0] * (len(gaps) + 1), [0] * (len(gaps) + 1)
        plan = [one for one in self._plan if one[-2] != client_id]
        counts = dict.fromkeys(Purpose, 0)
        for number, job in enumerate(jobs):
            if number % _PORTION == 0:
                await trio.lowlevel.checkpoint()
            alive_us, determined_us = self._known_us(account, job)
            unknown[bisect_right(ends_us, alive_us)] += 1
            pending[bisect_right(ends_us, determined_us)] += 1
            for purpose in Purpose:
                if self._is_wanted(purpose, account, job):
                    plan.append(self._entry(purpose, account, job))
                    counts[purpose] += 1
                    break
        if counts[Purpose.GAP] and not self._has_pending:
            # That it failed while no job waited doesn't give these less time.
            self._unanswered_since = self._unanswered_since and trio.current_time()
        heapify(plan)
        self._plan = plan
        for purpose, count in counts.items():
            self._statistics.waiting[client_id, purpose] = count
        for gap, waits, are_unknown in zip(
            gaps, accumulate(pending), accumulate(unknown), strict=False
        ):
            if not waits or self._ledger.is_old(gap):
                self._ledger.resolve(gap, are_unknown)

    async def _renew_checks(
        self, account: Account, jobs: Sequence[JobInFlight], gaps: Sequence[ClosedGap]
    ) -> None:
        """Forget what events have made obsolete, and note what the outbox forgets."""
        checks, account.checks = account.checks, {}
        forgotten_us = self._now_us() - self._keep_us
        # What the outbox forgets before the next look is unknown from now on.
        leaving_us = forgotten_us + round(2 * _LOOK_SECONDS * 1_000_000)
        for number, job in enumerate(jobs):
            if number % _PORTION == 0:
                await trio.lowlevel.checkpoint()
            check = checks.pop(job.request_id, None)
            if check is not None and check.last_seen_us == job.last_seen_us:
                account.checks[job.request_id] = check
            if job.last_seen_us <= leaving_us:
                self._mark_gone(account, job)
        # The jobs of the others have ended, or were forgotten: those stay unknown.
        for check in checks.values():
            if check.gone_us and check.last_seen_us <= forgotten_us:
                seen_us = max(check.last_seen_us, check.alive_us)
                for gap in gaps:
                    gap.lost += seen_us < gap.until_us <= check.gone_us

    def _known_us(self, account: Account, job: JobInFlight) -> tuple[int, int]:
        """Return until when a job was alive, and until when its end is determined."""
        check = account.checks.get(job.request_id)
        if check is None or check.last_seen_us != job.last_seen_us:
            return job.last_seen_us, job.last_seen_us
        alive_us = max(job.last_seen_us, check.alive_us)
        return alive_us, max(alive_us, check.gone_us)

    def _is_wanted(self, purpose: Purpose, account: Account, job: JobInFlight) -> bool:
        if purpose is Purpose.GAP:
            _, determined_us = self._known_us(account, job)
            return determined_us < account.until_us
        stale_us = self._now_us() - round(self._stale_seconds * 1_000_000)
        if self._limiter is None or job.last_seen_us > stale_us:
            return False
        check = self._check(account, job)
        return check.due <= trio.current_time() and check.not_found < _MAX_NOT_FOUND

    def _entry(self, purpose: Purpose, account: Account, job: JobInFlight) -> _Entry:
        """Return a job's place in the order; lower ones are asked about earlier."""
        check = account.checks.get(job.request_id)
        return (
            purpose is Purpose.STALE,
            # A job that the endpoint can't answer must not delay the others.
            0 if check is None else check.tries,
            -_STEPS.get(job.status, 0),
            1.0 if job.progress is None else -float(job.progress),
            job.last_seen_us,
            account.client_id,
            job.request_id,
        )

    def _pop(self) -> None:
        """Remove the first job; after the last one of gaps, look again."""
        is_stale, *_, client_id, _ = heappop(self._plan)
        purpose = Purpose.STALE if is_stale else Purpose.GAP
        self._statistics.waiting[client_id, purpose] -= 1
        if not is_stale and not self._has_pending:
            for account in self._accounts.values():
                account.look_at = trio.current_time()

    @property
    def _has_pending(self) -> bool:
        """Whether jobs of gaps wait: they come first."""
        return bool(self._plan) and not self._plan[0][0]

    # -- Asking -----------------------------------------------------------------

    def _possible_at(self, purpose: Purpose) -> float | None:
        """Return when the next call may be made; None to wait no longer."""
        if self._limiter is None:
            return None
        now = trio.current_time()
        at = self._limiter.possible_at(purpose)
        if at is not None:
            self._exhausted.discard(purpose)
        elif purpose not in self._exhausted:
            self._exhausted.add(purpose)
            # For stale jobs it is an ordinary day of a Basic account with many jobs.
            log = _log.warning if purpose is Purpose.GAP else _log.info
            log(
                "reconciliation.quota_exhausted",
                purpose=purpose.value,
                client_id=next(iter(self._accounts)),
                accounts=len(self._accounts),
            )
        if at is None or purpose is Purpose.STALE or self._unanswered_since is None:
            return at
        give_up_at = self._unanswered_since + self._give_up_seconds
        if give_up_at <= now:
            return None
        return min(at, give_up_at) if at > now else at

    def _give_up(self, purpose: Purpose) -> None:
        """Let jobs of gaps that can't be asked about be unknown; stale ones wait."""
        if purpose is Purpose.STALE:
            # Those are all that is left, until the next look.
            self._plan.clear()
        while self._has_pending:
            *_, client_id, request_id = self._plan[0]
            account = self._accounts[client_id]
            job = self._outbox.jobs.find(account.ce_source, request_id)
            if job is not None and self._is_wanted(purpose, account, job):
                self._mark_gone(account, job)
                self._statistics.unknown[client_id] += 1
            self._pop()

    def _mark_gone(self, account: Account, job: JobInFlight) -> None:
        self._check(account, job).gone_us = max(self._now_us(), account.until_us)

    def _check(self, account: Account, job: JobInFlight) -> _Check:
        check = account.checks.get(job.request_id)
        if check is None or check.last_seen_us != job.last_seen_us:
            check = _Check(job.last_seen_us, self._stale_seconds)
            account.checks[job.request_id] = check
        return check

    async def _ask(self, purpose: Purpose, account: Account, job: JobInFlight) -> None:
        """Ask about the first job of the plan, and note the result."""
        assert self._limiter is not None
        assert self._ask_endpoint is not None
        self._limiter.begin(purpose)
        # An answer knows nothing of a gap that closes after the question.
        asked_us = max(self._now_us(), account.until_us)
        answer = await self._ask_endpoint(job.request_id)
        failed = answer.outcome in {Outcome.FAILED, Outcome.REFUSED}
        self._limiter.end(answer.limits, failed=failed)
        self._statistics.requests[account.client_id, answer.outcome] += 1
        self._note_endpoint(account.client_id, answer)
        self._pop()
        reported = _Reported.UNANSWERED
        if answer.outcome is Outcome.ANSWERED:
            reported = await self._apply(account, job, answer)
        elif answer.outcome is Outcome.NOT_FOUND:
            reported = _Reported.UNKNOWN
        # A limit says nothing of the job: it keeps its place.
        self._check(account, job).tries += answer.outcome is not Outcome.LIMITED
        self._note(purpose, account, job, reported, asked_us)

    def _note(
        self,
        purpose: Purpose,
        account: Account,
        job: JobInFlight,
        reported: _Reported,
        asked_us: int,
    ) -> None:
        """Note what a response says of a job, or ask about it again."""
        now, check = trio.current_time(), self._check(account, job)
        if reported is not _Reported.UNANSWERED:
            check.due = now + check.stale_seconds
            check.stale_seconds = max(
                check.stale_seconds, min(2 * check.stale_seconds, _MAX_STALE_SECONDS)
            )
        elif purpose is Purpose.GAP:
            check.unanswered_since = check.unanswered_since or now
            if now - check.unanswered_since < self._give_up_seconds:
                heappush(self._plan, self._entry(purpose, account, job))
                self._statistics.waiting[account.client_id, purpose] += 1
                return
            check.gone_us = asked_us
        if reported is _Reported.RUNS:
            check.alive_us = asked_us
        elif reported is _Reported.UNKNOWN:
            check.gone_us = asked_us
            check.not_found += 1
        if purpose is Purpose.GAP and reported in {
            _Reported.UNKNOWN,
            _Reported.UNANSWERED,
        }:
            self._statistics.unknown[account.client_id] += 1

    async def _apply(
        self, account: Account, job: JobInFlight, answer: Answer
    ) -> _Reported:
        """Write what dryAPI reports, if it is news."""
        event, step = answer.event, _STEPS.get(answer.job_status, _END)
        if event is None or step <= _STEPS.get(job.status, 0):
            return _Reported.RUNS
        if len(event) > self._max_event_bytes:
            event = without_extras(event)
        record = account.make(event, self._now_us())
        is_end = _STEPS.get(record.status or "", 0) == _END
        gap_ids: tuple[str, ...] = ()
        if is_end:
            gap_ids = self._ledger.healable(account.client_id, job.last_seen_us, None)
        try:
            # No deadline: an outbox without room writes it once it has some, and asking
            # again in the meantime wouldn't help.
            is_written = await answer_of(
                self._outbox.heal(Healing(record, job, gap_ids))
            )
        except CancelledError:
            # The outbox is closed.
            return _Reported.UNANSWERED
        if not is_written:
            # An event or a webhook was faster: the next look shows what it said.
            self._statistics.superseded[account.client_id] += 1
            return _Reported.UNANSWERED
        if record.status is None:
            # A dead letter: consumers of jobs don't learn of this job's end.
            return _Reported.UNKNOWN
        if not is_end:
            return _Reported.RUNS
        self._statistics.healed[account.client_id] += 1
        self._ledger.healed(gap_ids, Origin.STATUS_ENDPOINT)
        return _Reported.ENDED

    def _note_endpoint(self, client_id: str, answer: Answer) -> None:
        """Log when the endpoint fails, and when it responds again."""
        now = trio.current_time()
        if answer.outcome in {Outcome.ANSWERED, Outcome.NOT_FOUND}:
            if self._failures >= _UNAVAILABLE_AFTER or self._is_refused:
                away = now - (self._unanswered_since or now)
                _log.info("reconciliation.recovered", away_seconds=round(away, 1))
            self._unanswered_since, self._failures = None, 0
            self._is_refused = False
            return
        if self._unanswered_since is None:
            self._unanswered_since = now
        if answer.outcome is Outcome.REFUSED and not self._is_refused:
            self._is_refused = True
            _log.warning(
                "reconciliation.refused", client_id=client_id, reason=answer.reason
            )
        elif answer.outcome is Outcome.FAILED:
            self._failures += 1
            if self._failures == _UNAVAILABLE_AFTER:
                _log.warning("reconciliation.unavailable", reason=answer.reason)
