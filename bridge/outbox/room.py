"""
How much the outbox may still take: of its limit and of the disk.

The one place that decides that rows are refused. Acknowledging, claiming and
trimming are never refused here: they are what makes room, and for them and for
the log something is always left.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bridge.errors import OutboxFullError
from bridge.outbox.buffer import weigh
from bridge.outbox.schema import log_bytes
from bridge.outbox.store import Store
from bridge.record import Record


__all__ = ["Room"]

# A row of just over a page takes two, and one of 200 bytes a little more than
# itself: twice its weight is never too little.
_PAGES_A_ROW = 2

# The disk keeps so much for acknowledgements and claims: a claim moves 4 MiB,
# once into the log and once into the database. Small disks keep a smaller share.
_DISK_RESERVE_BYTES = 16 * 2**20
_DISK_SHARE = 8


class Room:
    """
    What may still be written, counted down with each commit.

    It is measured when it seems to run out and when `measure` is called, so
    that a commit usually costs a subtraction.

    Args:
        path: The database file.
        max_bytes: What database and log may take together.
        store: The store of that file.
    """

    def __init__(self, path: Path, max_bytes: int, store: Store) -> None:
        self._database = path
        self._log = path.with_name(f"{path.name}-wal")
        self._max_bytes = max_bytes
        self._store = store
        self._bytes = 0
        self.used_bytes = 0
        self.reason = ""

    def fit(self, records: Sequence[Record], weight: int) -> int:
        """
        Take room for records as far as there is any.

        Args:
            records: In the order in which they are to be written.
            weight: What they weigh together, as `weigh` has it.

        Returns:
            How many fit, from the front. What isn't written after all is found
            again by the next measurement.
        """
        if self._take(weight):
            return len(records)
        self.measure()
        if self._take(weight):
            return len(records)
        count = 0
        while count < len(records) and self._take(weigh(records[count])):
            count += 1
        return count

    def measure(self) -> None:
        """
        Look at the files and the disk.

        A disk that gets short has its log emptied first: rows in it take the
        room of two.
        """
        try:
            by_limit, by_disk = self._look()
            if by_disk < min(by_limit, _PAGES_A_ROW * log_bytes(self._max_bytes)):
                # Where this fails, it is the disk that has no room.
                with suppress(OutboxFullError):
                    self._store.checkpoint()
                by_limit, by_disk = self._look()
        except (OutboxFullError, OSError) as error:
            self._bytes, self.reason = 0, str(error)
            return
        self._bytes = min(by_limit, by_disk)
        self.reason = (
            f"outbox.max_bytes is {self._max_bytes}"
            if by_limit <= by_disk
            else "the disk has no room"
        )

    def _take(self, weight: int) -> bool:
        if self._bytes < _PAGES_A_ROW * weight:
            return False
        self._bytes -= _PAGES_A_ROW * weight
        return True

    def _look(self) -> tuple[int, int]:
        """Return the bytes of pages that limit and disk still allow."""
        with self._store.reading():
            pages = self._store.pages()
        database, log = _size(self._database), _size(self._log)
        self.used_bytes = database + log
        growth = self._max_bytes - log_bytes(self._max_bytes) - pages.total_bytes
        disk = os.statvfs(self._database.parent)
        free = disk.f_bavail * disk.f_frsize
        reserve = min(_DISK_RESERVE_BYTES, disk.f_blocks * disk.f_frsize // _DISK_SHARE)
        # Pages that stand in the log alone will want a place in the database.
        owed = max(pages.total_bytes - database, 0)
        # What is written takes its room twice: in the log, then in the database.
        return pages.free_bytes + max(growth, 0), (free - owed - reserve) // 2


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # There is no log before the first commit.
        return 0
