"""
Lets the webhooks go on that wait on disk for the socket's own event.

Owns when: once their time is over, by a clock that never jumps, and at once where
there is nothing to wait for. Whether one is still needed then is decided by the outbox,
in the transaction that would write it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Final, NoReturn

import trio

from bridge.errors import OutboxError
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.outbox.values import Held
from bridge.threads import answer_of
from bridge.webhooks.ports import Find, Healable, Keeper, OnWritten
from bridge.webhooks.statistics import Release, WebhookStatistics


__all__ = ["Holding"]

# So many are asked for, and let go, together: half a megabyte, and one transaction.
_AT_ONCE: Final = 500

# So many in one turn of the loop: after a day of short gaps each has a thousand of them
# to look at, 0.1 ms.
_IN_A_TURN: Final = 50

# Looks that find little come no more often: each reads all that wait, up to the above.
_PACE_SECONDS: Final = 0.1

# What nobody said would be due: a webhook whose sender was told 503, since the disk was
# too slow, and that was laid down all the same.
_LOOK_AGAIN_SECONDS: Final = 30.0

# The outbox's file is being replaced, or it has ended: it says so itself.
_RETRY_SECONDS: Final = 1.0

_US_PER_SECOND: Final = 1_000_000
_NEVER_US: Final = sys.maxsize


class Holding:
    """
    Releases what is held, when its time is over.

    Args:
        keeper: Has it.
        find: Gives a job in flight.
        healable: Gives the gaps that a job's end heals.
        on_written: Is told of each job that has ended by its webhook.
        client_ids: The accounts, by `ce_source`; what is held of others goes, too.
        hold_seconds: How long one is held, as the receiver does.
        steady_us: The clock that the receiver has, too: see `steady`.
        statistics: Where it is counted.
    """

    def __init__(  # noqa: PLR0913 - the doors of four rooms, each given by name
        self,
        keeper: Keeper,
        *,
        find: Find,
        healable: Healable,
        on_written: OnWritten,
        client_ids: Mapping[str, str],
        hold_seconds: float,
        steady_us: Callable[[], int],
        statistics: WebhookStatistics,
    ) -> None:
        self._keeper = keeper
        self._find = find
        self._healable = healable
        self._on_written = on_written
        self._client_ids = client_ids
        self._hold_us = round(hold_seconds * _US_PER_SECOND)
        self._steady_us = steady_us
        self._statistics = statistics
        self._wake_us = 0
        self._sooner = trio.Event()
        # How many are looked at: more than usual until all were seen once.
        self._window = _AT_ONCE
        self._saw_all = False
        # Of an earlier process, whose clock was ahead: they are not due for longer than
        # any is held, and the last of all that `held` gives.
        self._ahead: dict[int, Held] = {}
        self._ahead_due_us = 0

    def expect(self, due_us: int) -> None:
        """
        Look when a webhook is due that has been laid down, or may have been.

        Args:
            due_us: When.
        """
        if due_us < self._wake_us:
            self._wake_us = due_us
            self._sooner.set()

    async def run(self) -> NoReturn:
        """
        Release what is held, also by earlier processes, until cancelled.

        Theirs is due when they said, and `hold_seconds` after the begin of this at the
        latest.
        """
        self._ahead_due_us = self._steady_us() + self._hold_us
        while True:
            # What is expected from now on may not be seen by this look.
            self._wake_us = _NEVER_US
            try:
                next_us = await self._look()
            except (CancelledError, OutboxError):
                self._saw_all = False
                await trio.sleep(_RETRY_SECONDS)
                continue
            if next_us is not None:
                self._wake_us = min(self._wake_us, next_us)
                await trio.sleep(_PACE_SECONDS)
                await self._wait()

    async def _wait(self) -> None:
        """Wait until it is time to look, which may turn out to be sooner."""
        while (left_us := self._wake_us - self._steady_us()) > 0:
            self._sooner = trio.Event()
            with trio.move_on_after(left_us / _US_PER_SECOND):
                await self._sooner.wait()

    async def _look(self) -> int | None:
        """
        Release what is due.

        Returns:
            When to look again; None for at once.

        Raises:
            OutboxError: Something could not be released now.
            CancelledError: The same; of `concurrent.futures`.
        """
        rows = await answer_of(self._keeper.held(self._window))
        now_us = self._steady_us()
        due: dict[int, Held] = {}
        waiting: list[Held] = []
        for row in rows:
            if row.record.status is None or row.due_us <= now_us:
                due[row.place] = row
            else:
                waiting.append(row)
                if row.due_us > now_us + self._hold_us:
                    self._ahead[row.place] = row
        if self._ahead and now_us >= self._ahead_due_us:
            due |= self._ahead
            self._ahead.clear()
        leaving = list(due.values())
        for begin in range(0, len(leaving), _AT_ONCE):
            await self._release(leaving[begin : begin + _AT_ONCE])
        if len(rows) < self._window:
            self._saw_all, self._window = True, _AT_ONCE
        elif not waiting:
            return None
        elif not self._saw_all:
            self._window *= 2
            return None
        next_us = now_us + round(_LOOK_AGAIN_SECONDS * _US_PER_SECOND)
        if waiting:
            next_us = min(next_us, waiting[0].due_us)
        return min(next_us, self._ahead_due_us) if self._ahead else next_us

    async def _release(self, rows: Sequence[Held]) -> None:
        """Let webhooks go together, and tell what became of each."""
        asked: list[tuple[Held, Sequence[str], Future[bool]]] = []
        for number, row in enumerate(rows, 1):
            gap_ids = self._gaps_of(row)
            asked.append((row, gap_ids, self._keeper.release(row.place, gap_ids)))
            if number % _IN_A_TURN == 0:
                await trio.lowlevel.checkpoint()
        failure: OutboxError | CancelledError | None = None
        for row, gap_ids, future in asked:
            try:
                is_written = await answer_of(future)
            except (CancelledError, OutboxError) as error:
                failure = error
                continue
            became = Release.WRITTEN if is_written else Release.SUPERSEDED
            self._statistics.released[became] += 1
            client_id = self._client_id_of(row)
            if is_written and client_id is not None and _ends_its_job(row):
                self._on_written(client_id, _request_id_of(row), gap_ids)
        if failure is not None:
            raise failure

    def _gaps_of(self, row: Held) -> Sequence[str]:
        """Give the gaps that a webhook heals, if it is written."""
        client_id = self._client_id_of(row)
        if client_id is None or not _ends_its_job(row):
            return ()
        job = self._find(row.record.envelope.ce_source, _request_id_of(row))
        last_seen_us = None if job is None else job.last_seen_us
        return self._healable(client_id, last_seen_us, row.ended_us)

    def _client_id_of(self, row: Held) -> str | None:
        return self._client_ids.get(row.record.envelope.ce_source)


def _ends_its_job(row: Held) -> bool:
    return row.record.status in TERMINAL_STATUSES


def _request_id_of(row: Held) -> str:
    assert row.record.key is not None, "what has a status has a key"
    return row.record.key.decode()
