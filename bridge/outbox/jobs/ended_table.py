"""
How ended jobs outlive the process: a table that is only appended to.

It is written with the table of jobs and under the same marks: until those move, rows
of the outbox tell once more what has ended since. A row is as long as the jobs are
many that ended since the one before.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
import time

from bridge.outbox.jobs.ended import DIGEST_BYTES, Ended


__all__ = ["EndedTable"]

# What a row takes beside its digests.
_ROW_BYTES = 20


class EndedTable:
    """
    The table `ended`.

    Args:
        connection: The outbox's file.
        ended: The truth.
    """

    def __init__(self, connection: sqlite3.Connection, ended: Ended) -> None:
        self._connection = connection
        self._ended = ended
        # No number is used again by this process, written or not.
        self._last_row = 0
        # What this transaction writes: one row, or all anew; and up to where it
        # deletes.
        self._row: int | None = None
        self._rows: list[int] | None = None
        self._deleted = 0

    def load(self) -> None:
        """
        Learn from the file which jobs have ended.

        Raises:
            sqlite3.Error: It can't be read, or has changed since it was written; what
                could be read is known then.
        """
        now_us = time.time_ns() // 1000
        # Where a file before this one, or this one, was read already in part.
        is_filled = len(self._ended) > 0
        for row, ended_at_us, written in self._connection.execute(
            "SELECT id, ended_at_us, digests FROM ended ORDER BY id"
        ):
            self._last_row = row
            if not isinstance(ended_at_us, int) or not isinstance(written, bytes):
                raise sqlite3.DatabaseError(
                    f"row {row} of ended jobs has changed since it was written"
                )
            # A row from a time to come was written by a clock that was wrong.
            age_us = max(now_us - ended_at_us, 0)
            digests = written[: len(written) - len(written) % DIGEST_BYTES]
            if is_filled:
                digests = self._ended.missing(digests)
            self._ended.restore(digests, age_us / 1_000_000, row)
        self._ended.expire()

    # -- In a transaction -----------------------------------------------------

    def write(self) -> int:
        """
        Write what isn't written, delete what is forgotten; give how many bytes came.

        Should the transaction be undone, all of it is still to be done.
        """
        if self._rows is not None or self._row is not None:
            return 0
        if self._ended.gone_row > self._deleted:
            self._deleted = self._ended.gone_row
            self._connection.execute(
                "DELETE FROM ended WHERE id <= ?", (self._deleted,)
            )
        if not self._ended.unwritten:
            return 0
        self._row = self._add(bytes(self._ended.unwritten), 0.0)
        return _ROW_BYTES + len(self._ended.unwritten)

    def take_over(self) -> None:
        """Write all that is in memory into this file."""
        self._connection.execute("DELETE FROM ended")
        self._rows = [self._add(digests, age) for digests, age in self._ended.spans()]

    def committed(self) -> None:
        """Learn that the transaction holds."""
        if self._rows is not None:
            self._ended.rewritten(self._rows)
        elif self._row is not None:
            self._ended.written(self._row)
        self._row = self._rows = None

    def rolled_back(self) -> None:
        """Learn that the transaction was undone."""
        self._row = self._rows = None
        self._deleted = 0

    def _add(self, digests: bytes, age_seconds: float) -> int:
        self._last_row += 1
        ended_at_us = time.time_ns() // 1000 - int(age_seconds * 1_000_000)
        self._connection.execute(
            "INSERT INTO ended VALUES (?, ?, ?)", (self._last_row, ended_at_us, digests)
        )
        return self._last_row
