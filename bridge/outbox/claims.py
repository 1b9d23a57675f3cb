"""
Rows that were written before Kafka was reached get their lanes here.

Where a claimed row stands in its lane is fixed for good; when a topic is opened
is decided elsewhere.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite

from bridge.outbox.lane import Lane
from bridge.outbox.lanes import Lanes


__all__ = ["claim"]


def claim(
    connection: sqlite3.Connection, lanes: Lanes, max_rows: int, max_bytes: int
) -> list[tuple[str, int, int]]:
    """Give lanes to rows that have none: see `Store.claim`."""
    touched: dict[Lane, None] = {}
    for topic in lanes.topics.values():
        waiting = topic.unassigned
        if topic.partition_of is None or not waiting.pending:
            continue
        for lane in (waiting, *topic.lanes.values()):
            lanes.secure(lane, lane.last_sequence)
        moves: list[tuple[int, int]] = []
        size = 0
        cursor = connection.execute(
            "SELECT position, key, length(value) FROM rows"
            " WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
            (waiting.base + waiting.acknowledged_sequence, waiting.end, max_rows),
        )
        for position, key, value_bytes in cursor:
            lane = topic.lanes[topic.partition_of(key)]
            lane.last_sequence += 1
            moves.append((lane.base + lane.last_sequence, position))
            touched[lane] = None
            size += value_bytes
            if size >= max_bytes:
                break
        cursor.close()
        connection.executemany("UPDATE rows SET position = ? WHERE position = ?", moves)
        # The last row alone counts: a person may have deleted others.
        waiting.acknowledged_sequence = (
            moves[-1][1] - waiting.base if moves else waiting.last_sequence
        )
        lanes.save(waiting)
    for lane in touched:
        # All of it was noted where it stood before.
        lane.noted_sequence = lane.last_sequence
        lanes.save(lane)
    return [(lane.topic, lane.partition, lane.last_sequence) for lane in touched]
