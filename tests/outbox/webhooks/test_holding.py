"""What is held stands in the file as it was written, and is read as nothing else."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - changes the file
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from bridge.outbox.disk.schema import open_database
from bridge.outbox.rows.table import checksum
from bridge.outbox.webhooks.holding import Holding

from tests.outbox.healing import delivery
from tests.outbox.making import PLENTY_BYTES


# As version 6 writes a record. Never changed: files in the field have such.
_WRITTEN = msgspec.msgpack.encode(
    {
        "topic": "jobs",
        "key": b"a",
        "value": b"{}",
        "received_at_us": 5,
        "envelope": {
            "ce_source": "https://api/clients/7",
            "ce_type": "a.type",
            "origin": "webhook",
            "content_type": "application/json",
            "kind": "event",
        },
        "extra": [["name", b"word"]],
        "importance": 3,
        "status": "done",
        "progress": "100.00",
    }
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A file that holds nothing."""
    with closing(open_database(tmp_path / "x", max_bytes=PLENTY_BYTES)) as connection:
        yield connection


def _insert(connection: sqlite3.Connection, record: bytes) -> None:
    total = checksum(None, record, b"7 None")
    connection.execute("INSERT INTO held VALUES (1, 7, NULL, ?, ?)", (record, total))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE held SET due_us = 8",
        "UPDATE held SET due_us = 'x'",
        "UPDATE held SET ended_us = 7",
        "UPDATE held SET record = CAST(record || x'00' AS BLOB)",
        "UPDATE held SET record = 5",
        "UPDATE held SET checksum = checksum + 1",
        "UPDATE held SET checksum = 'x'",
    ],
)
def test_what_has_changed_is_damage(
    connection: sqlite3.Connection, statement: str
) -> None:
    """A disk that changes a byte in silence changes no record."""
    _insert(connection, _WRITTEN)
    connection.execute(statement)
    holding = Holding(connection)
    for look in (lambda: holding.read(9), lambda: holding.find(1)):
        with pytest.raises(sqlite3.DatabaseError, match="has changed since"):
            look()


@pytest.mark.parametrize("record", [b"\xc0", b"", msgspec.msgpack.encode({"a": 1})])
def test_what_is_no_record_is_damage(
    connection: sqlite3.Connection, record: bytes
) -> None:
    """Though its sum be right."""
    _insert(connection, record)
    with pytest.raises(sqlite3.DatabaseError, match="has changed since"):
        Holding(connection).read(9)


def test_no_place_is_given_twice(connection: sqlite3.Connection) -> None:
    """Not when the clock stands still or is set back, nor after one has left."""
    holding = Holding(connection)
    holding.add(delivery("1", "a"))
    first = holding.last_place
    holding.let_go(first)
    assert holding.count == 0
    holding.add(delivery("2", "a"))
    assert holding.last_place > first
    # As by a clock that was years ahead.
    connection.execute("UPDATE held SET place = 1 << 62")
    holding.load()
    holding.add(delivery("3", "a"))
    assert holding.last_place == (1 << 62) + 1
    assert holding.count == 2
