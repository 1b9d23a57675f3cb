"""
The buffer between the reader and the outbox's thread, bounded by bytes.

The reader never waits: what finds no room is dropped and counted. Only this
module knows what a record weighs in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bridge.record import Record


__all__ = ["Buffer"]

# A Record with its key, tuple and bytes headers beside the value's own bytes,
# by sys.getsizeof on CPython 3.11, rounded up.
_RECORD_BYTES = 350


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
        """What the records in the buffer weigh."""
        return self._put_bytes - self._taken_bytes

    def __bool__(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._runs)

    def put(self, records: Sequence[Record]) -> int:
        """
        Add records in order, as many as there is room for.

        Returns:
            How many were dropped, from the end.
        """
        size = sum([len(record.value) for record in records])
        size += _RECORD_BYTES * len(records)
        # A buffer that holds nothing takes what it is given, so that a single
        # record can never be too large for it.
        if self._runs and self.size_bytes + size > self._max_bytes:
            return self._put_some(records)
        self._put_bytes += size
        self._runs.append((records, size))
        return 0

    def take(self, max_rows: int, max_bytes: int) -> tuple[list[Record], int]:
        """
        Remove records from the front until a bound is reached.

        Args:
            max_rows: Take no further run once there are so many.
            max_bytes: Take no further run once they weigh so much.

        Returns:
            The records and the weight that `release` must be told.
        """
        taken: list[Record] = []
        size = 0
        while self._runs and len(taken) < max_rows and size < max_bytes:
            records, weight = self._runs.popleft()
            taken += records
            size += weight
        return taken, size

    def release(self, size_bytes: int) -> None:
        """Give back the room of records that `take` gave and disk now has."""
        self._taken_bytes += size_bytes

    def _put_some(self, records: Sequence[Record]) -> int:
        room = self._max_bytes - self.size_bytes
        kept, size = 0, 0
        for record in records:
            weight = len(record.value) + _RECORD_BYTES
            if size + weight > room:
                break
            kept, size = kept + 1, size + weight
        if kept:
            self._put_bytes += size
            self._runs.append((records[:kept], size))
        return len(records) - kept
