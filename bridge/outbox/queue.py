"""
What waits for the next commit: records and requests, in the order in which they came.

The trio thread appends, the Kafka thread takes from the front. A deque's ends are safe
for that, and each counter has one writer, so no lock is needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import msgspec

from bridge.events.record import Record, StoredRecord


if TYPE_CHECKING:
    from bridge.outbox.store import Store


__all__ = ["Item", "Queue", "Request", "total_weight", "weigh"]

# A Record with its key, tuple and bytes headers beside the value's own bytes, by
# sys.getsizeof on CPython 3.11, rounded up.
_RECORD_BYTES = 350

# A header of one record: its tuple and the bytes object's own header.
_HEADER_BYTES = 100


class Request(msgspec.Struct):
    """Work that belongs behind all that was offered before it."""

    # Done inside a transaction; what it writes weighs so much, as `weigh` has it.
    work: Callable[[Store], Any]
    future: Future[Any]
    weight: int = 0
    # Whether a power loss may take nothing of it.
    is_synced: bool = False
    # Whether it brings a record, which counts as accepted.
    is_record: bool = False
    # Whether it fails at once where there is no room: a webhook comes again.
    is_impatient: bool = False


# Records with what they weigh together, or a request.
Item = tuple[Sequence[Record], int] | Request


def weigh(record: Record | StoredRecord) -> int:
    """Return what a record weighs in memory, in bytes."""
    return len(record.value) + _RECORD_BYTES + _weigh_extra(record)


def total_weight(records: Sequence[Record]) -> int:
    """Return what records weigh together: as `weigh`, at half of its cost."""
    weight = sum([len(record.value) for record in records])
    weight += _RECORD_BYTES * len(records)
    return weight + sum([_weigh_extra(record) for record in records if record.extra])


def _weigh_extra(record: Record | StoredRecord) -> int:
    return sum([_HEADER_BYTES + len(value) for _, value in record.extra])


class Queue:
    """Records and requests on their way to disk."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._put_bytes = self._taken_bytes = 0
        # Whether no commit follows.
        self.is_closed = False

    @property
    def size_bytes(self) -> int:
        """What is in it and not yet released weighs."""
        return self._put_bytes - self._taken_bytes

    def __bool__(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._items)

    # -- The trio thread ------------------------------------------------------

    def put(self, records: Sequence[Record], weight: int) -> None:
        """Append records that weigh so much together."""
        self._put_bytes += weight
        self._items.append((records, weight))

    def ask(self, request: Request) -> None:
        """Append a request; its future is cancelled if no commit follows."""
        self._put_bytes += request.weight
        self._items.append(request)
        # Looked at after appending: either `close` saw it, or this sees the end.
        if self.is_closed:
            self.close()

    # -- The Kafka thread -----------------------------------------------------

    def take(self, max_rows: int, max_bytes: int) -> list[Item]:
        """Remove items from the front until a bound is reached; at least one record."""
        taken: list[Item] = []
        rows = size = 0
        while self._items:
            item = self._items.popleft()
            weight = item.weight if isinstance(item, Request) else item[1]
            count = 1 if isinstance(item, Request) else len(item[0])
            if rows + count > max_rows or size + weight > max_bytes:
                if not isinstance(item, Request):
                    least = 0 if taken else 1
                    kept, part = _fitting(
                        item[0], max_rows - rows, max_bytes - size, least
                    )
                    if kept:
                        taken.append((item[0][:kept], part))
                    if kept < len(item[0]):
                        self._items.appendleft((item[0][kept:], weight - part))
                elif taken:
                    self._items.appendleft(item)
                else:
                    taken.append(item)
                break
            taken.append(item)
            rows += count
            size += weight
        return taken

    def put_back(self, items: Sequence[Item]) -> None:
        """Put what `take` returned, and wasn't committed, in front again."""
        self._items.extendleft(reversed(items))

    def release(self, items: Sequence[Item]) -> None:
        """Free the room of items that are on disk, or won't be."""
        for item in items:
            self._taken_bytes += item.weight if isinstance(item, Request) else item[1]

    def close(self) -> list[Record]:
        """Cancel all requests and return the records that no commit will write."""
        self.is_closed = True
        left: list[Record] = []
        # Two threads may be at it: each takes what it gets.
        while self._items:
            try:
                item = self._items.popleft()
            except IndexError:
                break
            if isinstance(item, Request):
                item.future.cancel()
            else:
                left += item[0]
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
