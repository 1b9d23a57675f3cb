"""
The buffer between the reader and the outbox's thread, bounded by bytes.

The reader never waits: what finds no room is dropped and counted. Only this
module knows what a record weighs in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bridge.record import Record


__all__ = ["Buffer", "weigh"]

# A Record with its key, tuple and bytes headers beside the value's own bytes,
# by sys.getsizeof on CPython 3.11, rounded up.
_RECORD_BYTES = 350

# A header of one record: its tuple and the bytes object's own header.
_HEADER_BYTES = 100


def weigh(record: Record) -> int:
    """Return what a record weighs in memory, in bytes."""
    return len(record.value) + _RECORD_BYTES + _weigh_extra(record)


def _weigh_extra(record: Record) -> int:
    return sum([_HEADER_BYTES + len(value) for _, value in record.extra])


class Buffer:
    """
    Runs of records on their way to disk.

    One thread puts, another one takes; a deque's ends are safe for that.

    Args:
        max_bytes: What the records in it may weigh.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._runs: deque[tuple[Sequence[Record], int]] = deque()
        # Each counter has one writer, so that no lock is needed.
        self._put_bytes = 0
        self._taken_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What the records weigh that were put and not yet released."""
        return self._put_bytes - self._taken_bytes

    @property
    def is_relaxed(self) -> bool:
        """Whether at least half of it is free again."""
        return 2 * self.size_bytes <= self._max_bytes

    def __bool__(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._runs)

    def put(self, records: Sequence[Record]) -> int:
        """
        Add records in order, as many as there is room for.

        Args:
            records: Not changed by anybody from now on.

        Returns:
            How many were dropped, from the end.
        """
        # As `weigh`, in a way that costs a firehose half of it.
        weight = sum([len(record.value) for record in records])
        weight += _RECORD_BYTES * len(records)
        weight += sum([_weigh_extra(record) for record in records if record.extra])
        room = self._max_bytes - self.size_bytes
        dropped = 0
        if weight > room:
            # A buffer that holds nothing takes one record of any size, so that
            # no record can be too large for it for good.
            at_least = 1 if room == self._max_bytes else 0
            kept, weight = _fitting(records, len(records), room, at_least)
            dropped = len(records) - kept
            records = records[:kept]
        if records:
            self._put_bytes += weight
            self._runs.append((records, weight))
        return dropped

    def take(self, max_rows: int, max_bytes: int) -> tuple[list[Record], int]:
        """
        Remove records from the front until a bound is reached.

        Args:
            max_rows: At most so many.
            max_bytes: They weigh no more, unless the first one alone does.

        Returns:
            The records and the weight that `release` must be told.
        """
        taken: list[Record] = []
        size = 0
        while self._runs:
            records, weight = self._runs.popleft()
            rows, room = max_rows - len(taken), max_bytes - size
            if len(records) > rows or weight > room:
                at_least = 0 if taken else 1
                kept, part = _fitting(records, rows, room, at_least)
                if kept < len(records):
                    self._runs.appendleft((records[kept:], weight - part))
                taken += records[:kept]
                return taken, size + part
            taken += records
            size += weight
        return taken, size

    def release(self, size_bytes: int) -> None:
        """Give back the room of records that `take` gave and disk now has."""
        self._taken_bytes += size_bytes


def _fitting(
    records: Sequence[Record], max_rows: int, max_bytes: int, at_least: int
) -> tuple[int, int]:
    """Count the records from the front that keep two bounds, and weigh them."""
    count = size = 0
    for record in records[:max_rows]:
        weight = weigh(record)
        if size + weight > max_bytes and count >= at_least:
            break
        count, size = count + 1, size + weight
    return count, size
