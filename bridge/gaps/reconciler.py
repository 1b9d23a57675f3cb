"""
Finds out what became of the jobs whose end a gap may have swallowed.

Nothing is remembered of gaps but what dryAPI said of single jobs. A job in flight is
pending for a closed gap if the last that is known of it is from before the gap's end.
`next_job` gives the job to ask about: pending ones first, those most likely to have
ended before the others, then jobs that have been silent for long.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from heapq import heapify, heappop, heappush
from itertools import accumulate
from typing import Final, NoReturn, Protocol, TypeVar

import msgspec
import structlog
import trio

from bridge.errors import InvalidAnswerError
from bridge.events.record import Origin, Record
from bridge.gaps.ledger import ClosedGap, Ledger
from bridge.gaps.limiter import Limiter, Purpose
from bridge.gaps.status import Answer, Outcome, StatusAnswer, event_of, without_extras
from bridge.outbox import Outbox
from bridge.outbox.values import Healing, JobInFlight
from bridge.settings import ReconciliationSettings
from bridge.threads import answer_of


__all__ = ["Account", "Reconciler", "ReconciliationStatistics"]

_log = structlog.get_logger("bridge.gaps")

_T = TypeVar("_T")

# After a gap the bridge listens first: running jobs send events every few seconds, and
# need no call then, of which a Basic account has 200 a day.
_LISTEN_SECONDS: Final = 5.0

# Without a status endpoint, jobs have so long to send something: a webhook that failed
# comes again after a minute.
_PATIENCE_SECONDS: Final = 60.0

# Each account's jobs are looked at so often, as long as there is anything to find out.
_LOOK_SECONDS: Final = 60.0

# One failed call may be a broken connection, two a restart: that is no news.
_AWAY_AFTER: Final = 3

# A silent job is asked about ever more rarely, at least four times a day: the outbox
# forgets by default what was silent for a day.
_LONGEST_SILENCE_SECONDS: Final = 86_400.0 / 4

# Once may be a job that dryAPI's database doesn't have yet.
_MAX_NOT_FOUND: Final = 2

# What is done with so many jobs takes milliseconds: then other tasks have a turn.
_PORTION: Final = 500

# A running job is nearer to its end than one that has only begun.
_STAGES: Final = {"in_progress": 0, "processing": 1}

# The endpoint says `processing` of all that run, so that it seldom is news.
_STEPS: Final = {"pending": 0, "processing": 1, "in_progress": 2, "done": 3, "error": 3}
_END: Final = 3

_Rank = tuple[int, int, float, int]


class ReconciliationStatistics:
    """Counts since the start; each account has its zeros from the start."""

    def __init__(self, accounts: Iterable[str]) -> None:
        accounts = list(accounts)
        # Requests that have ended, by client id and outcome.
        self.requests: dict[tuple[str, str], int] = {
            (who, outcome): 0 for who in accounts for outcome in Outcome
        }
        # Jobs whose end was written because the endpoint reported it.
        self.healed = dict.fromkeys(accounts, 0)
        # Responses that weren't needed: an event came while dryAPI was asked.
        self.superseded = dict.fromkeys(accounts, 0)
        # Jobs of gaps that were given up as unknown; not taken off when known later.
        self.unknown = dict.fromkeys(accounts, 0)
        # Jobs that wait to be asked about, by client id and purpose.
        self.waiting: dict[tuple[str, str], int] = {
            (who, purpose): 0 for who in accounts for purpose in Purpose
        }


class StatusEndpoint(Protocol):
    """The status endpoint: a `StatusClient`, or a test's."""

    async def ask(self, request_id: str) -> Answer:
        """Ask about one job once."""


class _Check(msgspec.Struct):
    """What dryAPI said of a job, as long as no event of it comes."""

    last_seen_us: int
    wait_seconds: float
    # It was still running then; and nobody could tell then what became of it.
    alive_us: int = 0
    gone_us: int = 0
    tries: int = 0
    not_found: int = 0
    # When it is asked about next as a silent job, and since when in vain.
    due: float = -math.inf
    in_vain_since: float | None = None


class Account:
    """An account and what dryAPI said of its jobs; `make` makes its records."""

    def __init__(
        self, client_id: str, ce_source: str, make: Callable[[bytes, int], Record]
    ) -> None:
        self.client_id = client_id
        self.ce_source = ce_source
        self.make = make
        self.checks: dict[str, _Check] = {}
        self.look_at = -math.inf
        # The end of the last gap of which not all is known, at the last look.
        self.until_us = 0
        # How many of its jobs are planned for gaps.
        self.planned = 0


class Reconciler:
    """
    Reconciles the accounts that share a token, or those that aren't asked about.

    Args:
        accounts: At least one.
        limiter: When calls may be made; None if the endpoint isn't to be asked.
        endpoint: Is asked; None likewise.
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
        endpoint: StatusEndpoint | None,
        max_event_bytes: int,
        keep_jobs_seconds: float,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._accounts = {one.client_id: one for one in accounts}
        self._ledger = ledger
        self._outbox = outbox
        self._statistics = statistics
        self._limiter = limiter
        self._endpoint = endpoint
        self._max_event_bytes = max_event_bytes
        self._now_us = now_us
        self._listen_seconds = _PATIENCE_SECONDS if limiter is None else _LISTEN_SECONDS
        self._keep_us = round(keep_jobs_seconds * 1_000_000)
        self._silent_seconds = settings.stale_after_seconds
        self._give_up_seconds = settings.give_up_seconds
        self._plans: dict[Purpose, list[tuple[_Rank, str, str]]] = {
            purpose: [] for purpose in Purpose
        }
        self._news = trio.Event()
        # Since when the endpoint hasn't responded, how often it failed since, whether
        # that was logged, whether it refuses the token, and whose calls are used up.
        self._unanswered_since: float | None = None
        self._failures = 0
        self._is_refused = False
        self._spent: set[Purpose] = set()

    def gap_closed(self, client_id: str) -> None:
        """Look at an account's jobs, after they had a moment to send events."""
        account = self._accounts[client_id]
        at = trio.current_time() + self._listen_seconds
        account.look_at = min(account.look_at, at)
        self._news.set()

    async def run(self) -> NoReturn:
        """Reconcile until cancelled; the next process derives what is left."""
        while True:
            for account in self._accounts.values():
                if account.look_at <= trio.current_time():
                    await self._look(account)
            wake_at = min(one.look_at for one in self._accounts.values())
            found = await self.next_job()
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
        """Return the job to ask about next; None if there is none."""
        for purpose, plan in self._plans.items():
            passed = 0
            while plan:
                _, client_id, request_id = plan[0]
                account = self._accounts[client_id]
                job = self._outbox.jobs.find(account.ce_source, request_id)
                if job is not None and self._is_wanted(purpose, account, job):
                    return purpose, account, job
                self._pop(purpose)
                passed += 1
                if passed % _PORTION == 0:
                    await trio.lowlevel.checkpoint()
        return None

    # -- Looking ----------------------------------------------------------------

    async def _look(self, account: Account) -> None:
        """Derive what is pending, resolve gaps, and plan what to ask."""
        account.look_at = trio.current_time() + _LOOK_SECONDS
        self._ledger.expire()
        gaps = self._ledger.unresolved(account.client_id)
        untils = [gap.until_us for gap in gaps]
        account.until_us = untils[-1] if untils else 0
        jobs = await trio.to_thread.run_sync(self._outbox.jobs.of, account.ce_source)
        await self._renew_checks(account, jobs, gaps)
        pending, unknown = [0] * (len(gaps) + 1), [0] * (len(gaps) + 1)
        plans: dict[Purpose, list[tuple[_Rank, str, str]]] = {
            purpose: [] for purpose in Purpose
        }
        for some in _portions(jobs):
            for job in some:
                first, last = self._concerned(account, job, untils)
                unknown[first] += 1
                pending[last] += 1
                if last < len(gaps):
                    plans[Purpose.GAP].append(self._entry(account, job))
                elif self._is_wanted(Purpose.SILENT, account, job):
                    plans[Purpose.SILENT].append(self._entry(account, job))
            await trio.lowlevel.checkpoint()
        self._plan(account, plans)
        for gap, waits, nobody_knows in zip(
            gaps, accumulate(pending), accumulate(unknown), strict=False
        ):
            if not waits or self._ledger.is_old(gap):
                self._ledger.resolve(gap, nobody_knows + waits)

    async def _renew_checks(
        self, account: Account, jobs: Sequence[JobInFlight], gaps: Sequence[ClosedGap]
    ) -> None:
        """Forget what events say better, and note what the outbox forgets."""
        checks, account.checks = account.checks, {}
        forgotten_us = self._now_us() - self._keep_us
        # What the outbox forgets before the next look is unknown from now on.
        leaving_us = forgotten_us + round(2 * _LOOK_SECONDS * 1_000_000)
        for some in _portions(jobs):
            for job in some:
                check = checks.pop(job.request_id, None)
                if check is not None and check.last_seen_us == job.last_seen_us:
                    account.checks[job.request_id] = check
                if job.last_seen_us <= leaving_us:
                    self._mark_gone(account, job)
            await trio.lowlevel.checkpoint()
        # The jobs of the others have ended, or were forgotten: those stay unknown.
        for check in checks.values():
            if check.gone_us and check.last_seen_us <= forgotten_us:
                seen_us = max(check.last_seen_us, check.alive_us)
                for gap in gaps:
                    gap.lost += seen_us < gap.until_us <= check.gone_us

    def _concerned(
        self, account: Account, job: JobInFlight, untils: list[int]
    ) -> tuple[int, int]:
        """Return the first gap that may have a job's end, and the first that waits."""
        check = account.checks.get(job.request_id)
        alive_us, gone_us = (0, 0) if check is None else (check.alive_us, check.gone_us)
        first = bisect_right(untils, max(job.last_seen_us, alive_us))
        return first, max(first, bisect_right(untils, gone_us))

    def _plan(
        self, account: Account, plans: dict[Purpose, list[tuple[_Rank, str, str]]]
    ) -> None:
        """Replace what is planned for an account."""
        if plans[Purpose.GAP] and not self._plans[Purpose.GAP]:
            # That it was away while nothing waited doesn't give these less time.
            self._unanswered_since = self._unanswered_since and trio.current_time()
        for purpose, entries in plans.items():
            plan = self._plans[purpose]
            plan[:] = [one for one in plan if one[1] != account.client_id]
            plan += entries if self._limiter or purpose is Purpose.GAP else []
            heapify(plan)
            self._statistics.waiting[account.client_id, purpose] = len(entries)
        account.planned = len(plans[Purpose.GAP])

    def _entry(self, account: Account, job: JobInFlight) -> tuple[_Rank, str, str]:
        """Give a job its place: the lower, the earlier."""
        check = account.checks.get(job.request_id)
        progress = -1.0 if job.progress is None else float(job.progress)
        stage = _STAGES.get(job.status, len(_STAGES))
        # A job that the endpoint can't answer must not hold up the others.
        tries = 0 if check is None else check.tries
        rank = tries, stage, -progress, job.last_seen_us
        return rank, account.client_id, job.request_id

    def _is_wanted(self, purpose: Purpose, account: Account, job: JobInFlight) -> bool:
        check = account.checks.get(job.request_id)
        if check is not None and check.last_seen_us != job.last_seen_us:
            check = None
        if purpose is Purpose.GAP:
            known_us = job.last_seen_us
            if check is not None:
                known_us = max(known_us, check.alive_us, check.gone_us)
            return known_us < account.until_us
        silent_us = self._now_us() - round(self._silent_seconds * 1_000_000)
        if job.last_seen_us > silent_us:
            return False
        return check is None or (
            check.due <= trio.current_time() and check.not_found < _MAX_NOT_FOUND
        )

    def _pop(self, purpose: Purpose) -> None:
        """Take the first job out of a plan; the last one of a gap shows what is so."""
        _, client_id, _ = heappop(self._plans[purpose])
        self._statistics.waiting[client_id, purpose] -= 1
        if purpose is Purpose.GAP:
            account = self._accounts[client_id]
            account.planned -= 1
            if not account.planned:
                account.look_at = trio.current_time()

    # -- Asking -----------------------------------------------------------------

    def _possible_at(self, purpose: Purpose) -> float | None:
        """Return when the next call may be made; None if it isn't worth waiting for."""
        if self._limiter is None:
            return None
        now = trio.current_time()
        at = self._limiter.possible_at(purpose, now)
        if at is not None:
            self._spent.discard(purpose)
        elif purpose not in self._spent:
            self._spent.add(purpose)
            # For silent jobs it is an ordinary day of a Basic account with many jobs.
            log = _log.warning if purpose is Purpose.GAP else _log.info
            first = next(iter(self._accounts))
            log(
                "reconciliation.spent",
                purpose=purpose.value,
                client_id=first,
                accounts=len(self._accounts),
            )
        if at is None or purpose is Purpose.SILENT or self._unanswered_since is None:
            return at
        give_up_at = self._unanswered_since + self._give_up_seconds
        return None if give_up_at <= now else min(at, give_up_at) if at > now else at

    def _give_up(self, purpose: Purpose) -> None:
        """Let what can't be asked about be unknown, or silent until the next look."""
        plan = self._plans[purpose]
        while plan:
            _, client_id, request_id = plan[0]
            account = self._accounts[client_id]
            job = self._outbox.jobs.find(account.ce_source, request_id)
            if (
                purpose is Purpose.GAP
                and job
                and self._is_wanted(purpose, account, job)
            ):
                self._mark_gone(account, job)
                self._statistics.unknown[client_id] += 1
            self._pop(purpose)

    def _mark_gone(self, account: Account, job: JobInFlight) -> None:
        self._check(account, job).gone_us = max(self._now_us(), account.until_us)

    def _check(self, account: Account, job: JobInFlight) -> _Check:
        check = account.checks.get(job.request_id)
        if check is None or check.last_seen_us != job.last_seen_us:
            check = _Check(job.last_seen_us, self._silent_seconds)
            account.checks[job.request_id] = check
        return check

    async def _ask(self, purpose: Purpose, account: Account, job: JobInFlight) -> None:
        """Ask about the first job of a plan, and note what comes of it."""
        assert self._limiter is not None
        assert self._endpoint is not None
        self._limiter.begin(purpose, trio.current_time())
        # An answer knows nothing of a gap that closes after the question.
        asked_us = max(self._now_us(), account.until_us)
        answer = await self._endpoint.ask(job.request_id)
        reported: StatusAnswer | None = None
        if answer.outcome is Outcome.ANSWERED:
            try:
                reported = event_of(job.request_id, answer.body)
            except InvalidAnswerError as error:
                answer = msgspec.structs.replace(
                    answer, outcome=Outcome.FAILED, reason=str(error)
                )
        now = trio.current_time()
        failed = answer.outcome in {Outcome.FAILED, Outcome.REFUSED}
        self._limiter.end(answer.limits, now, failed=failed)
        self._statistics.requests[account.client_id, answer.outcome] += 1
        self._note_endpoint(account.client_id, answer)
        self._pop(purpose)
        check = self._check(account, job)
        if reported is not None:
            is_known = await self._take(account, job, reported, check, asked_us)
        else:
            is_known = answer.outcome is Outcome.NOT_FOUND
            if is_known:
                self._note_unknown(purpose, account, check, asked_us)
        if is_known:
            check.tries += 1
            check.due = now + check.wait_seconds
            longer = min(2 * check.wait_seconds, _LONGEST_SILENCE_SECONDS)
            check.wait_seconds = max(check.wait_seconds, longer)
            return
        # A limit says nothing of the job: it keeps its place.
        check.tries += answer.outcome is not Outcome.LIMITED
        if purpose is Purpose.SILENT:
            return
        check.in_vain_since = check.in_vain_since or now
        if now - check.in_vain_since >= self._give_up_seconds:
            self._note_unknown(purpose, account, check, asked_us)
        else:
            heappush(self._plans[purpose], self._entry(account, job))
            self._statistics.waiting[account.client_id, purpose] += 1
            account.planned += 1

    def _note_unknown(
        self, purpose: Purpose, account: Account, check: _Check, asked_us: int
    ) -> None:
        check.gone_us = asked_us
        check.not_found += 1
        self._statistics.unknown[account.client_id] += purpose is Purpose.GAP

    async def _take(
        self,
        account: Account,
        job: JobInFlight,
        reported: StatusAnswer,
        check: _Check,
        asked_us: int,
    ) -> bool:
        """Write what dryAPI reports, if it is news; gives whether the job is known."""
        step = _STEPS.get(reported.status, _END)
        if reported.event is None or step <= _STEPS.get(job.status, 0):
            check.alive_us = asked_us
            return True
        event = reported.event
        if len(event) > self._max_event_bytes:
            event = without_extras(event)
        record = account.make(event, self._now_us())
        is_end = _STEPS.get(record.status or "", 0) == _END
        gap_ids: tuple[str, ...] = ()
        if is_end:
            gap_ids = self._ledger.healable(account.client_id, job.last_seen_us, None)
        try:
            # No deadline: an outbox without room takes it once it has some, and asking
            # again meanwhile wouldn't help.
            is_written = await answer_of(
                self._outbox.heal(Healing(record, job, gap_ids))
            )
        except CancelledError:
            # The outbox is closed.
            return False
        if not is_written:
            # An event or a webhook was faster: the next look shows what it said.
            self._statistics.superseded[account.client_id] += 1
            return False
        if record.status is None:
            # A dead letter: no consumer of jobs learns of this one's end.
            check.gone_us = asked_us
            self._statistics.unknown[account.client_id] += 1
        elif not is_end:
            check.alive_us = asked_us
        else:
            self._statistics.healed[account.client_id] += 1
            self._ledger.healed(gap_ids, Origin.STATUS_ENDPOINT)
        return True

    def _note_endpoint(self, client_id: str, answer: Answer) -> None:
        """Log when the endpoint fails, and when it responds again."""
        now = trio.current_time()
        if answer.outcome in {Outcome.ANSWERED, Outcome.NOT_FOUND}:
            if self._failures >= _AWAY_AFTER or self._is_refused:
                away = now - (self._unanswered_since or now)
                _log.info("reconciliation.back", away_seconds=round(away, 1))
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
            if self._failures == _AWAY_AFTER:
                _log.warning("reconciliation.away", reason=answer.reason)


def _portions(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for begin in range(0, len(items), _PORTION):
        yield items[begin : begin + _PORTION]
