"""
The webhooks that are held for the socket's own event.

Each stands in the file as the whole record that it may become. When it leaves, and
whether as a row, is decided elsewhere.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
import time
from collections.abc import Iterable

import msgspec

from bridge.events.record import Record
from bridge.outbox.disk.schema import MAX_INTEGER
from bridge.outbox.records import Delivery, Held
from bridge.outbox.rows.table import checksum


__all__ = ["Holding", "decode"]

# The names of a record's fields stand in the file: one that is renamed needs a new
# format.
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode

_Row = tuple[int, int, int | None, bytes, int]


class Holding:
    """
    The table `held`; of it memory has how many there are.

    Args:
        connection: The outbox's file.

    Attributes:
        count: How many are held.
        last_place: The highest that is held, or was by this process.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.count = 0
        self.last_place = 0

    def load(self) -> None:
        """
        Count them.

        Raises:
            sqlite3.Error: They can't be read.
        """
        self.count, last_place = self._connection.execute(
            "SELECT count(*), coalesce(max(place), 0) FROM held"
        ).fetchone()
        self.last_place = max(self.last_place, last_place)

    def read(self, max_rows: int) -> list[Held]:
        """
        Give those that are due first, in that order.

        Raises:
            sqlite3.DatabaseError: One isn't what was written.
        """
        found = self._connection.execute(
            "SELECT * FROM held ORDER BY due_us, place LIMIT ?", (max_rows,)
        )
        return [decode(row) for row in found]

    def find(self, place: int) -> Held | None:
        """
        Give one; None if it has left.

        Raises:
            sqlite3.DatabaseError: It isn't what was written.
        """
        row = self._connection.execute(
            "SELECT * FROM held WHERE place = ?", (place,)
        ).fetchone()
        return None if row is None else decode(row)

    # -- In a transaction -----------------------------------------------------

    def add(self, delivery: Delivery) -> None:
        """Hold a webhook."""
        # The time, so that no file before this one has given the same place.
        place = max(self.last_place + 1, time.time_ns() // 1000)
        self._write(
            Held(place, delivery.record, delivery.due_us, delivery.ended_us),
        )

    def restore(self, all_held: Iterable[Held]) -> list[Held]:
        """Hold what a damaged file has; give those that weren't held already."""
        new = [held for held in all_held if self.find(held.place) is None]
        for held in new:
            self._write(held)
        return new

    def let_go(self, place: int) -> None:
        """Hold one no longer; it must be held."""
        self._connection.execute("DELETE FROM held WHERE place = ?", (place,))
        self.count -= 1

    def _write(self, held: Held) -> None:
        record = _encode(held.record)
        due_us = _bounded(held.due_us)
        ended_us = None if held.ended_us is None else _bounded(held.ended_us)
        self._connection.execute(
            "INSERT INTO held VALUES (?, ?, ?, ?, ?)",
            (held.place, due_us, ended_us, record, _sum_up(due_us, ended_us, record)),
        )
        self.last_place = max(self.last_place, held.place)
        self.count += 1


def decode(row: _Row) -> Held:
    """
    Give what a row of the table tells.

    Raises:
        sqlite3.DatabaseError: It isn't what was written.
    """
    place, due_us, ended_us, record, written = row
    try:
        if written == _sum_up(due_us, ended_us, record):
            return Held(place, _decode(record), due_us, ended_us)
    except (TypeError, msgspec.MsgspecError) as error:
        raise _changed(place) from error
    raise _changed(place)


def _sum_up(due_us: int, ended_us: int | None, record: bytes) -> int:
    return checksum(None, record, f"{due_us} {ended_us}".encode())


def _bounded(moment_us: int) -> int:
    """Keep a moment of somebody else's within what a column holds."""
    return max(min(moment_us, MAX_INTEGER), -MAX_INTEGER)


def _changed(place: int) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(
        f"the webhook that is held at {place} has changed since it was written"
    )
