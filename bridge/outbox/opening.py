"""
The file in use, with all that goes with it.

What is done when it can't be opened, or fails later, is decided in `writer`.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from pathlib import Path

import msgspec

from bridge.outbox.disk import schema
from bridge.outbox.jobs.order import Order
from bridge.outbox.room import Room
from bridge.outbox.store import Store
from bridge.outbox.tallies import Tallies


__all__ = ["Opened", "open_outbox"]


class Opened(msgspec.Struct, frozen=True):
    """
    One file, open; replaced as a whole.

    Attributes:
        id: Its UUID.
        connection: Its connection.
        store: Its tables.
        room: What it may still take.
    """

    id: str
    connection: sqlite3.Connection
    store: Store
    room: Room


def open_outbox(
    path: Path,
    max_bytes: int,
    order: Order | None = None,
    *,
    is_heir: bool = False,
    tallies: Tallies | None = None,
) -> Opened:
    """
    Open the file, or make it.

    Args:
        path: The database file.
        max_bytes: What database and log may take together.
        order: As `Store` has it.
        is_heir: As `Store` has it.
        tallies: As `Store` has them.

    Raises:
        OutboxFormatError: It is no outbox, or one of a newer version.
        OutboxDamagedError: It can't be read.
        OutboxDirectoryError: It can't be opened.
    """
    connection = schema.open_database(path, max_bytes=max_bytes)
    try:
        # What is new gets a new incarnation, so that no `ce_id` comes twice.
        name = schema.new_incarnation()
        store = Store(connection, name, order, is_heir=is_heir, tallies=tallies)
        room = Room(path, max_bytes, store)
        return Opened(schema.outbox_id(connection), connection, store, room)
    except BaseException:
        connection.close()
        raise
