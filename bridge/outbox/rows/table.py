"""
The table of rows: written, read back and taken out.

Which place a row has, and whether it waits, is decided elsewhere. A row's bytes
carry a checksum: SQLite has none, and a disk that changes a byte in silence
must not change a record.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Mapping
from zlib import crc32

import msgspec

from bridge.events.record import Envelope, StoredRecord
from bridge.outbox.disk.statements import ManyRows
from bridge.outbox.rows.lane import Lane


__all__ = [
    "COPIED_UP_TO",
    "SUMMED_AT_ONCE",
    "checksum",
    "decode_extra",
    "insert",
    "insert_plain",
    "read",
    "remove",
]

_Extra = tuple[tuple[str, bytes], ...]
_decode_extra = msgspec.msgpack.Decoder(_Extra).decode

_COLUMNS = "position, ce_id, envelope, received_at_us, key, value, checksum"

# Writes rows, all their columns one after the other.
insert = ManyRows(f"INSERT INTO rows (extra, {_COLUMNS}) VALUES", columns=8).run

# The same of rows that have no headers of their own: a NULL that isn't handed over
# costs nothing, see `COPIED_UP_TO`.
insert_plain = ManyRows(f"INSERT INTO rows ({_COLUMNS}) VALUES", columns=7).run

# For any parameter that is no number, text or bytearray `sqlite3` looks for somebody
# who adapts it, in vain: bytes take 0.5 us for it, None 0.35. A bytearray of this size
# takes 0.2 with its making, one of 20 KB as long as the bytes.
COPIED_UP_TO = 4 * 1024

# For more `crc32` gives up the GIL and has to wait for it again: beside a busy
# thread 20 KB then take 39 us instead of 21.
SUMMED_AT_ONCE = 5 * 1024


def checksum(key: bytes | None, value: bytes, extra: bytes | None) -> int:
    """Sum up a row's bytes, as they stand in the file."""
    total = crc32(key) if key else 0
    if len(value) <= SUMMED_AT_ONCE:
        total = crc32(value, total)
    else:
        pieces = memoryview(value)
        for start in range(0, len(value), SUMMED_AT_ONCE):
            total = crc32(pieces[start : start + SUMMED_AT_ONCE], total)
    return crc32(extra, total) if extra else total


def decode_extra(extra: bytes | None) -> _Extra:
    """
    Give a row's own headers.

    Raises:
        msgspec.MsgspecError: They aren't what was written.
    """
    return _decode_extra(extra) if extra else ()


def read(  # noqa: PLR0913, PLR0917 - a lane's rows and their bounds
    connection: sqlite3.Connection,
    envelopes: Mapping[int, Envelope],
    lane: Lane,
    after: int,
    max_rows: int,
    max_bytes: int,
) -> list[StoredRecord]:
    """
    Read a lane's rows in order: see `Store.read`.

    Raises:
        sqlite3.DatabaseError: A row isn't what was written.
    """
    cursor = connection.execute(
        "SELECT position, ce_id, envelope, received_at_us, key, value, extra, checksum"
        " FROM rows WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
        (lane.base + after, lane.end, max_rows),
    )
    rows: list[StoredRecord] = []
    size = 0
    for position, ce_id, envelope, received_at_us, key, value, extra, written in cursor:
        sequence = position - lane.base
        if rows and sequence != rows[-1].sequence + 1:
            break
        try:
            # A row from before there were checksums has none.
            if written is not None and written != checksum(key, value, extra):
                raise _changed(lane, sequence)
            rows.append(
                StoredRecord(
                    sequence,
                    ce_id,
                    key,
                    value,
                    received_at_us,
                    envelopes[envelope],
                    decode_extra(extra),
                )
            )
        except (KeyError, TypeError, msgspec.MsgspecError) as error:
            raise _changed(lane, sequence) from error
        size += len(value)
        if size >= max_bytes:
            break
    cursor.close()
    return rows


def remove(connection: sqlite3.Connection, lane: Lane, sequence: int) -> None:
    """Delete one row."""
    connection.execute("DELETE FROM rows WHERE position = ?", (lane.base + sequence,))


def _changed(lane: Lane, sequence: int) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(
        f"row {sequence} of {lane.topic}-{lane.partition} has changed since it was"
        " written"
    )
