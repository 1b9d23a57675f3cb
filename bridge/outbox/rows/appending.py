"""
New records become rows here: each gets its identity, its lane and its sequence.

What becomes of rows afterwards is decided elsewhere.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections import defaultdict
from collections.abc import Sequence
from zlib import crc32

import msgspec

from bridge.events.record import Record, StoredRecord
from bridge.outbox.disk.schema import UNASSIGNED
from bridge.outbox.rows import table as rows
from bridge.outbox.rows.envelopes import Envelopes
from bridge.outbox.rows.lane import Lane
from bridge.outbox.rows.lanes import Lanes


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
        placed: defaultdict[Lane, list[StoredRecord]] = defaultdict(list)
        plain: list[object] = []
        others: list[object] = []
        counter, prefix, copied = self._counter, self._prefix, rows.COPIED_UP_TO
        envelopes, numbers = self._envelopes, self._envelopes.number_by_id
        topic: str | None = None
        for record, total in zip(records, sums, strict=True):
            if record.topic != topic:
                topic = record.topic
                find_lane = self._lanes.topic(topic).find_lanes()
            key, value = record.key, record.value
            lane = find_lane(key)
            sequence = lane.last_sequence = lane.last_sequence + 1
            counter += 1
            ce_id = f"{prefix}{counter}"
            received_at_us = record.received_at_us
            envelope, extra = record.envelope, record.extra
            if extra:
                extra_bytes = _encode_extra(extra)
                total = crc32(extra_bytes, total)  # noqa: PLW2901 - summed on
                columns = others
                columns.append(extra_bytes)
            else:
                columns = plain
            columns += (
                lane.base + sequence,
                ce_id,
                numbers.get(id(envelope)) or envelopes.add(envelope),
                received_at_us,
                key and bytearray(key),
                bytearray(value) if len(value) <= copied else value,
                total,
            )
            if lane.partition != UNASSIGNED:
                placed[lane].append(
                    StoredRecord(
                        sequence, ce_id, key, value, received_at_us, envelope, extra
                    )
                )
        self._counter = counter
        rows.insert_plain(self._connection, plain)
        rows.insert(self._connection, others)
        return [(lane.topic, lane.partition, told) for lane, told in placed.items()]
