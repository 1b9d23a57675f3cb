"""
How much the outbox may still take: of its limit and of the disk.

The one place that decides that rows are refused. Acknowledging, claiming and
trimming are never refused here: they are what makes room, and for them and for
the log something is always left.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bridge.errors import OutboxFullError
from bridge.events.record import Importance, Record
from bridge.outbox.buffer import weigh
from bridge.outbox.disk.schema import log_bytes
from bridge.outbox.store import Store


__all__ = ["Room", "reserve_bytes"]

# What can bound it, as it is told.
_LIMIT = "outbox.max_bytes"
_DISK = "the disk has no room"
_FILE = "no file of this process may be longer (RLIMIT_FSIZE)"

# A row of just over a page takes two, and one of 200 bytes a little more than
# itself: twice its weight is never too little.
_PAGES_A_ROW = 2

# The disk keeps so much for acknowledgements and claims: a claim moves 4 MiB,
# once into the log and once into the database. Small disks keep a smaller share.
_DISK_RESERVE_BYTES = 16 * 2**20
_DISK_SHARE = 8

# What outbox and disk have is divided: in the last eighth previews go. The last
# 32nd (256 MiB of the usual 8 GiB: some 250,000 rows) is for the last events of
# jobs alone, and the last quarter of that for gap records alone.
_PREVIEWS_SHARE = 8
_LAST_EVENTS_SHARE = 32
_GAPS_SHARE = 128

# Webhooks that were taken, and of which nothing is left but that: 1 GiB of the usual
# 8 GiB. They are there for a day, and must not push events out of a small one.
_DELIVERIES_SHARE = 8

# A transaction takes 4 MiB, of a small outbox an eighth of the log's share: so
# acknowledgements and requests wait no longer than some 10 ms behind one. On a
# disk that is short it takes a quarter of what is left, and the log another; and
# where nothing is left, as little as is worth a commit.
_USUAL_STEP_BYTES = 4 * 2**20
_USUAL_STEPS = 8
_STEPS = 4
_LEAST_STEP_BYTES = 64 * 1024


class Room:
    """
    What may still be written, counted down with each commit.

    It is measured when it seems to run out and when `measure` is called, so
    that a commit usually costs a subtraction.

    Args:
        path: The database file.
        max_bytes: What database and log may take together.
        store: The store of that file.

    Attributes:
        used_bytes: What database and log take on the disk.
        step_bytes: What one transaction may write, claim or trim.
        reason: Why there is no more room, where there is none.
    """

    def __init__(self, path: Path, max_bytes: int, store: Store) -> None:
        self._database = path
        self._log = path.with_name(f"{path.name}-wal")
        self._max_bytes = max_bytes
        self._log_bytes = log_bytes(max_bytes)
        self._store = store
        self._bytes = 0
        self._divided_bytes = max_bytes
        self._emptied_at = 0
        self.used_bytes = 0
        self.step_bytes = _LEAST_STEP_BYTES
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
        if self.take(weight):
            return len(records)
        count = 0
        for record in records:
            is_last = record.importance is Importance.TERMINAL
            if not self._take(
                weigh(record), _GAPS_SHARE if is_last else _LAST_EVENTS_SHARE
            ):
                break
            count += 1
        return count

    def take(self, weight: int) -> bool:
        """Take room as `fit` does, for all or for nothing."""
        if self._take(weight, _LAST_EVENTS_SHARE):
            return True
        self.measure()
        return self._take(weight, _LAST_EVENTS_SHARE)

    def spend(self, weight: int) -> None:
        """Count what is written whether there is room for it or not."""
        self._bytes -= _PAGES_A_ROW * weight

    @property
    def is_near_its_end(self) -> bool:
        """Whether so little is left that previews aren't worth it."""
        return self._bytes < self._divided_bytes // _PREVIEWS_SHARE

    @property
    def is_bound_by_limit(self) -> bool:
        """Whether the limit will run out first: the disk has room for its log."""
        return self.reason.startswith(_LIMIT)

    @property
    def deliveries_bytes(self) -> int:
        """What may be taken by what is remembered of webhooks."""
        return self._divided_bytes // _DELIVERIES_SHARE

    def measure(self) -> None:
        """
        Look at the files and the disk.

        A disk that gets short has its log emptied first: rows in it take the
        room of two.
        """
        try:
            room = self._look()
            if room[_DISK] < min(room[_LIMIT], _PAGES_A_ROW * self._log_bytes):
                # Where this fails, it is the disk that has no room.
                with suppress(OutboxFullError):
                    self._store.file.checkpoint()
                room = self._look()
        except (OutboxFullError, OSError) as error:
            self._bytes, self.reason = 0, str(error)
            return
        self.reason, self._bytes = min(room.items(), key=lambda item: item[1])
        if self.reason == _LIMIT:
            self.reason = f"{_LIMIT} is {self._max_bytes}"

    def _take(self, weight: int, share: int) -> bool:
        left = self._bytes - _PAGES_A_ROW * weight
        if left < self._divided_bytes // share:
            return False
        self._bytes = left
        return True

    def _look(self) -> dict[str, int]:
        """Return the bytes of pages that each bound still allows."""
        with self._store.reading():
            pages = self._store.file.pages()
        database, log = _size(self._database), _size(self._log)
        self.used_bytes = database + log
        growth = self._max_bytes - self._log_bytes - pages.total_bytes
        disk = os.statvfs(self._database.parent)
        free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        reserve = reserve_bytes(total)
        # Each byte needs two on the disk: see below.
        self._divided_bytes = min(self._max_bytes, total // 2)
        # Pages that stand in the log alone will want a place in the database.
        owed = max(pages.total_bytes - database, 0)
        # What is written takes room in the log, and then in the database, as far
        # as no pages are free there. The log gives its room back: for it, half of
        # the reserve is enough.
        for_log = free - owed - reserve // 2
        by_disk = min(for_log, (free - owed - reserve + pages.free_bytes) // 2)
        longest = _longest_file_bytes()
        self._share(min(for_log, longest) // _STEPS)
        return {
            _LIMIT: pages.free_bytes + max(growth, 0),
            _DISK: by_disk,
            _FILE: longest
            - longest // _DISK_SHARE
            - (pages.total_bytes - pages.free_bytes),
        }

    def _share(self, step_bytes: int) -> None:
        """Keep transactions and the log as small as a short disk needs them."""
        usual = min(self._log_bytes // _USUAL_STEPS, _USUAL_STEP_BYTES)
        self.step_bytes = min(max(step_bytes, _LEAST_STEP_BYTES), usual)
        emptied_at = max(min(step_bytes, self._log_bytes // 2), 0)
        if emptied_at != self._emptied_at:
            self._emptied_at = emptied_at
            self._store.file.empty_log_at(emptied_at)


def reserve_bytes(total: int) -> int:
    """Tell how much of a disk of a size is kept free of records."""
    return min(_DISK_RESERVE_BYTES, total // _DISK_SHARE)


def _longest_file_bytes() -> int:
    """Tell how long this process may make a file (setrlimit(2), `ulimit -f`)."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # There is no log before the first commit.
        return 0
