"""
Finds out what became of the jobs that gaps may have swallowed the ends of.

Owns the tasks: gaps that close are handed in by any thread, settled here one after
another, and asked about by `asking`, one loop for each token. What is not settled when
the process ends stays remembered by the ledger, and the next process goes on with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NoReturn

import trio

from bridge.outbox.values import JobInFlight
from bridge.reconciliation.asking import Asking
from bridge.reconciliation.order import Key, portions
from bridge.reconciliation.ports import AskedAccount, ClosedGap, Rooms
from bridge.reconciliation.settlements import Fate, Settlements
from bridge.reconciliation.statistics import ReconciliationStatistics
from bridge.reconciliation.taking import Taker
from bridge.settings import ReconciliationSettings


__all__ = ["LISTEN_SECONDS", "LOOK_SECONDS", "PATIENCE_SECONDS", "Reconciler"]

# So long after a gap is only listened: running jobs are heard of every few seconds, and
# need no call then, of which a Basic account has 200 a day.
LISTEN_SECONDS: Final = 5.0

# Where nothing is asked, jobs have so long after a gap to be heard of: a running job is
# heard of every few seconds, and a webhook that failed comes again after a minute.
PATIENCE_SECONDS: Final = 60.0

# How often is looked which jobs are silent, and which unknown ones are known by now.
LOOK_SECONDS: Final = 60.0

# As long as the ledger remembers a gap that has closed: webhooks come for a day.
_KEEP_SECONDS: Final = 90_000.0

_US_PER_SECOND: Final = 1_000_000


def _now_us() -> int:
    return time.time_ns() // 1000


class Reconciler:
    """
    The reconciliation of all accounts of one process.

    Args:
        settings: When a job is silent, and when the endpoint is given up.
        sources: The `ce_source` of each client id.
        asked: The accounts that are asked about; none of them where that is off.
        rooms: The other rooms.
        max_event_bytes: The largest event that becomes a record.
        keep_jobs_seconds: How long the outbox remembers a job that nothing is heard of.
        listen_seconds: How long jobs have to be heard of before they are asked about.
        now_us: The time, microseconds since the epoch.

    Attributes:
        statistics: What was asked so far, and what came of it.
    """

    def __init__(  # noqa: PLR0913 - settings of other rooms, given by name
        self,
        settings: ReconciliationSettings,
        sources: Mapping[str, str],
        asked: Sequence[AskedAccount],
        rooms: Rooms,
        *,
        max_event_bytes: int,
        keep_jobs_seconds: float,
        listen_seconds: float = LISTEN_SECONDS,
        now_us: Callable[[], int] = _now_us,
    ) -> None:
        self.statistics = statistics = ReconciliationStatistics(sources)
        self._sources = dict(sources)
        self._jobs = rooms.jobs
        self._gaps = rooms.gaps
        self._now_us = now_us
        self._listen_seconds = listen_seconds
        self._keep_jobs_us = keep_jobs_seconds * _US_PER_SECOND
        self._settlements = Settlements(rooms.gaps.settle, statistics)
        taker = Taker(rooms, statistics, max_event_bytes, now_us)
        self._asking: dict[str, Asking] = {}
        for accounts in _by_budget(asked):
            asking = Asking(
                accounts,
                settings,
                jobs=rooms.jobs,
                settlements=self._settlements,
                taker=taker,
                statistics=statistics,
                forgotten_us=self._forgotten_us,
            )
            self._asking |= {account.client_id: asking for account in accounts}
        # Gaps that have closed, and jobs that a webhook ended.
        self._inbox: deque[ClosedGap | Key] = deque()
        self._bell = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._has_ended = False

    # -- For any thread --------------------------------------------------------

    def gap_closed(self, gap: ClosedGap) -> None:
        """
        Settle a gap; never waits.

        Args:
            gap: One that has closed, now or in the process before.
        """
        self._hand_over(gap)

    def written(self, client_id: str, request_id: str) -> None:
        """
        Note that a webhook ended a job; never waits.

        Args:
            client_id: Whose job.
            request_id: The job.
        """
        self._hand_over((client_id, request_id))

    def _hand_over(self, item: ClosedGap | Key) -> None:
        if self._has_ended:
            # What isn't settled stays remembered, for the next process.
            return
        self._inbox.append(item)
        token = self._token
        if token is not None:
            # The loop may be over by then.
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._ring, idempotent=True)

    def _ring(self) -> None:
        self._bell.set()

    # -- Tasks -----------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Settle gaps until cancelled; what is not settled then stays remembered."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            async with trio.open_nursery() as nursery:
                for asking in set(self._asking.values()):
                    nursery.start_soon(asking.run)
                nursery.start_soon(self._look_regularly)
                await self._settle(nursery)
        finally:
            self._has_ended = True
            self._inbox.clear()
        raise AssertionError("nothing but a cancellation ends it")

    async def _settle(self, nursery: trio.Nursery) -> None:
        """Take what is handed over, in order."""
        while True:
            self._bell = trio.Event()
            while self._inbox:
                item = self._inbox.popleft()
                if isinstance(item, tuple):
                    self._settlements.determined([item], Fate.ENDED)
                elif item.client_id in self._sources:
                    await self._begin(item, nursery)
            # No deadline: there is nothing to do until something is handed over.
            await self._bell.wait()

    async def _begin(self, gap: ClosedGap, nursery: trio.Nursery) -> None:
        """Find out which jobs a gap concerns, and have them found out about."""
        client_id, gap_id = gap.client_id, gap.gap_id
        jobs = await self._look(client_id)
        unknown = gap.unknown or 0
        until_us = self._now_us() if gap.until_us is None else gap.until_us
        at = trio.current_time()
        if not self._settlements.begin(gap_id, at, unknown, until_us=until_us):
            return
        for some in portions(jobs):
            concerned = [job for job in some if job.last_seen_us < until_us]
            self._settlements.add(gap_id, client_id, concerned)
            await trio.lowlevel.checkpoint()
        self._settlements.complete(gap_id)
        if not self._settlements.waiting(gap_id):
            return
        asking = self._asking.get(client_id)
        if asking is None:
            nursery.start_soon(self._be_patient, gap, self._settlements.latest)
        else:
            nursery.start_soon(self._ask, gap, asking)

    async def _ask(self, gap: ClosedGap, asking: Asking) -> None:
        """Have the jobs of a gap asked about, unless they are heard of before."""
        await trio.sleep(self._listen_seconds)
        for some in portions(self._settlements.waiting(gap.gap_id)):
            asking.put(some)
            await trio.lowlevel.checkpoint()

    async def _be_patient(self, gap: ClosedGap, number: int) -> None:
        """Give the jobs of a gap their time to be heard of, where nobody is asked."""
        await trio.sleep(PATIENCE_SECONDS)
        await self._look(gap.client_id)
        waiting = self._settlements.waiting(gap.gap_id)
        self._settlements.determined(waiting, Fate.UNKNOWN, number)

    async def _look_regularly(self) -> None:
        """Look what is silent, what is known by now, and what will never be."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            self._settlements.expire(trio.current_time() - _KEEP_SECONDS)
            self._gaps.expire()
            for client_id in self._sources:
                asking = self._asking.get(client_id)
                if asking is None and not self._settlements.jobs(client_id):
                    continue
                jobs = await self._look(client_id)
                if asking is not None:
                    await asking.look(client_id, jobs, self._now_us())

    async def _look(self, client_id: str) -> list[JobInFlight]:
        """Read an account's jobs, and enter what is new of those in the books."""
        books = self._settlements.jobs(client_id)

        def read() -> tuple[list[JobInFlight], dict[str, JobInFlight]]:
            jobs = self._jobs.of(self._sources[client_id])
            return jobs, {job.request_id: job for job in jobs} if books else {}

        jobs, known = await trio.to_thread.run_sync(read)
        for some in portions(list(books.items())):
            # What was entered meanwhile may be younger than what was read.
            same = (key for key, job in some if self._settlements.job(key) is job)
            found = {key: known.get(key[1]) for key in same}
            self._settlements.look_up(found, self._forgotten_us())
            await trio.lowlevel.checkpoint()
        return jobs

    def _forgotten_us(self) -> float:
        """Tell since when the outbox has forgotten what wasn't heard of."""
        return self._now_us() - self._keep_jobs_us


def _by_budget(accounts: Sequence[AskedAccount]) -> list[list[AskedAccount]]:
    """Put those together that share a budget."""
    shared: dict[int, list[AskedAccount]] = {}
    for account in accounts:
        shared.setdefault(id(account.budget), []).append(account)
    return list(shared.values())
