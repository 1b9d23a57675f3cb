"""
Asks about the jobs of all accounts that share one token.

Owns the order of calls: jobs of gaps first, then silent ones, each looked up again
before it costs a call. How many calls there may be is the budget's to say, what an
answer means `taking`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NoReturn

import msgspec
import structlog
import trio

from bridge.errors import InvalidAnswerError
from bridge.outbox.values import JobInFlight
from bridge.reconciliation.answers import StatusAnswer, event_of
from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.client import Answer, Outcome
from bridge.reconciliation.endpoint import Endpoint
from bridge.reconciliation.order import Key, Queue, portions, rank
from bridge.reconciliation.ports import AskedAccount, Jobs
from bridge.reconciliation.settlements import Fate, Settlements
from bridge.reconciliation.silent import Silent
from bridge.reconciliation.statistics import ReconciliationStatistics
from bridge.reconciliation.taking import Taker
from bridge.settings import ReconciliationSettings


__all__ = ["Asking"]

_log = structlog.get_logger("bridge.reconciliation")

# At the largest limit that is known, 300 a minute, answers may take 3 s before these
# are too few; and by no more than these an outbox without room is waited for.
_MOST_CALLS: Final = 16


class Asking:
    """
    The calls with one token.

    Args:
        accounts: Those that share it, at least one.
        settings: When a job is silent, and when the endpoint is given up.
        jobs: Which jobs are in flight.
        settlements: The books of the gaps.
        taker: Takes answers.
        statistics: Where calls are counted.
        forgotten_us: What was not heard of since then, the outbox has forgotten.
    """

    def __init__(  # noqa: PLR0913 - what the loops share, each given by name
        self,
        accounts: Sequence[AskedAccount],
        settings: ReconciliationSettings,
        *,
        jobs: Jobs,
        settlements: Settlements,
        taker: Taker,
        statistics: ReconciliationStatistics,
        forgotten_us: Callable[[], float],
    ) -> None:
        self._accounts = {account.client_id: account for account in accounts}
        self._budget = accounts[0].budget
        self._give_up_seconds = settings.give_up_seconds
        self._jobs = jobs
        self._settlements = settlements
        self._taker = taker
        self._statistics = statistics
        self._forgotten_us = forgotten_us
        self._endpoint = Endpoint()
        self._of_gaps = Queue()
        self._of_silence = Queue()
        self._silent = {
            who: Silent(who, self._of_silence, settings.silent_after_seconds)
            for who in self._accounts
        }
        self._asked: set[Key] = set()
        # Jobs of gaps that were asked about in vain: since when, and how often.
        self._in_vain: dict[Key, tuple[float, int]] = {}
        # Whose calls are used up for the day.
        self._spent: set[Purpose] = set()
        self._may_ask_silent = True
        self._news = trio.Event()
        self._silent_turn = trio.CancelScope()

    # -- What is to be asked about ---------------------------------------------

    def put(self, keys: Iterable[Key]) -> None:
        """
        Ask about jobs of a gap.

        Args:
            keys: Jobs that a settlement waits for.
        """
        if not len(self._of_gaps) and not self._in_vain:
            # That it was away when nobody waited gives these no less time.
            self._endpoint.begin_again(trio.current_time())
        for key in keys:
            job = self._settlements.job(key)
            # One that is being asked about comes back by itself if need be.
            if job is not None and key not in self._asked:
                _, tries = self._in_vain.get(key, (0.0, 0))
                self._of_gaps.put(key, rank(job, tries))
        if len(self._of_gaps):
            self._silent_turn.cancel()
            self._news.set()

    async def look(
        self, client_id: str, jobs: Sequence[JobInFlight], now_us: int
    ) -> None:
        """
        Ask about those of an account's jobs that are silent.

        Args:
            client_id: Whose.
            jobs: All that are in flight.
            now_us: The time, microseconds since the epoch.
        """
        silent = self._silent[client_id]
        for some in portions(jobs):
            silent.look(some, now_us, trio.current_time())
            await trio.lowlevel.checkpoint()
        silent.keep(jobs)
        self._count_silent(client_id)
        self._may_ask_silent = True
        self._news.set()

    # -- The loop --------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Ask until cancelled."""
        room = trio.Semaphore(_MOST_CALLS)

        async def ask(key: Key, job: JobInFlight) -> None:
            await self._ask(key, job)
            room.release()

        async with trio.open_nursery() as nursery:
            while True:
                # No deadline: calls have one each, and records wait for the outbox.
                await room.acquire()
                key, job = await self._next()
                self._of_gaps.discard(key)
                self._asked.add(key)
                nursery.start_soon(ask, key, job)

    async def _next(self) -> tuple[Key, JobInFlight]:
        """Wait for a job that may be asked about, and for the call that it takes."""
        while True:
            self._news = trio.Event()
            first = None
            if await self._first_of_gaps() is not None:
                if await self._gaps_may():
                    first = await self._choose(or_silent=False)
            elif self._may_ask_silent and self._first_of_silence() is not None:
                if await self._silence_may():
                    first = await self._choose(or_silent=True)
            else:
                # No deadline: there is nothing to do until there is news.
                await self._news.wait()
            if first is not None:
                return first

    async def _choose(self, *, or_silent: bool) -> tuple[Key, JobInFlight] | None:
        """Choose who gets the call that was waited for; nobody may need it by now."""
        first = None
        try:
            first = await self._first_of_gaps()
            if first is None and or_silent:
                first = self._first_of_silence()
        finally:
            if first is None:
                self._budget.abandon(was_made=False)
        return first

    async def _gaps_may(self) -> bool:
        """Wait for a call for a gap; without one its jobs are given up."""
        since = self._endpoint.unanswered_since
        given_up_at = math.inf if since is None else since + self._give_up_seconds
        may_ask = False
        with trio.move_on_at(given_up_at) as waiting:
            may_ask = await self._budget.acquire(Purpose.GAP)
        if not waiting.cancelled_caught:
            self._say_spent(Purpose.GAP, may_ask=may_ask)
        if not may_ask:
            await self._give_up()
        return may_ask

    async def _silence_may(self) -> bool:
        """Wait for a call for a silent job, unless a gap's job comes first."""
        may_ask = False
        with trio.CancelScope() as self._silent_turn:
            may_ask = self._may_ask_silent = await self._budget.acquire(Purpose.SILENT)
            self._say_spent(Purpose.SILENT, may_ask=may_ask)
        return may_ask

    def _say_spent(self, purpose: Purpose, *, may_ask: bool) -> None:
        """Say once that there are no calls, until there are some again."""
        if may_ask:
            self._spent.discard(purpose)
        elif purpose not in self._spent:
            self._spent.add(purpose)
            whose = {
                "client_id": next(iter(self._accounts)),
                "accounts": len(self._accounts),
            }
            if purpose is Purpose.GAP:
                _log.warning("reconciliation.spent", purpose="gap", **whose)
            else:
                # An ordinary day of a Basic account with many jobs.
                _log.info("reconciliation.spent", purpose="silent", **whose)

    async def _first_of_gaps(self) -> tuple[Key, JobInFlight] | None:
        """Give the first job of a gap of which nothing is known yet."""
        while (key := self._of_gaps.first()) is not None:
            job = self._look_up(key)
            if job is not None and self._settlements.waits(key):
                return key, job
            self._of_gaps.discard(key)
            self._in_vain.pop(key, None)
            # Many may have been heard of meanwhile.
            await trio.lowlevel.checkpoint()
        return None

    def _first_of_silence(self) -> tuple[Key, JobInFlight] | None:
        """Give the first silent job that still is silent."""
        while (key := self._of_silence.first()) is not None:
            client_id, request_id = key
            silent = self._silent[client_id]
            before, now = silent.job(request_id), self._look_up(key)
            if before is None or now is None or now.last_seen_us != before.last_seen_us:
                silent.forget(request_id)
            elif key in self._asked:
                self._of_silence.discard(key)
            else:
                return key, now
        return None

    def _look_up(self, key: Key) -> JobInFlight | None:
        """Look a job up, and enter what is known of it."""
        job = self._find(key)
        self._settlements.look_up({key: job}, self._forgotten_us())
        return job

    def _find(self, key: Key) -> JobInFlight | None:
        client_id, request_id = key
        return self._jobs.find(self._accounts[client_id].ce_source, request_id)

    async def _give_up(self) -> None:
        """Let the jobs of gaps that can't be asked about be unknown."""
        for some in portions(self._of_gaps.keys()):
            found = {key: self._find(key) for key in some}
            self._settlements.look_up(found, self._forgotten_us())
            for key in some:
                self._of_gaps.discard(key)
                self._in_vain.pop(key, None)
            self._settlements.determined(some, Fate.UNKNOWN)
            await trio.lowlevel.checkpoint()

    # -- One call --------------------------------------------------------------

    async def _ask(self, key: Key, job: JobInFlight) -> None:
        """Ask about a job, and enter what comes of it."""
        account = self._accounts[key[0]]
        # An answer knows of no gap that closes after the question.
        number = self._settlements.latest
        answer, told = await self._call(account, job)
        fate: Fate | None = None
        if told is not None:
            fate = await self._taker.take(account, job, told)
        elif answer.outcome is Outcome.NOT_FOUND:
            fate = Fate.UNKNOWN
        self._asked.discard(key)
        if fate is None:
            self._note_in_vain(key, job, answer)
        else:
            self._note(key, job, fate, number)
        self._count_silent(account.client_id)

    async def _call(
        self, account: AskedAccount, job: JobInFlight
    ) -> tuple[Answer, StatusAnswer | None]:
        """Make the call that was acquired."""
        answer = None
        try:
            answer = await account.client.ask(job.request_id)
        finally:
            if answer is None:
                self._budget.abandon()
        told = None
        if answer.outcome is Outcome.ANSWERED:
            try:
                told = event_of(job.request_id, answer.body)
            except InvalidAnswerError as error:
                answer = msgspec.structs.replace(
                    answer, outcome=Outcome.FAILED, reason=str(error)
                )
        self._budget.learn(
            answer.limits, failed=answer.outcome in {Outcome.FAILED, Outcome.REFUSED}
        )
        self._statistics.requests[account.client_id, answer.outcome] += 1
        self._endpoint.heard(account.client_id, answer, trio.current_time())
        return answer, told

    def _note(self, key: Key, job: JobInFlight, fate: Fate, number: int) -> None:
        """Enter what an answer tells."""
        self._in_vain.pop(key, None)
        if fate is Fate.ENDED:
            self._settlements.determined([key], fate)
            return
        self._silent[key[0]].asked(
            job, trio.current_time(), is_hopeless=fate is Fate.UNKNOWN
        )
        self._settlements.determined([key], fate, number)
        if self._settlements.waits(key):
            self.put([key])

    def _note_in_vain(self, key: Key, job: JobInFlight, answer: Answer) -> None:
        """Have a job asked about again, unless that was tried for long enough."""
        if not self._settlements.waits(key):
            self._in_vain.pop(key, None)
            self._silent[key[0]].not_answered(job.request_id)
            return
        now = trio.current_time()
        since, tries = self._in_vain.get(key, (now, 0))
        if now - since >= self._give_up_seconds:
            self._in_vain.pop(key, None)
            self._settlements.determined([key], Fate.UNKNOWN)
            return
        # A limit says nothing of the job: it keeps its place.
        tries += answer.outcome is not Outcome.LIMITED
        self._in_vain[key] = since, tries
        self.put([key])

    def _count_silent(self, client_id: str) -> None:
        waiting = self._of_silence.count(client_id)
        self._statistics.waiting[client_id, Purpose.SILENT] = waiting
