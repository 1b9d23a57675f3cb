"""
Rows: made of new records, read to send them or to compare them with a log.

Call all methods that write inside a transaction.
"""

from __future__ import annotations

import secrets
import sqlite3  # noqa: TID251 - the outbox is SQLite
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zlib import crc32

import msgspec

from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox.database import ManyRows
from bridge.outbox.jobs import Job
from bridge.outbox.partitions import Partition, Partitions
from bridge.outbox.values import Delivered, Placed


__all__ = ["ROW_COLUMNS", "Rows", "checksum", "stored"]

# In the order in which `stored` takes them.
ROW_COLUMNS = "position, ce_id, envelope, received_at_us, key, value, extra, checksum"
_insert = ManyRows(f"INSERT INTO rows ({ROW_COLUMNS}) VALUES", columns=8).run

# For parameters that aren't number, text or bytearray `sqlite3` looks for an adapter,
# in vain: bytes take 0.5 us for it, None 0.35. A bytearray of this size takes 0.2 with
# its making, one of 20 KB as long as the bytes.
_COPIED_UP_TO = 4 * 1024

# For more `crc32` releases the GIL and has to wait for it again: beside a busy thread
# 20 KB then take 39 us instead of 21.
_SUMMED_AT_ONCE = 5 * 1024

_Extra = tuple[tuple[str, bytes], ...]
_encode_extra = msgspec.msgpack.Encoder().encode
_decode_extra = msgspec.msgpack.Decoder(_Extra).decode


class Rows:
    """The tables `rows` and `envelopes`."""

    def __init__(self, connection: sqlite3.Connection, partitions: Partitions) -> None:
        self._connection = connection
        self._partitions = partitions
        # 64 random bits: a million starts of one outbox collide with a probability of
        # 3 in 10**8. What is opened again gets new ones, so no ce_id comes twice.
        self._prefix = f"{secrets.token_hex(8)}-"
        self._counter = 0
        self._envelopes: dict[int, Envelope] = {}
        self._numbers: dict[Envelope, int] = {}

    def load(self) -> None:
        """Read what memory mirrors, at the start and after a rollback."""
        self._envelopes = {
            number: Envelope(*values)
            for number, *values in self._connection.execute("SELECT * FROM envelopes")
        }
        self._numbers = {value: number for number, value in self._envelopes.items()}

    def oldest_waiting_us(self) -> int | None:
        """Return when the oldest waiting row was read, in us since the epoch."""
        heads = [
            self._connection.execute(
                "SELECT received_at_us FROM rows WHERE position > ? AND position <= ?"
                " ORDER BY position LIMIT 1",
                (one.base + one.acknowledged, one.end),
            ).fetchone()
            for one in self._partitions
            if one.waiting
        ]
        return min((int(head[0]) for head in heads if head), default=None)

    def read(
        self, topic: str, number: int, after: int, max_rows: int, max_bytes: int
    ) -> list[StoredRecord]:
        """
        Read a partition's rows behind a sequence, up to a hole or a bound.

        It stops after the row that reaches so many bytes of values; `DatabaseError` if
        a row isn't what was written.
        """
        partition = self._partitions.find(topic, number)
        cursor = self._connection.execute(
            f"SELECT {ROW_COLUMNS} FROM rows"  # noqa: S608 - names of ours
            " WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
            (partition.base + after, partition.end, max_rows),
        )
        rows: list[StoredRecord] = []
        size = 0
        for values in cursor:
            row = stored(values, partition.base, self._envelopes)
            if rows and row.sequence != rows[-1].sequence + 1:
                break
            rows.append(row)
            size += len(row.value)
            if size >= max_bytes:
                break
        cursor.close()
        return rows

    def delivered(
        self, topic: str, number: int, after: int, max_rows: int
    ) -> list[Delivered]:
        """Read acknowledged rows after a sequence, in order, as far as kept."""
        partition = self._partitions.find(topic, number)
        base = partition.base
        # From run to run: to find each row's run would take the longer way.
        return [
            Delivered(position - base, ce_id, position - base + shift)
            for position, ce_id, shift in self._connection.execute(
                "SELECT position, ce_id, base_offset - first_sequence"
                " FROM acknowledged CROSS JOIN rows"
                " ON position BETWEEN ?1 + max(first_sequence, ?2)"
                "  AND ?1 + last_sequence"
                " WHERE partition = ?3 AND last_sequence >= ?2 AND base_offset >= 0"
                " ORDER BY first_sequence, position LIMIT ?4",
                (base, after + 1, partition.number, max_rows),
            )
        ]

    def append(
        self,
        records: Sequence[Record],
        sums: Sequence[int],
        jobs: Sequence[Job | None],
    ) -> list[Placed]:
        """
        Write records in their order; give each its identity and its place.

        They come with the checksum of their key and value, and the job in flight of
        which each is an event: it stays in the partition where it began.
        """
        placed: defaultdict[Partition, list[StoredRecord]] = defaultdict(list)
        columns: list[object] = []
        counter, prefix, numbers = self._counter, self._prefix, self._numbers
        topic: str | None = None
        for record, total, job in zip(records, sums, jobs, strict=True):
            if record.topic != topic:
                topic = record.topic
                entry = self._partitions.topics[topic]
            key, value = record.key, record.value
            if job is None:
                number = entry.partition_of(key)
            else:
                number = job.partition
                if not 0 <= number < entry.count:
                    number = job.partition = entry.partition_of(key)
            partition = entry.partitions[number]
            sequence = partition.last = partition.last + 1
            counter += 1
            ce_id = f"{prefix}{counter}"
            received_at_us, envelope = record.received_at_us, record.envelope
            extra = record.extra
            # A text without characters is nothing that an adapter is looked for.
            extra_bytes = _encode_extra(extra) if extra else ""
            columns += (
                partition.base + sequence,
                ce_id,
                numbers.get(envelope) or self._number(envelope),
                received_at_us,
                key and bytearray(key),
                bytearray(value) if len(value) <= _COPIED_UP_TO else value,
                extra_bytes,
                crc32(extra_bytes, total) if isinstance(extra_bytes, bytes) else total,
            )
            placed[partition].append(
                StoredRecord(
                    sequence, ce_id, key, value, received_at_us, envelope, extra
                )
            )
        self._counter = counter
        _insert(self._connection, columns)
        for partition, rows in placed.items():
            self._partitions.counts[partition.topic].committed += len(rows)
        return [(one.topic, one.partition, rows) for one, rows in placed.items()]

    def restore(self, topic: str, number: int, records: Iterable[StoredRecord]) -> None:
        """Write rows of a damaged file, with their identity, as new ones of this."""
        partition = self._partitions.find(topic, number)
        columns: list[object] = []
        for record in records:
            partition.last += 1
            extra = _encode_extra(record.extra) if record.extra else b""
            columns += (
                partition.base + partition.last,
                record.ce_id,
                self._numbers.get(record.envelope) or self._number(record.envelope),
                record.received_at_us,
                record.key,
                record.value,
                extra,
                checksum(record.key, record.value, extra),
            )
        _insert(self._connection, columns)

    def _number(self, envelope: Envelope) -> int:
        """Write a new envelope, and give its number."""
        number = len(self._numbers) + 1
        self._connection.execute(
            "INSERT INTO envelopes VALUES (?, ?, ?, ?, ?, ?)",
            (number, *msgspec.structs.astuple(envelope)),
        )
        self._numbers[envelope] = number
        self._envelopes[number] = envelope
        return number


def stored(
    values: tuple[Any, ...], base: int, envelopes: Mapping[int, Envelope]
) -> StoredRecord:
    """Make a record of `ROW_COLUMNS`; `DatabaseError` if they have changed."""
    position, ce_id, number, received_at_us, key, value, extra, written = values
    try:
        if written == checksum(key, value, extra):
            return StoredRecord(
                position - base,
                ce_id,
                key,
                value,
                received_at_us,
                envelopes[number],
                _decode_extra(extra) if extra else (),
            )
    except (KeyError, TypeError, msgspec.MsgspecError) as error:
        raise _changed(position) from error
    raise _changed(position)


def checksum(key: bytes | None, value: bytes, extra: bytes | None) -> int:
    """
    Sum up a row's bytes.

    SQLite has no checksums, and a disk that changes a byte must not change a record.
    """
    total = crc32(key) if key else 0
    if len(value) <= _SUMMED_AT_ONCE:
        total = crc32(value, total)
    else:
        pieces = memoryview(value)
        for start in range(0, len(value), _SUMMED_AT_ONCE):
            total = crc32(pieces[start : start + _SUMMED_AT_ONCE], total)
    return crc32(extra, total) if extra else total


def _changed(position: int) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(f"row {position} has changed since it was written")
