"""
One outbox's file: its transactions, its log and its size.

Where a transaction is undone, what was read from the file is read anew, so that memory
never runs ahead of it. What is done in one is the business of `store`; how a file is
made and opened, that of `schema`.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from bridge.errors import OutboxError
from bridge.outbox.disk import schema
from bridge.outbox.disk.failures import translated
from bridge.outbox.disk.schema import Pages
from bridge.outbox.rows.lanes import Lanes


__all__ = ["File"]


class _Mirror(Protocol):
    """Has in memory what stands in the file."""

    def load(self) -> None:
        """Read it anew."""


class _Witness(Protocol):
    """Holds what a transaction brings, until it is known what becomes of it."""

    def committed(self) -> None:
        """Learn that the transaction holds."""

    def rolled_back(self) -> None:
        """Learn that the transaction was undone."""


class File:
    """
    What SQLite is asked for beside rows.

    Args:
        connection: From `schema.open_database`.
        lanes: Its lanes, a mirror as well; they are read first.
        mirrors: The others, in the order in which they are read.
        witnesses: Who is told of the end, in this order.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        lanes: Lanes,
        mirrors: Sequence[_Mirror],
        witnesses: Sequence[_Witness],
    ) -> None:
        self._connection = connection
        self._lanes = lanes
        self._mirrors = (lanes, *mirrors)
        self._witnesses = witnesses
        self._is_stale = True
        # What SQLite was told last.
        self._is_synced = False
        with self.speaking():
            (self._page_bytes,) = connection.execute("PRAGMA page_size").fetchone()

    @contextmanager
    def transaction(self, *, is_synced: bool = False) -> Iterator[None]:
        """
        Commit what is done inside as one, or nothing of it.

        Args:
            is_synced: Have it on the disk itself by its end, so that a loss of power
                doesn't take it, nor anything before.

        Raises:
            OutboxFullError: The same may succeed later; all is undone.
            OutboxDamagedError: It will not; all is undone.
        """
        lanes = self._lanes
        assignments = lanes.assignments
        lanes.are_new = False
        try:
            with self.speaking():
                self._sync(is_synced=is_synced)
                self._connection.execute("BEGIN IMMEDIATE")
                self._refresh()
                yield
                self._connection.execute("COMMIT")
        except BaseException:
            lanes.assignments = assignments
            self._is_stale = True
            for witness in self._witnesses:
                witness.rolled_back()
            # Where the file can't be read now, the next use reads it.
            with suppress(sqlite3.Error):
                # SQLite itself rolls back on a full disk and some I/O errors.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self._refresh()
            raise
        for witness in self._witnesses:
            witness.committed()
        if lanes.are_new:
            # A power loss may take what wasn't synced. A lane that it took would
            # begin again at 1, beside what the log has of it.
            with suppress(OutboxError):
                self.checkpoint()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """
        Read what is committed, inside.

        Raises:
            OutboxFullError: The same may succeed later.
            OutboxDamagedError: It will not.
        """
        with self.speaking():
            self._refresh()
            yield

    def checkpoint(self) -> None:
        """
        Empty the log into the database and make its file short.

        Raises:
            OutboxFullError: There is no room for it; nothing is lost by that.
            OutboxDamagedError: A file can't be used any more.
        """
        with self.speaking():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def empty_log_at(self, size_bytes: int) -> None:
        """Have each commit empty the log that has become so long."""
        pages = max(size_bytes // self._page_bytes, 1)
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")

    def pages(self) -> Pages:
        """Tell how many bytes the database's pages take."""
        return schema.pages(self._connection)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Have SQLite's errors say what they mean here: see `failures`."""
        try:
            yield
        except sqlite3.Error as error:
            _, _, path = self._connection.execute("PRAGMA database_list").fetchone()
            raise translated(error, Path(path)) from error

    def _sync(self, *, is_synced: bool) -> None:
        """Say whether commits are synced; within a transaction it can't be said."""
        if is_synced is not self._is_synced:
            level = "FULL" if is_synced else "NORMAL"
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._is_synced = is_synced

    def _refresh(self) -> None:
        if self._is_stale:
            for mirror in self._mirrors:
                mirror.load()
            self._is_stale = False
