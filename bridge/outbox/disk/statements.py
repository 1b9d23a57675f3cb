"""
Statements that take many rows at once.

Each step of a statement gives up the GIL and may wait a switch interval for it; so
rows go in by the hundred. What stands in the rows is decided elsewhere.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Sequence


__all__ = ["ManyRows"]

# SQLite takes 32,766 parameters a statement.
_ROWS_A_STATEMENT = (512, 128, 32, 8, 1)


class ManyRows:
    """
    One statement for any number of rows.

    Args:
        head: It up to its rows, `INSERT INTO rows VALUES` for instance.
        columns: How many columns a row has.
        tail: What follows the rows.
    """

    def __init__(self, head: str, columns: int, tail: str = "") -> None:
        self._columns = columns
        places = f"({','.join('?' * columns)})"
        self._statements = {
            size: f"{head} {','.join([places] * size)}{tail}"
            for size in _ROWS_A_STATEMENT
        }

    def run(self, connection: sqlite3.Connection, parameters: Sequence[object]) -> None:
        """Work on rows, all their columns one after the other."""
        start, left = 0, len(parameters) // self._columns
        for size, statement in self._statements.items():
            while left >= size:
                end = start + size * self._columns
                connection.execute(statement, parameters[start:end])
                start, left = end, left - size
