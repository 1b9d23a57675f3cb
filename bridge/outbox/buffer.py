"""
The buffer of records that wait for a commit, and what is dropped when it is full.

An offer never waits. One value decides: the larger of the uses of the buffer in memory
and of the disk. Without space a record is dropped when it is offered, the least
important first. Each such interval is reported as a loss.

The trio thread offers, the Kafka thread takes from the front. A deque's ends are safe
for that, and each counter has one writer, so no lock is needed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from bridge.events.record import Importance, Record
from bridge.outbox.quota import EVENTS_UP_TO, Quota
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.values import Loss


if TYPE_CHECKING:
    from bridge.outbox.store import Store


__all__ = ["Buffer", "Item", "Request", "total_weight", "weigh"]

_log = structlog.get_logger("bridge.outbox")

# A Record with its key, tuple and bytes headers beside the value's own bytes, by
# sys.getsizeof on CPython 3.11, rounded up.
_RECORD_BYTES = 350

# A header of one record: its tuple and the bytes object's own header.
_HEADER_BYTES = 100

# From here on previews are dropped: a buffer that the disk empties never comes so far,
# and events without previews have 4 MiB, 10,000 of them, in the quarter that is left.
_PREVIEWS_UP_TO = 3 / 4

# From this use on, the disk accepts only gap records: 256 MiB of the usual 8 GiB.
_TERMINAL_UP_TO = 31 / 32

# For so long nothing must be dropped before a loss is over. A flood fills and empties
# the buffer again and again, 118 times in 8 s as measured: that is one loss.
_CALM_SECONDS = 1.0

# A buffer that isn't emptied for so long has other trouble than a flood, such as a disk
# that hangs: then no reader waits for it. A full buffer of 16 MiB was on disk within
# 0.15 s with nothing else to do.
_PROGRESS_SECONDS = 2.0


class Request(msgspec.Struct, eq=False):
    """Work inside a transaction, behind all that was offered before it."""

    work: Callable[[Store], Any]
    future: Future[Any]
    # Whether a power loss may take nothing of it.
    is_synced: bool
    # Whether it fails at once without space: a webhook comes again.
    is_impatient: bool

    def done(self, store: Store) -> object:
        """Do what is asked, in a transaction; what can't be done is the answer."""
        if self.future.cancelled():
            return CancelledError()
        try:
            return self.work(store)
        except ValueError as error:
            return error

    def answer(self, result: object) -> bool:
        """Answer; False if it wasn't done."""
        error = result if isinstance(result, Exception) else None
        # Who asked may have stopped waiting meanwhile, also behind what was done.
        if self.future.set_running_or_notify_cancel():
            if error is None:
                self.future.set_result(result)
            else:
                self.future.set_exception(error)
        return error is None


class Item(msgspec.Struct):
    """Records or a request, and what they weigh; a request without a record nothing."""

    weight: int
    records: Sequence[Record] = ()
    request: Request | None = None


class _Open(msgspec.Struct):
    """A loss that lasts."""

    # As it was reported when it began.
    begun: Loss
    records: int = 0
    # When the last dropped record was read, and the first that was accepted again.
    last_us: int = 0
    until_us: int | None = None


def weigh(record: Record) -> int:
    """Return what a record weighs in memory, in bytes."""
    return total_weight((record,))


def total_weight(records: Sequence[Record]) -> int:
    """Return what records weigh together."""
    weight = sum([len(record.value) for record in records])
    weight += _RECORD_BYTES * len(records)
    for record in records:
        if record.extra:
            weight += sum([_HEADER_BYTES + len(value) for _, value in record.extra])
    return weight


class Buffer:
    """Records and requests on their way to disk, in the order in which they came."""

    def __init__(
        self,
        max_bytes: int,
        statistics: OutboxStatistics,
        quota: Quota,
        strip_preview: Callable[[Record], Record | None],
        on_loss: Callable[[Loss], None],
    ) -> None:
        self._max_bytes = max_bytes
        self._statistics = statistics
        self._quota = quota
        self._strip_preview = strip_preview
        self._on_loss = on_loss
        self._items: deque[Item] = deque()
        self._put_bytes = self._released_bytes = 0
        self._is_closed = False
        # When it was emptied last, as far as one commit empties it.
        self._released_at = 0.0
        # By cause and `ce_source`; at most one of each.
        self._losses: dict[tuple[str, str], _Open] = {}
        self._loss_count = 0
        self._dropped_at = 0.0
        # When the last record was read that was accepted.
        self._accepted_us: int | None = None

    @property
    def size_bytes(self) -> int:
        """What is in it and not yet released weighs."""
        return self._put_bytes - self._released_bytes

    def __len__(self) -> int:
        """How many items there are to take."""
        return len(self._items)

    # -- The trio thread ------------------------------------------------------

    @property
    def is_crowded(self) -> bool:
        """Whether it is more than half full and is being emptied."""
        if 2 * self.size_bytes <= self._max_bytes:
            return False
        return time.monotonic() - self._released_at < _PROGRESS_SECONDS

    def offer(self, records: Sequence[Record]) -> None:
        """Append records, each if there is space for it."""
        if not records:
            return
        weight = total_weight(records)
        if self._use(self.size_bytes + weight) > _PREVIEWS_UP_TO:
            records, weight = self._squeeze(records)
            if not records:
                return
        self.put(Item(weight, records))
        self._accepted_us = records[-1].received_at_us
        if self._losses:
            self._end_with(records)

    def has_space(self, weight: int) -> bool:
        """Whether there is space for what is sent again, such as a webhook."""
        return self._use(self.size_bytes + weight) <= EVENTS_UP_TO

    def put(self, item: Item) -> None:
        """Append an item; a request's future is cancelled if no commit follows."""
        self._put_bytes += item.weight
        self._items.append(item)
        # Looked at after appending: either `close` saw it, or this sees the end.
        if self._is_closed and item.request is not None:
            self.close()

    def report_losses(self, *, at_end: bool = False) -> None:
        """Report the losses that are over; to be called often."""
        calm = time.monotonic() - self._dropped_at > _CALM_SECONDS
        if not self._losses or not (calm or at_end):
            return
        for key, loss in list(self._losses.items()):
            if loss.until_us is not None:
                del self._losses[key]
                self._on_loss(
                    msgspec.structs.replace(
                        loss.begun, until_us=loss.until_us, records=loss.records
                    )
                )
        if not self._losses:
            _log.info(
                "buffer.has_space", dropped=sum(self._statistics.dropped.values())
            )

    def _squeeze(self, records: Sequence[Record]) -> tuple[list[Record], int]:
        """Judge records one by one, each by its importance."""
        kept: list[Record] = []
        weight = 0
        for offered in records:
            record = offered
            # What holds nothing takes one record of any size, so that no record can be
            # too large for it for good.
            held = self.size_bytes + weight
            use = self._use(held and held + weigh(record))
            if use > _PREVIEWS_UP_TO and record.importance is Importance.PICTURE:
                self._statistics.dropped_pictures += 1
                continue
            if use > _PREVIEWS_UP_TO and record.importance is Importance.PREVIEW:
                record = self._strip_preview(record) or record
                use = self._use(held and held + weigh(record))
            is_terminal = record.importance is Importance.TERMINAL
            if use > (_TERMINAL_UP_TO if is_terminal else EVENTS_UP_TO):
                before = kept[-1].received_at_us if kept else self._accepted_us
                self._drop(record, before)
                continue
            # Of an event that is dropped the preview isn't counted beside it.
            self._statistics.dropped_previews += record is not offered
            kept.append(record)
            weight += weigh(record)
        return kept, weight

    def _use(self, size_bytes: int) -> float:
        return max(size_bytes / self._max_bytes, self._quota.use)

    def _drop(self, record: Record, since_us: int | None) -> None:
        is_disk = self._quota.is_full or self._quota.use > EVENTS_UP_TO
        cause = "outbox_full" if is_disk else "overflow"
        self._statistics.dropped[cause] += 1
        self._dropped_at = time.monotonic()
        ce_source = record.envelope.ce_source
        loss = self._losses.get((cause, ce_source))
        if loss is None:
            if not self._losses:
                _log.error("buffer.overflow", cause=cause)
            self._loss_count += 1
            begun = Loss(self._loss_count, cause, ce_source, since_us, None, 0)
            loss = self._losses[cause, ce_source] = _Open(begun)
            self._on_loss(begun)
        loss.records += 1
        loss.last_us = max(loss.last_us, record.received_at_us)
        loss.until_us = None

    def _end_with(self, records: Sequence[Record]) -> None:
        """Note the end of losses, now that these records were accepted."""
        for loss in self._losses.values():
            if loss.until_us is None:
                later = (one.received_at_us for one in records)
                loss.until_us = next((us for us in later if us >= loss.last_us), None)
        self.report_losses()

    # -- The Kafka thread -----------------------------------------------------

    def take(self, max_rows: int, max_bytes: int) -> list[Item]:
        """Remove items from the front until a bound is reached; at least one record."""
        taken: list[Item] = []
        while self._items:
            item = self._items.popleft()
            count = len(item.records) or 1
            if count <= max_rows and item.weight <= max_bytes:
                taken.append(item)
                max_rows, max_bytes = max_rows - count, max_bytes - item.weight
                continue
            if item.request is not None:
                fits, part = (0, 0) if taken else (1, item.weight)
            else:
                fits, part = _fitting(item.records, max_rows, max_bytes, not taken)
            if fits:
                taken.append(Item(part, item.records[:fits], item.request))
            if fits < count:
                left = Item(item.weight - part, item.records[fits:], item.request)
                self._items.appendleft(left)
            break
        return taken

    def put_back(self, items: Sequence[Item]) -> None:
        """Put what `take` returned, and wasn't committed, in front again."""
        self._items.extendleft(reversed(items))

    def release(self, items: Sequence[Item], *, is_progress: bool = True) -> None:
        """Free the space of items that are on disk, or won't be."""
        if is_progress:
            self._released_at = time.monotonic()
        self._released_bytes += sum([item.weight for item in items])

    def close(self) -> int:
        """Cancel all requests; gives how many records no commit will write."""
        self._is_closed = True
        left = 0
        # Two threads may be at it: each takes what it gets.
        while self._items:
            try:
                item = self._items.popleft()
            except IndexError:
                break
            left += len(item.records)
            if item.request is not None:
                item.request.future.cancel()
        return left


def _fitting(
    records: Sequence[Record], max_rows: int, max_bytes: int, at_least: int
) -> tuple[int, int]:
    """Count the records from the front that keep two bounds, and weigh them."""
    count = size = 0
    for record in records[: max(max_rows, at_least)]:
        weight = weigh(record)
        if size + weight > max_bytes and count >= at_least:
            break
        count, size = count + 1, size + weight
    return count, size
