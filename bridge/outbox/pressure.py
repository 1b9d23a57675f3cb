"""
What is dropped when there is no room: one value decides, the larger of two uses.

That of the buffer in memory, and that of the disk. Nothing ever waits: what has no room
is dropped when it is offered, the least important first, and each such interval is
reported as a loss. All of it belongs to the trio thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from bridge.events.record import Importance, Record
from bridge.outbox.queue import Item, Queue, total_weight, weigh
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.values import Loss


__all__ = ["EVENTS_UP_TO", "Pressure"]

_log = structlog.get_logger("bridge.outbox")

# From here on previews are dropped: a buffer that the disk empties never comes so far,
# and events without previews have 4 MiB, 10,000 of them, in the quarter that is left.
_PREVIEWS_UP_TO = 3 / 4

# From here on only the last events of jobs have room: 2 MiB, 5,000 of them.
EVENTS_UP_TO = 7 / 8

# From here on only gap records have room, on the disk: 256 MiB of the usual 8 GiB.
_TERMINAL_UP_TO = 31 / 32

# For so long nothing must be dropped before a loss is over. A flood fills and empties
# the buffer again and again, 118 times in 8 s as measured: that is one loss.
_CALM_SECONDS = 1.0

# A buffer that isn't emptied for so long has other trouble than a flood, such as a disk
# that hangs: then no reader waits for it. A full buffer of 16 MiB was on disk within
# 0.15 s with nothing else to do.
_PROGRESS_SECONDS = 2.0


class _Open(msgspec.Struct):
    """A loss that lasts: see `Loss`."""

    number: int
    cause: str
    since_us: int | None
    records: int = 0
    # When the last dropped record was read, and the first that was accepted again.
    last_us: int = 0
    until_us: int | None = None


class Pressure:
    """Puts records into the queue, or drops them; the callbacks are `Outbox`'s."""

    def __init__(  # noqa: PLR0913 - its bounds and what it calls
        self,
        queue: Queue,
        max_bytes: int,
        statistics: OutboxStatistics,
        *,
        disk_use: Callable[[], float],
        strip_preview: Callable[[Record], Record | None],
        on_loss: Callable[[Loss], None],
    ) -> None:
        self._queue = queue
        self._max_bytes = max_bytes
        self._statistics = statistics
        self._disk_use = disk_use
        self._strip_preview = strip_preview
        self._on_loss = on_loss
        # By cause and `ce_source`; at most one of each.
        self._open: dict[tuple[str, str], _Open] = {}
        self._count = 0
        self._dropped_at = 0.0
        # When the last record was read that was accepted.
        self._accepted_us: int | None = None

    @property
    def is_crowded(self) -> bool:
        """Whether the buffer is more than half full and is being emptied."""
        if 2 * self._queue.size_bytes <= self._max_bytes:
            return False
        return time.monotonic() - self._statistics.committed_at < _PROGRESS_SECONDS

    def offer(self, records: Sequence[Record]) -> None:
        """Put records into the queue, as far as each has room."""
        if not records:
            return
        weight = total_weight(records)
        use = (self._queue.size_bytes + weight) / self._max_bytes
        if max(use, self._disk_use()) > _PREVIEWS_UP_TO:
            records, weight = self._squeeze(records)
            if not records:
                return
        self._queue.put(Item(weight, records))
        self._accepted_us = records[-1].received_at_us
        if self._open:
            self._end_with(records)

    def has_room(self, weight: int) -> bool:
        """Whether there is room for what can come again, such as a webhook."""
        use = (self._queue.size_bytes + weight) / self._max_bytes
        return max(use, self._disk_use()) <= EVENTS_UP_TO

    def settle(self, *, at_end: bool = False) -> None:
        """Report the losses that are over; to be called often."""
        calm = time.monotonic() - self._dropped_at > _CALM_SECONDS
        if not self._open or not (calm or at_end):
            return
        for key, loss in list(self._open.items()):
            if loss.until_us is not None:
                del self._open[key]
                self._report(key[1], loss)
        if not self._open:
            _log.info("buffer.has_room", dropped=sum(self._statistics.dropped.values()))

    def _squeeze(self, records: Sequence[Record]) -> tuple[list[Record], int]:
        """Judge records one by one, each by its importance."""
        kept: list[Record] = []
        weight = 0
        for offered in records:
            record: Record | None = offered
            # A buffer that holds nothing takes one record of any size, so that no
            # record can be too large for it for good.
            held = self._queue.size_bytes + weight
            use = self._use(held, offered)
            if use > _PREVIEWS_UP_TO and offered.importance <= Importance.PREVIEW:
                record = self._strip(offered)
                if record is None:
                    continue
                use = self._use(held, record)
            assert record is not None
            is_terminal = record.importance is Importance.TERMINAL
            if use > (_TERMINAL_UP_TO if is_terminal else EVENTS_UP_TO):
                since = kept[-1].received_at_us if kept else self._accepted_us
                self._drop(record, since)
                continue
            # Of an event that is dropped the preview isn't counted beside it.
            self._statistics.dropped_previews += record is not offered
            kept.append(record)
            weight += weigh(record)
        return kept, weight

    def _use(self, held_bytes: int, record: Record) -> float:
        use = (held_bytes + weigh(record)) / self._max_bytes if held_bytes else 0.0
        return max(use, self._disk_use())

    def _strip(self, record: Record) -> Record | None:
        """Return what is left of a record without its preview; None for nothing."""
        if record.importance is Importance.PICTURE:
            self._statistics.dropped_pictures += 1
            return None
        return self._strip_preview(record) or record

    def _drop(self, record: Record, since_us: int | None) -> None:
        cause = "outbox_full" if self._is_disk_full else "overflow"
        self._statistics.dropped[cause] += 1
        self._dropped_at = time.monotonic()
        key = cause, record.envelope.ce_source
        loss = self._open.get(key)
        if loss is None:
            if not self._open:
                _log.error("buffer.overflow", cause=cause)
            self._count += 1
            loss = self._open[key] = _Open(self._count, cause, since_us)
            self._report(key[1], loss)
        loss.records += 1
        loss.last_us = max(loss.last_us, record.received_at_us)
        loss.until_us = None

    @property
    def _is_disk_full(self) -> bool:
        return self._statistics.full or self._disk_use() > EVENTS_UP_TO

    def _end_with(self, records: Sequence[Record]) -> None:
        """Note the end of losses, now that these records were accepted."""
        for loss in self._open.values():
            if loss.until_us is None:
                for record in records:
                    if record.received_at_us >= loss.last_us:
                        loss.until_us = record.received_at_us
                        break
        self.settle()

    def _report(self, ce_source: str, loss: _Open) -> None:
        self._on_loss(
            Loss(
                loss.number,
                loss.cause,
                ce_source,
                loss.since_us,
                loss.until_us,
                loss.records,
            )
        )
