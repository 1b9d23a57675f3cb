"""
Webhooks on disk: written before they are answered, held for the socket's own event.

A webhook is released after its grace period. A monotonic clock measures it, so setting
the wall clock changes nothing. In the transaction that releases it, the outbox decides
whether it is still needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Final, NoReturn

import trio

from bridge.errors import OutboxError
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Origin, Record
from bridge.gaps.ledger import Ledger
from bridge.outbox import Outbox
from bridge.outbox.values import Delivery, Held
from bridge.threads import answer_of


__all__ = ["Holding"]

_US_PER_SECOND: Final = 1_000_000

# Read and released together: half a megabyte, and one transaction.
_BATCH: Final = 500

# Between checkpoints. After a day of short gaps each webhook is compared with a
# thousand of them, 0.1 ms.
_CHECKPOINT_EVERY: Final = 50

_PAUSE_SECONDS: Final = 0.1

# A webhook may be written after its sender got 503, because the disk was slow.
_SEARCH_SECONDS: Final = 30.0

# The outbox is full, or its file is being replaced.
_RETRY_SECONDS: Final = 1.0


class Holding:
    """
    Writes webhooks to the outbox, and releases them when they are due.

    Args:
        outbox: Holds them on disk.
        ledger: Has the gaps that a job's end heals.
        client_ids: The accounts by `ce_source`. Webhooks of others are released too.
        grace_period_seconds: The grace period.
        now_ns: The wall clock, nanoseconds since the epoch; read once.

    Attributes:
        released: The number of released webhooks, by what became of them.
    """

    def __init__(
        self,
        outbox: Outbox,
        ledger: Ledger,
        client_ids: Mapping[str, str],
        *,
        grace_period_seconds: float,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.released = {"written": 0, "superseded": 0}
        self._outbox = outbox
        self._ledger = ledger
        self._client_ids = client_ids
        self._grace_us = round(grace_period_seconds * _US_PER_SECOND)
        # The wall clock's time now, continued by trio's clock.
        self._offset_us = now_ns() // 1000 - self._trio_us()
        self._wake_us = 0
        self._sooner = trio.Event()

    async def take(
        self, delivery_id: str, record: Record, ended_us: int | None
    ) -> bool:
        """
        Write a webhook to disk, synced; only a job's record is held from then on.

        Args:
            delivery_id: The webhook's id.
            record: What it reports.
            ended_us: When its job ended, microseconds since the epoch, if known.

        Returns:
            Whether it is new.

        Raises:
            OutboxError: It can't be written.
            CancelledError: The outbox is closed; of `concurrent.futures`.
        """
        due_us = self._now_us() + (0 if record.status is None else self._grace_us)
        delivery = Delivery(delivery_id, record, due_us, ended_us)
        try:
            return await answer_of(self._outbox.take(delivery))
        finally:
            # It may be written though the wait for it was cancelled.
            if due_us < self._wake_us:
                self._wake_us = due_us
                self._sooner.set()

    async def run(self) -> NoReturn:
        """
        Release webhooks when they are due, also those of earlier processes.

        The clock of an earlier process may have been ahead. What couldn't be of this
        process is released at the latest `grace_period_seconds` after the start.
        """
        latest_us = self._now_us() + self._grace_us
        while True:
            # What is taken from now on may be missing in what is read next.
            self._wake_us = self._now_us() + round(_SEARCH_SECONDS * _US_PER_SECOND)
            try:
                rows = await answer_of(self._outbox.held(_BATCH))
                now_us = self._now_us()
                due = []
                for row in rows:
                    due_us = row.due_us
                    if due_us > max(now_us, latest_us) + self._grace_us:
                        due_us = latest_us
                    if due_us <= now_us:
                        due.append(row)
                    else:
                        self._wake_us = min(self._wake_us, due_us)
                await self._release(due)
            except (CancelledError, OutboxError):
                await trio.sleep(_RETRY_SECONDS)
                continue
            if len(due) == _BATCH:
                continue
            await trio.sleep(_PAUSE_SECONDS)
            while (left_us := self._wake_us - self._now_us()) > 0:
                self._sooner = trio.Event()
                with trio.move_on_after(left_us / _US_PER_SECOND):
                    await self._sooner.wait()

    async def _release(self, rows: Sequence[Held]) -> None:
        """Release webhooks in one transaction; raises if one of them failed."""
        asked: list[tuple[Held, Sequence[str], Future[bool]]] = []
        for number, row in enumerate(rows, 1):
            gap_ids = self._gaps_of(row)
            asked.append((row, gap_ids, self._outbox.release(row.place, gap_ids)))
            if number % _CHECKPOINT_EVERY == 0:
                await trio.lowlevel.checkpoint()
        failure: OutboxError | CancelledError | None = None
        for row, gap_ids, future in asked:
            try:
                is_written = await answer_of(future)
            except (CancelledError, OutboxError) as error:
                failure = error
                continue
            self.released["written" if is_written else "superseded"] += 1
            if is_written and row.record.status in TERMINAL_STATUSES:
                self._ledger.healed(gap_ids, Origin.WEBHOOK)
        if failure is not None:
            raise failure

    def _gaps_of(self, row: Held) -> Sequence[str]:
        """Return the gaps that a webhook heals if it is written."""
        record = row.record
        ce_source = record.envelope.ce_source
        client_id = self._client_ids.get(ce_source)
        if client_id is None or record.status not in TERMINAL_STATUSES:
            return ()
        assert record.key is not None, "what has a status has a key"
        job = self._outbox.jobs.find(ce_source, record.key.decode())
        last_seen_us = None if job is None else job.last_seen_us
        return self._ledger.healable(client_id, last_seen_us, row.ended_us)

    def _now_us(self) -> int:
        return self._offset_us + self._trio_us()

    @staticmethod
    def _trio_us() -> int:
        return int(trio.current_time() * _US_PER_SECOND)
