"""
What one process leaves to the next beside rows: proofs, open gaps, how it ended.

When an account was heard last, gaps that were opened and not closed, and whether the
process ended in order. What is made of it is the gap ledger's business.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Mapping

from bridge.record import LeftGap, Memory


__all__ = ["Remembered"]

# Under this name a process that ends in order says so.
_STOPPED = "stopped"


class Remembered:
    """
    The tables `accounts` and `gaps`, and what memory has of them.

    Memory has what is committed, so that it can be written into another file.

    Args:
        connection: The outbox's file.

    Attributes:
        proved_us: All that was sent before had arrived and was written, by account.
        gaps: The values of open gaps by their ids, in the order of opening.
        was_stopped: Whether the file says that its last process ended in order.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._proved: dict[str, int] = {}
        # None for a gap that is closed.
        self._changed_gaps: list[tuple[str, bytes | None]] = []
        # Whether the mark stands in the file, and what this transaction makes of it.
        self._is_marked = self._will_be_marked = False
        self.proved_us: dict[str, int] = {}
        self.gaps: dict[str, bytes] = {}
        self.was_stopped = False

    def load(self) -> None:
        """
        Read all of it.

        Raises:
            sqlite3.Error: It can't be read.
        """
        execute = self._connection.execute
        self.proved_us = dict(execute("SELECT ce_source, proved_us FROM accounts"))
        self.gaps = dict(execute("SELECT gap_id, value FROM gaps ORDER BY id"))
        (stopped,) = execute(
            "SELECT count(*) FROM meta WHERE name = ?", (_STOPPED,)
        ).fetchone()
        self.was_stopped = self._is_marked = self._will_be_marked = bool(stopped)

    def memory(self) -> Memory:
        """Tell what the process before has left."""
        return Memory(
            proved_us=dict(self.proved_us),
            was_stopped=self.was_stopped,
            left_gaps=tuple(map(LeftGap, self.gaps.values())),
        )

    # -- In a transaction -----------------------------------------------------

    def prove(self, proofs: Mapping[str, int]) -> None:
        """Write what is proved, in place of what was: it may be earlier."""
        for ce_source, proved_us in proofs.items():
            self._connection.execute(
                "INSERT OR REPLACE INTO accounts VALUES (?, ?)", (ce_source, proved_us)
            )
            self._proved[ce_source] = proved_us

    def open_gap(self, gap_id: str, value: bytes) -> None:
        """Remember a gap's value."""
        self._connection.execute(
            "INSERT INTO gaps (gap_id, value) VALUES (?, ?)"
            " ON CONFLICT (gap_id) DO UPDATE SET value = excluded.value",
            (gap_id, value),
        )
        self._changed_gaps.append((gap_id, value))

    def close_gap(self, gap_id: str) -> None:
        """Forget a gap; one that isn't known is none."""
        self._connection.execute("DELETE FROM gaps WHERE gap_id = ?", (gap_id,))
        self._changed_gaps.append((gap_id, None))

    def note_start(self) -> None:
        """Take away what the process before wrote at its end, if it is there."""
        if self._is_marked:
            self._connection.execute("DELETE FROM meta WHERE name = ?", (_STOPPED,))
            self._will_be_marked = False

    def note_stop(self) -> None:
        """Write that the process ends in order."""
        self._connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, '')", (_STOPPED,)
        )
        self._will_be_marked = True

    def take_over(self, before: Remembered) -> None:
        """Write what was remembered in another file."""
        self.prove(before.proved_us)
        for gap_id, value in before.gaps.items():
            self.open_gap(gap_id, value)
        self.was_stopped = before.was_stopped

    def committed(self) -> None:
        """Learn that the transaction holds."""
        if self._proved:
            self.proved_us.update(self._proved)
            self._proved.clear()
        for gap_id, value in self._changed_gaps:
            if value is None:
                self.gaps.pop(gap_id, None)
            else:
                self.gaps[gap_id] = value
        self._changed_gaps.clear()
        self._is_marked = self._will_be_marked

    def rolled_back(self) -> None:
        """Learn that the transaction was undone."""
        self._will_be_marked = self._is_marked
        self._proved.clear()
        self._changed_gaps.clear()
