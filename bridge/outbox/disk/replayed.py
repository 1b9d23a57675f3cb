"""
Which dead letters' events went through this outbox: none goes twice.

A letter is known by its `ce_id`, which is never another one's, wherever and however
often the letter stands. It is noted in the transaction that writes the event's rows,
so that a death at any moment leaves both or neither.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Iterable

from bridge.outbox.disk.statements import ManyRows


__all__ = ["Replayed"]

_insert = ManyRows("INSERT INTO replayed VALUES", columns=1).run


class Replayed:
    """
    The table `replayed`; it has no mirror in memory.

    Args:
        connection: The outbox's file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def known(self, ce_ids: Iterable[str]) -> set[str]:
        """Give those of the letters that were replayed."""
        execute = self._connection.execute
        return {
            ce_id
            for ce_id in ce_ids
            if execute("SELECT 1 FROM replayed WHERE ce_id = ?", (ce_id,)).fetchone()
        }

    def note(self, ce_ids: Iterable[str]) -> set[str]:
        """
        Note letters as replayed; belongs into a transaction.

        Returns:
            Those that were not noted before.
        """
        # The first of the same kind counts: a letter can stand on its topic twice.
        unique = dict.fromkeys(ce_ids)
        new = unique.keys() - self.known(unique)
        _insert(self._connection, list(new))
        return new
