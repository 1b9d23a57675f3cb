"""
Rows of a damaged file are written into the new one here, as what they were.

How they are read is the business of `salvage`.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Sequence

import msgspec

from bridge.events.record import StoredRecord
from bridge.outbox.rows import table as rows
from bridge.outbox.rows.envelopes import Envelopes
from bridge.outbox.rows.lanes import Lanes


__all__ = ["restore"]

_encode_extra = msgspec.msgpack.Encoder().encode


def restore(
    connection: sqlite3.Connection,
    lanes: Lanes,
    envelopes: Envelopes,
    topic: str,
    records: Sequence[StoredRecord],
) -> None:
    """Write rows with the identity that they have: see `Store.restore`."""
    lane = lanes.topic(topic).unassigned
    lanes.secure(lane, lane.last_sequence)
    parameters: list[object] = []
    for record in records:
        lane.last_sequence += 1
        extra = _encode_extra(record.extra) if record.extra else None
        parameters += (
            extra,
            lane.base + lane.last_sequence,
            record.ce_id,
            envelopes.add(record.envelope),
            record.received_at_us,
            record.key,
            record.value,
            rows.checksum(record.key, record.value, extra),
        )
    rows.insert(connection, parameters)
    # What they tell of their jobs was read beside them, see `inheriting`.
    lane.noted_sequence = lane.last_sequence
    lanes.save(lane)
