"""The room in memory that all lanes share for rows on their way."""

from __future__ import annotations

from collections.abc import Collection

from bridge.events.record import StoredRecord


__all__ = ["Memory"]

# A StoredRecord with its ce_id and tuples beside its value's own bytes.
_ROW_BYTES = 500

# Rows that all lanes together keep in memory; a lane that finds no room reads
# its rows from the outbox later.
_MEMORY_BYTES = 32 * 2**20


class Memory:
    """
    What the lanes keep in memory together, in bytes.

    Args:
        max_bytes: What rows may weigh before lanes have to read them from disk.
    """

    def __init__(self, max_bytes: int = _MEMORY_BYTES) -> None:
        self._max_bytes = max_bytes
        self.used_bytes = 0

    def take(self, rows: Collection[StoredRecord]) -> bool:
        """Take room for rows; False if there is none."""
        size = _weigh(rows)
        if self.used_bytes + size > self._max_bytes:
            return False
        self.used_bytes += size
        return True

    def force(self, rows: Collection[StoredRecord]) -> None:
        """Take room for rows that are needed now, whether there is any or not."""
        self.used_bytes += _weigh(rows)

    def release(self, rows: Collection[StoredRecord]) -> None:
        """Give back the room of rows that were taken."""
        self.used_bytes -= _weigh(rows)


def _weigh(rows: Collection[StoredRecord]) -> int:
    return sum([len(row.value) for row in rows]) + _ROW_BYTES * len(rows)
