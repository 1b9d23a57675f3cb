"""
What one process leaves to the next beside rows: coverage, gaps, quota, how it stopped.

What is made of it is up to the gap ledger and the reconciliation.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - the outbox is SQLite
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from bridge.outbox.recovery import RECOVERED, Recovered
from bridge.outbox.values import LeftGap, Memory, Spent


__all__ = ["Remembered"]

# Under this name a process that stops in order says so.
_STOPPED = "stopped"


class Remembered:
    """The tables `accounts` and `gaps`; all but `read` belongs into a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._is_stopped = False
        # What a damaged file has lost, until its gap records are committed.
        self.recovered: Recovered | None = None
        self._numbers: dict[str, int] = {}

    def load(self) -> None:
        """Read what memory mirrors, at the start and after a rollback."""
        self._numbers = dict(self._execute("SELECT ce_source, id FROM accounts"))
        found = self._execute("SELECT 1 FROM meta WHERE name = ?", (_STOPPED,))
        self._is_stopped = found.fetchone() is not None
        found = self._execute("SELECT value FROM meta WHERE name = ?", (RECOVERED,))
        row = found.fetchone()
        self.recovered = row and msgspec.json.decode(row[0], type=Recovered)

    def read(self) -> Memory:
        """Return what the process before has left."""
        accounts = self._execute(
            "SELECT ce_source, covered_us, quota_since_us, quota_used FROM accounts"
        ).fetchall()
        gaps = self._execute(
            "SELECT value, healed_by_status_endpoint, healed_by_webhook"
            " FROM gaps ORDER BY id"
        )
        return Memory(
            proved_us={one[0]: one[1] for one in accounts if one[1] is not None},
            was_stopped=self._is_stopped,
            left_gaps=tuple(LeftGap(*values) for values in gaps),
            spent={
                one[0]: Spent(one[2], one[3]) for one in accounts if one[2] is not None
            },
        )

    def account_number(self, ce_source: str) -> int:
        """Return an account's number, adding the account if it is new."""
        number = self._numbers.get(ce_source)
        if number is None:
            number = max(self._numbers.values(), default=0) + 1
            self._execute(
                "INSERT INTO accounts (id, ce_source) VALUES (?, ?)",
                (number, ce_source),
            )
            self._numbers[ce_source] = number
        return number

    def prove(self, covered_us: Mapping[str, int]) -> None:
        """Write up to when everything of accounts has arrived; it may be earlier."""
        for ce_source, us in covered_us.items():
            self._execute(
                "UPDATE accounts SET covered_us = ? WHERE id = ?",
                (us, self.account_number(ce_source)),
            )

    def spend(self, spent: Mapping[str, Spent]) -> None:
        """Write what accounts have asked, in place of what they had before."""
        for ce_source, asked in spent.items():
            self._execute(
                "UPDATE accounts SET quota_since_us = ?, quota_used = ? WHERE id = ?",
                (asked.since_us, asked.calls, self.account_number(ce_source)),
            )

    def open_gap(self, gap_id: str, value: bytes) -> None:
        """Remember a gap's value; how much of a known one was healed is kept."""
        self._execute(
            "INSERT INTO gaps (gap_id, value) VALUES (?, ?)"
            " ON CONFLICT (gap_id) DO UPDATE SET value = excluded.value",
            (gap_id, value),
        )

    def heal(
        self,
        gap_ids: Sequence[str],
        by: Literal["healed_by_status_endpoint", "healed_by_webhook"],
    ) -> None:
        """Count that a job of gaps is healed; unknown gaps are ignored."""
        for gap_id in gap_ids:
            self._execute(
                f"UPDATE gaps SET {by} = {by} + 1 WHERE gap_id = ?",  # noqa: S608
                (gap_id,),
            )

    def close_gap(self, gap_id: str) -> None:
        """Forget a gap; an unknown one is ignored."""
        self._execute("DELETE FROM gaps WHERE gap_id = ?", (gap_id,))

    def forget_recovery(self) -> None:
        """Forget what a damaged file has lost, if one has."""
        if self.recovered is not None:
            self._execute("DELETE FROM meta WHERE name = ?", (RECOVERED,))
            self.recovered = None

    def note_start(self) -> None:
        """Delete what the process before wrote at its end, if it is there."""
        if self._is_stopped:
            self._execute("DELETE FROM meta WHERE name = ?", (_STOPPED,))
            self._is_stopped = False

    def note_stop(self) -> None:
        """Write that the process stops in order."""
        self._execute("INSERT OR REPLACE INTO meta VALUES (?, '')", (_STOPPED,))
        self._is_stopped = True
