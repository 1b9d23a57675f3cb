"""
Releases the webhooks that are held on disk for the socket's own event.

A webhook is due after its time, by a clock that never jumps: the wall clock is set by
others, and would release it at once, or hours later. Whether it is still needed then is
decided by the outbox, in the transaction that writes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Final, NoReturn

import trio

from bridge.errors import OutboxError
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Origin
from bridge.gaps.ledger import Ledger
from bridge.outbox import Outbox
from bridge.outbox.values import Held
from bridge.threads import answer_of


__all__ = ["Holding", "steady_clock"]

# So many are read, and released, together: half a megabyte, and one transaction.
_AT_ONCE: Final = 500

# So many in one turn of the loop: after a day of short gaps each has a thousand of them
# to look at, 0.1 ms.
_IN_A_TURN: Final = 50

# Looks come no more often: each reads all that wait, up to the above.
_PACE_SECONDS: Final = 0.1

# A webhook whose sender got 503, since the disk was too slow, may be held all the same.
_LOOK_SECONDS: Final = 30.0

# The outbox has no room, or is closed: it says so itself.
_RETRY_SECONDS: Final = 1.0


class Holding:
    """
    Releases what is held, when its time is over.

    Args:
        outbox: Holds it.
        ledger: Knows the gaps that a job's end heals.
        client_ids: The accounts by `ce_source`; what is held for others goes, too.
        hold_seconds: How long a webhook is held.
        steady_us: See `steady_clock`.

    Attributes:
        released: Webhooks that were released, by what became of them.
    """

    def __init__(
        self,
        outbox: Outbox,
        ledger: Ledger,
        client_ids: Mapping[str, str],
        *,
        hold_seconds: float,
        steady_us: Callable[[], int],
    ) -> None:
        self.released = {"written": 0, "superseded": 0}
        self._outbox = outbox
        self._ledger = ledger
        self._client_ids = client_ids
        self._hold_us = round(hold_seconds * 1_000_000)
        self._steady_us = steady_us
        self._wake_us = 0
        self._sooner = trio.Event()

    def expect(self, due_us: int) -> None:
        """Look when a webhook is due that is held from now on, or may be."""
        if due_us < self._wake_us:
            self._wake_us = due_us
            self._sooner.set()

    async def run(self) -> NoReturn:
        """
        Release what is held, also by earlier processes, until cancelled.

        Theirs is due when they said, and at the latest `hold_seconds` from now: their
        clock may have been ahead.
        """
        latest_us = self._steady_us() + self._hold_us
        while True:
            # What is expected from now on may not be seen by this look.
            self._wake_us = self._steady_us() + round(_LOOK_SECONDS * 1_000_000)
            try:
                rows = await answer_of(self._outbox.held(_AT_ONCE))
                now_us = self._steady_us()
                due = [row for row in rows if self._due_us(row, latest_us) <= now_us]
                await self._release(due)
            except (CancelledError, OutboxError):
                await trio.sleep(_RETRY_SECONDS)
                continue
            if len(due) == _AT_ONCE:
                continue
            for row in rows:
                if row not in due:
                    self._wake_us = min(self._wake_us, self._due_us(row, latest_us))
            await trio.sleep(_PACE_SECONDS)
            while (left_us := self._wake_us - self._steady_us()) > 0:
                self._sooner = trio.Event()
                with trio.move_on_after(left_us / 1_000_000):
                    await self._sooner.wait()

    def _due_us(self, row: Held, latest_us: int) -> int:
        # None of this process is due later than from now on.
        is_ahead = row.due_us > max(self._steady_us(), latest_us) + self._hold_us
        return latest_us if is_ahead else row.due_us

    async def _release(self, rows: Sequence[Held]) -> None:
        """Release webhooks together; raises if some can't be released now."""
        asked: list[tuple[Held, Sequence[str], Future[bool]]] = []
        for number, row in enumerate(rows, 1):
            gap_ids = self._gaps_of(row)
            asked.append((row, gap_ids, self._outbox.release(row.place, gap_ids)))
            if number % _IN_A_TURN == 0:
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
        """Return the gaps that a webhook heals, if it is written."""
        record = row.record
        ce_source = record.envelope.ce_source
        client_id = self._client_ids.get(ce_source)
        if client_id is None or record.status not in TERMINAL_STATUSES:
            return ()
        assert record.key is not None, "what has a status has a key"
        job = self._outbox.jobs.find(ce_source, record.key.decode())
        last_seen_us = None if job is None else job.last_seen_us
        return self._ledger.healable(client_id, last_seen_us, row.ended_us)


def steady_clock(now_ns: Callable[[], int] = time.time_ns) -> Callable[[], int]:
    """
    Make a clock that goes on from the wall clock's time of now, and never jumps.

    Args:
        now_ns: The wall clock, nanoseconds since the epoch; read once.

    Returns:
        The clock, microseconds since the epoch.
    """
    begun_us, begun = now_ns() // 1000, trio.current_time()
    return lambda: begun_us + int((trio.current_time() - begun) * 1_000_000)
