"""
The envelopes in the file: each stands there once, rows name it by a number.

Only what thousands of records share belongs here.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite

import msgspec

from bridge.events.record import Envelope


__all__ = ["Envelopes"]

# A process has a few envelopes that live as long as it does. Somebody who makes
# a new object for each record loses speed by that, but no memory.
_OBJECTS_KNOWN = 1024


class Envelopes:
    """
    Envelopes by number and numbers by envelope.

    Args:
        connection: The outbox's file.

    Attributes:
        by_number: What a row's number stands for.
        number_by_id: The numbers of objects seen lately, by `id`: identity finds
            them faster than their text. `add` knows all others.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.by_number: dict[int, Envelope] = {}
        self.number_by_id: dict[int, int] = {}
        self._numbers: dict[Envelope, int] = {}
        # An id stays true only as long as its object lives.
        self._alive: list[Envelope] = []

    def load(self) -> None:
        """Read all envelopes from the file."""
        rows = self._connection.execute("SELECT * FROM envelopes").fetchall()
        self.by_number.clear()
        self._forget_objects()
        for number, *values in rows:
            self.by_number[number] = Envelope(*values)
        self._numbers = {value: number for number, value in self.by_number.items()}

    def add(self, envelope: Envelope) -> int:
        """Give an envelope's number, writing the envelope if it is new."""
        number = self._numbers.get(envelope)
        if number is None:
            number = len(self._numbers) + 1
            self._connection.execute(
                "INSERT INTO envelopes VALUES (?, ?, ?, ?, ?, ?)",
                (number, *msgspec.structs.astuple(envelope)),
            )
            self._numbers[envelope] = number
            self.by_number[number] = envelope
        if len(self._alive) >= _OBJECTS_KNOWN:
            self._forget_objects()
        self.number_by_id[id(envelope)] = number
        self._alive.append(envelope)
        return number

    def _forget_objects(self) -> None:
        self.number_by_id.clear()
        self._alive.clear()
