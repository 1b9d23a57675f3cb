"""
What was taken from the buffer and is not on disk yet: the outbox's thread holds it.

What of it is written, and when, is decided in `writer`; here is what becomes of it
then, and what goes for want of room.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import structlog

from bridge.events.record import Record
from bridge.outbox.buffer import Buffer, total_weight
from bridge.outbox.losses import Dropped, Losses
from bridge.outbox.statistics import OutboxStatistics


__all__ = ["Hands"]

_log = structlog.get_logger("bridge.outbox")


class Hands:
    """
    Records between buffer and disk; for the outbox's thread.

    Args:
        buffer: Where they come from.
        losses: Told of what is given up.
        statistics: Tells whether the disk refuses rows.

    Attributes:
        records: Those that are in hands, in order.
        weight: What they weigh.
        kept_us: When the last record was read that is on disk.
    """

    def __init__(
        self, buffer: Buffer, losses: Losses, statistics: OutboxStatistics
    ) -> None:
        self._buffer = buffer
        self._losses = losses
        self._statistics = statistics
        self.records: list[Record] = []
        self.weight = 0
        self.kept_us: int | None = None

    def take(self, max_rows: int, max_bytes: int) -> None:
        """Take records of the buffer; there are none in hands."""
        self.records, self.weight = self._buffer.take(max_rows, max_bytes)

    def put_back(self) -> bool:
        """Lay what was not written back; False if there is no such thing."""
        records, weight = self.records, self.weight
        self.records, self.weight = [], 0
        self._buffer.put_back(records, weight)
        return bool(records)

    def release(self, committed: Sequence[Record], *, is_short: bool) -> None:
        """
        Let go of the first ones, which are on disk.

        Args:
            committed: They.
            is_short: Whether there is no room for those behind them.
        """
        if not committed:
            return
        weight = self.weight
        if len(committed) == len(self.records):
            self.records, self.weight = [], 0
        else:
            weight = total_weight(committed)
            self.records = self.records[len(committed) :]
            self.weight -= weight
        self._buffer.release(weight)
        self.kept_us = committed[-1].received_at_us
        if self._losses.await_record and not is_short and self._buffer.is_relaxed:
            self._losses.survive(committed)

    # -- What goes when there is no room ---------------------------------------

    def lighten(self) -> None:
        """Have rows go without their previews."""
        records, dropped = self._buffer.lighten(self.records)
        if dropped:
            lighter = total_weight(records)
            self._buffer.release(self.weight - lighter)
            self.records, self.weight = records, lighter
            self._losses.note("outbox_full", dropped)

    def shed(self) -> bool:
        """Make room in memory where the disk gives none; False if none was made."""
        if not self._buffer.is_crowded:
            return False
        dropped = self._buffer.shed(self.kept_us)
        self._losses.note("outbox_full", dropped)
        return bool(dropped)

    def give_up_others(self) -> None:
        """Give up what aren't last events of jobs."""
        self._give_up(self._buffer.shed(self.kept_us, to_the_end=True))

    def give_up_rest(self) -> None:
        """Count what was read and will not be written by this process."""
        self.put_back()
        rest, weight = self._buffer.take(sys.maxsize, sys.maxsize)
        self._give_up(Dropped.of(rest, self.kept_us))
        self._buffer.release(weight)

    def _give_up(self, dropped: Dropped) -> None:
        cause = "outbox_full" if self._statistics.full else "outbox_damaged"
        self._losses.note(cause, dropped)
        if dropped.records:
            _log.error("outbox.gave_up", records=dropped.records, cause=cause)
