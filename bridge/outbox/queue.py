"""
What waits for the next commit: records and requests, in the order in which they came.

The trio thread appends, the Kafka thread takes from the front. A deque's ends are safe
for that, and each counter has one writer, so no lock is needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

import msgspec

from bridge.events.record import Record


if TYPE_CHECKING:
    from bridge.outbox.store import Store


__all__ = ["Item", "Queue", "Request", "total_weight", "weigh"]

# A Record with its key, tuple and bytes headers beside the value's own bytes, by
# sys.getsizeof on CPython 3.11, rounded up.
_RECORD_BYTES = 350

# A header of one record: its tuple and the bytes object's own header.
_HEADER_BYTES = 100


class Request(msgspec.Struct, eq=False):
    """Work inside a transaction, behind all that was offered before it."""

    work: Callable[[Store], Any]
    future: Future[Any]
    # Whether a power loss may take nothing of it.
    is_synced: bool = False
    # Whether it brings a record, which counts as accepted.
    is_record: bool = False
    # Whether it fails at once where there is no room: a webhook comes again.
    is_impatient: bool = False

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
    """Records or a request, and what they weigh."""

    weight: int
    records: Sequence[Record] = ()
    request: Request | None = None


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


class Queue:
    """Records and requests on their way to disk."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._put_bytes = self._taken_bytes = 0
        self._is_closed = False

    @property
    def size_bytes(self) -> int:
        """What is in it and not yet released weighs."""
        return self._put_bytes - self._taken_bytes

    def __len__(self) -> int:
        """How many items there are to take."""
        return len(self._items)

    # -- The trio thread ------------------------------------------------------

    def put(self, item: Item) -> None:
        """Append an item; a request's future is cancelled if no commit follows."""
        self._put_bytes += item.weight
        self._items.append(item)
        # Looked at after appending: either `close` saw it, or this sees the end.
        if self._is_closed and item.request is not None:
            self.close()

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

    def release(self, items: Sequence[Item]) -> None:
        """Free the room of items that are on disk, or won't be."""
        self._taken_bytes += sum([item.weight for item in items])

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
