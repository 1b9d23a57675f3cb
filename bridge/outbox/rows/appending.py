"""
New records become rows here: each gets its identity, its lane and its sequence.

What becomes of rows afterwards is decided elsewhere.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Callable, Sequence
from zlib import crc32

import msgspec

from bridge.outbox.disk.schema import UNASSIGNED
from bridge.outbox.rows import table as rows
from bridge.outbox.rows.envelopes import Envelopes
from bridge.outbox.rows.lane import Lane
from bridge.outbox.rows.lanes import Lanes
from bridge.record import Record, StoredRecord


__all__ = ["Appending", "Placed"]

_encode_extra = msgspec.msgpack.Encoder().encode

Placed = tuple[str, int, list[StoredRecord]]


class Appending:
    """
    The way into the table of rows.

    Args:
        connection: The outbox's file.
        lanes: Its lanes.
        envelopes: Its envelopes.
        incarnation: This process's random name, the first half of each `ce_id`.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        lanes: Lanes,
        envelopes: Envelopes,
        incarnation: str,
    ) -> None:
        self._connection = connection
        self._lanes = lanes
        self._envelopes = envelopes
        self._prefix = f"{incarnation}-"
        self._counter = 0

    def append(self, records: Sequence[Record], sums: Sequence[int]) -> list[Placed]:
        """
        Write records: see `Store.append`.

        Args:
            records: In their order.
            sums: The checksum of each one's key and value.
        """
        placed: dict[Lane, list[StoredRecord]] = {}
        plain: list[object] = []
        others: list[object] = []
        counter, prefix = self._counter, self._prefix
        lanes = self._lanes
        envelopes, numbers = self._envelopes, self._envelopes.number_by_id
        finders: dict[str, Callable[[bytes | None], Lane]] = {}
        for record, total in zip(records, sums, strict=True):
            name = record.topic
            if name not in finders:
                finders[name] = lanes.topic(name).find_lanes()
            lane = finders[name](record.key)
            sequence = lane.last_sequence = lane.last_sequence + 1
            counter += 1
            ce_id = f"{prefix}{counter}"
            key, value = record.key, record.value
            envelope, extra = record.envelope, record.extra
            columns = (
                lane.base + sequence,
                ce_id,
                numbers.get(id(envelope)) or envelopes.add(envelope),
                record.received_at_us,
                key and bytearray(key),
                bytearray(value) if len(value) <= rows.COPIED_UP_TO else value,
            )
            if extra:
                extra_bytes = _encode_extra(extra)
                others += (*columns, extra_bytes, crc32(extra_bytes, total))
            else:
                plain += (*columns, total)
            if lane.partition != UNASSIGNED:
                stored = StoredRecord(
                    sequence,
                    ce_id,
                    key,
                    value,
                    record.received_at_us,
                    envelope,
                    extra,
                )
                if lane in placed:
                    placed[lane].append(stored)
                else:
                    placed[lane] = [stored]
        self._counter = counter
        rows.insert_plain(self._connection, plain)
        rows.insert(self._connection, others)
        return [(lane.topic, lane.partition, told) for lane, told in placed.items()]
