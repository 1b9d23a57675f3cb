"""
The disk quota: how much more the outbox may write, by its limit and by the disk.

Acknowledging and trimming are never refused: they free space. A reserve is kept for
them and for the WAL.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from pathlib import Path

import structlog

from bridge.errors import OutboxFullError
from bridge.outbox.database import Database, wal_bytes


__all__ = ["EVENTS_UP_TO", "Quota", "reserve_bytes"]

_log = structlog.get_logger("bridge.outbox")


# A row of just over a page takes two, and one of 200 bytes a little more than itself:
# twice its weight is never too little.
_PAGES_A_ROW = 2

# So much of the disk is left for acknowledgements and the WAL. Small disks keep a
# smaller share.
_DISK_RESERVE_BYTES = 16 * 2**20
_DISK_SHARE = 8

# From this use on only the last events of jobs are accepted: 2 MiB of the buffer, 5,000
# events.
EVENTS_UP_TO = 7 / 8

# The last part is for gap records only, 64 MiB of the usual 8 GiB.
_GAPS_SHARE = 128

# A transaction takes 4 MiB, of a small outbox an eighth of the WAL's share: so
# acknowledgements wait no longer than some 10 ms behind one. On a disk that is short it
# takes a quarter of what is left, and the WAL another; where nothing is left, as little
# as is worth a commit.
_USUAL_STEP_BYTES = 4 * 2**20
_USUAL_STEPS = 8
_STEPS = 4
_LEAST_STEP_BYTES = 64 * 1024

# What was written counts as twice its weight, until it is measured: once a second, and
# on a disk or limit of which three quarters are used, whenever so much of it was.
_CLOSE = 3 / 4
_CLOSE_SHARE = 32

# A full outbox at which rows come and go is reported once: it is full no more when it
# has refused nothing for so long.
_CALM_SECONDS = 3.0


class Quota:
    """What may still be written, counted down with each commit."""

    def __init__(self, database: Database, max_bytes: int) -> None:
        self._database = database
        self._wal = database.path.with_name(f"{database.path.name}-wal")
        self._setting = max_bytes
        self._max_bytes = max_bytes = _limit(max_bytes)
        self._wal_bytes = wal_bytes(max_bytes)
        self._left = self._measured = self._whole = max_bytes
        self._emptied_at = self._content_bytes = 0
        # What database and WAL take on the disk, and what one transaction may write.
        self.used_bytes = 0
        self.step_bytes = _LEAST_STEP_BYTES
        # What bounds it, and whether something was refused lately; any thread may read
        # them.
        self.reason = ""
        self.is_full = False
        self._refused_at = 0.0
        self.measure()

    @property
    def use(self) -> float:
        """How much is used, from 0 to 1; for any thread."""
        return 1.0 - max(self._left, 0) / self._whole

    def has_space(self, weight: int) -> bool:
        """Whether records of a weight may be written; measures where they may not."""
        if self._fits(weight):
            return True
        self.measure()
        return self._fits(weight)

    def refuse(self, reason: str) -> None:
        """Note that something can't be written."""
        self._refused_at = time.monotonic()
        if not self.is_full:
            self.is_full = True
            _log.error("outbox.full", path=str(self._database.path), reason=reason)

    def spend(self, weight: int) -> None:
        """Count what was written."""
        self._left -= _PAGES_A_ROW * weight
        spent = self._measured - self._left
        if self.use > _CLOSE and spent > self._whole / _CLOSE_SHARE:
            self.measure()

    def measure(self) -> None:
        """Look at files and disk; one that gets short has its WAL emptied first."""
        try:
            by_limit, by_disk = self._look()
            # Rows in the WAL take the space of two.
            if by_disk < min(by_limit, _PAGES_A_ROW * self._wal_bytes):
                # Where this fails, it is the disk that is full.
                with suppress(OutboxFullError):
                    self._database.checkpoint()
                by_limit, by_disk = self._look()
        except (OutboxFullError, OSError) as error:
            left, self.reason = 0, str(error)
        else:
            left = by_limit
            self.reason = f"outbox.max_bytes or `ulimit -f` is {self._max_bytes}"
            if by_disk < by_limit:
                left, self.reason = by_disk, "the disk has no room"
        # What others have of a disk isn't this one's use.
        self._whole = max(self._content_bytes + max(left, 0), 1)
        self._left = self._measured = left
        # Events are refused by then: see `Buffer`.
        if self.use > EVENTS_UP_TO:
            self.refuse(self.reason)
        elif self.is_full and time.monotonic() - self._refused_at > _CALM_SECONDS:
            self.is_full = False
            _log.info("outbox.has_space", path=str(self._database.path))

    def _fits(self, weight: int) -> bool:
        return self._left - _PAGES_A_ROW * weight >= self._whole // _GAPS_SHARE

    def _look(self) -> tuple[int, int]:
        """Return the bytes of pages that the limit and the disk still allow."""
        self._max_bytes = _limit(self._setting)
        total, unused = self._database.size_bytes()
        database, wal = _size(self._database.path), _size(self._wal)
        self.used_bytes = database + wal
        growth = self._max_bytes - self._wal_bytes - total
        disk = os.statvfs(self._database.path.parent)
        free = disk.f_bavail * disk.f_frsize
        reserve = reserve_bytes(disk.f_blocks * disk.f_frsize)
        self._content_bytes = total - unused
        # Pages that are only in the WAL will need a place in the database.
        owed = max(total - database, 0)
        # A write needs space in the WAL, and then in the database unless it has free
        # pages. The WAL releases its space, so half of the reserve is enough for it.
        for_wal = free - owed - reserve // 2
        by_disk = min(for_wal, (free - owed - reserve + unused) // 2)
        # A short disk needs small transactions and a small WAL.
        step_bytes = for_wal // _STEPS
        usual = min(self._wal_bytes // _USUAL_STEPS, _USUAL_STEP_BYTES)
        self.step_bytes = min(max(step_bytes, _LEAST_STEP_BYTES), usual)
        emptied_at = max(min(step_bytes, self._wal_bytes // 2), 0)
        if emptied_at != self._emptied_at:
            self._emptied_at = emptied_at
            self._database.empty_wal_at(emptied_at)
        return unused + max(growth, 0), by_disk


def reserve_bytes(total: int) -> int:
    """Return how much of a disk of a size is kept free of records."""
    return min(_DISK_RESERVE_BYTES, total // _DISK_SHARE)


def _limit(max_bytes: int) -> int:
    """Return the lower of a setting and what no file may exceed (`ulimit -f`) now."""
    longest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return max_bytes if longest == resource.RLIM_INFINITY else min(max_bytes, longest)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # There is no WAL before the first commit.
        return 0
