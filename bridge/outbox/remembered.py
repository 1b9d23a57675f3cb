"""
What one process leaves to the next beside rows: proofs, gaps, calls, how it ended.

When an account was heard last, gaps of which not all is known, how often the status
endpoint was asked, and whether the process ended in order. What is made of it is the
gap ledger's business, or that of whoever asks.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from bridge.outbox.records import LeftGap, Memory, Spent


__all__ = ["Remembered"]

# Under this name a process that ends in order says so.
_STOPPED = "stopped"


class Remembered:
    """
    The tables `accounts`, `gaps` and `spent`, and what memory has of them.

    Memory has what is committed, so that it can be written into another file.

    Args:
        connection: The outbox's file.

    Attributes:
        proved_us: All that was sent before had arrived and was written, by account.
        gaps: The gaps by their ids, in the order of opening.
        spent: What was asked of the status endpoint, by account.
        was_stopped: Whether the file says that its last process ended in order.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._proved: dict[str, int] = {}
        # All gaps as this transaction makes them; None while it changes none.
        self._changed_gaps: dict[str, LeftGap] | None = None
        self._asked: dict[str, Spent] = {}
        # Whether the mark stands in the file, and what this transaction makes of it.
        self._is_marked = self._will_be_marked = False
        self.proved_us: dict[str, int] = {}
        self.gaps: dict[str, LeftGap] = {}
        self.spent: dict[str, Spent] = {}
        self.was_stopped = False

    def load(self) -> None:
        """
        Read all of it.

        Raises:
            sqlite3.Error: It can't be read.
        """
        execute = self._connection.execute
        self.proved_us = dict(execute("SELECT ce_source, proved_us FROM accounts"))
        # A damaged file of an older format has fewer columns.
        self.gaps = {
            gap_id: LeftGap(*values)
            for _, gap_id, *values in execute("SELECT * FROM gaps ORDER BY id")
        }
        (stopped,) = execute(
            "SELECT count(*) FROM meta WHERE name = ?", (_STOPPED,)
        ).fetchone()
        self.was_stopped = self._is_marked = self._will_be_marked = bool(stopped)
        # At the end: a damaged file of an older format has no such table.
        self.spent = {
            ce_source: Spent(*values)
            for ce_source, *values in execute("SELECT * FROM spent")
        }

    def memory(self) -> Memory:
        """Tell what the process before has left."""
        return Memory(
            proved_us=dict(self.proved_us),
            was_stopped=self.was_stopped,
            left_gaps=tuple(self.gaps.values()),
            spent=dict(self.spent),
        )

    # -- In a transaction -----------------------------------------------------

    def prove(self, proofs: Mapping[str, int]) -> None:
        """Write what is proved, in place of what was: it may be earlier."""
        for ce_source, proved_us in proofs.items():
            self._connection.execute(
                "INSERT OR REPLACE INTO accounts VALUES (?, ?)", (ce_source, proved_us)
            )
            self._proved[ce_source] = proved_us

    def spend(self, spent: Mapping[str, Spent]) -> None:
        """Write what accounts have asked, in place of what they had before."""
        for ce_source, asked in spent.items():
            self._connection.execute(
                "INSERT OR REPLACE INTO spent VALUES (?, ?, ?)",
                (ce_source, asked.since_us, asked.calls),
            )
            self._asked[ce_source] = asked

    def open_gap(self, gap_id: str, value: bytes) -> None:
        """Remember a gap's value; of one that is known what was healed stays."""
        gaps = self._gaps()
        gap = gaps.get(gap_id, LeftGap(value))
        self._write_gap(gap_id, msgspec.structs.replace(gap, value=value))

    def heal(
        self,
        gap_ids: Sequence[str],
        by: Literal["healed_by_status_endpoint", "healed_by_webhook"],
    ) -> None:
        """Count that a job of gaps is healed; those that aren't known are none."""
        for gap_id in gap_ids:
            gap = self._gaps().get(gap_id)
            if gap is not None:
                count = getattr(gap, by) + 1
                self._write_gap(gap_id, msgspec.structs.replace(gap, **{by: count}))

    def close_gap(self, gap_id: str) -> None:
        """Forget a gap; one that isn't known is none."""
        self._connection.execute("DELETE FROM gaps WHERE gap_id = ?", (gap_id,))
        self._gaps().pop(gap_id, None)

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
        self.spend(before.spent)
        for gap_id, gap in before.gaps.items():
            self._write_gap(gap_id, gap)
        self.was_stopped = before.was_stopped

    def committed(self) -> None:
        """Learn that the transaction holds."""
        if self._proved:
            self.proved_us.update(self._proved)
            self._proved.clear()
        if self._asked:
            self.spent.update(self._asked)
            self._asked.clear()
        if self._changed_gaps is not None:
            self.gaps, self._changed_gaps = self._changed_gaps, None
        self._is_marked = self._will_be_marked

    def rolled_back(self) -> None:
        """Learn that the transaction was undone."""
        self._will_be_marked = self._is_marked
        self._proved.clear()
        self._asked.clear()
        self._changed_gaps = None

    def _gaps(self) -> dict[str, LeftGap]:
        """Give all gaps, to be changed by this transaction."""
        if self._changed_gaps is None:
            self._changed_gaps = dict(self.gaps)
        return self._changed_gaps

    def _write_gap(self, gap_id: str, gap: LeftGap) -> None:
        self._connection.execute(
            "INSERT INTO gaps (gap_id, value, healed_by_status_endpoint,"
            " healed_by_webhook) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (gap_id) DO UPDATE SET value = excluded.value,"
            " healed_by_status_endpoint = excluded.healed_by_status_endpoint,"
            " healed_by_webhook = excluded.healed_by_webhook",
            (gap_id, *msgspec.structs.astuple(gap)),
        )
        self._gaps()[gap_id] = gap
