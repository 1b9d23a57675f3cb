"""
Rows that were written before Kafka was reached get their lanes here.

Where a claimed row stands in its lane is fixed for good; when a topic is opened
is decided elsewhere.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from bridge.outbox.rows.lane import Lane, Topic
from bridge.outbox.rows.lanes import NONE_UNPLACED, Lanes


__all__ = ["claim"]


def claim(
    connection: sqlite3.Connection,
    lanes: Lanes,
    max_rows: int,
    max_bytes: int,
    leaves: Callable[[Lane, int, int], None],
) -> list[tuple[str, int, int]]:
    """
    Give lanes to rows that have none: see `Store.claim`.

    Args:
        connection: The outbox's file.
        lanes: Its lanes.
        max_rows: At most so many rows of a topic.
        max_bytes: Stop after the row that reaches so many bytes of values.
        leaves: Is told of the first and last row that leave a lane, before they do.
    """
    claimed: list[tuple[str, int, int]] = []
    for name, topic in lanes.topics.items():
        waiting = topic.unassigned
        if topic.partition_of is None:
            continue
        if not waiting.pending:
            # Only now is it on disk that all have their lanes.
            lanes.unplaced.pop(name, None)
            continue
        for lane in (waiting, *topic.lanes.values()):
            lanes.secure(lane, lane.last_sequence)
        chosen, last = _choose(connection, topic, max_rows, max_bytes)
        leaves(waiting, waiting.acknowledged_sequence + 1, last)
        # The last row alone counts: a person may have deleted others.
        waiting.acknowledged_sequence = last
        lanes.save(waiting)
        unplaced = lanes.unplaced.get(name, NONE_UNPLACED)
        for lane, rows in chosen.items():
            in_log = unplaced.get(lane.partition, {})
            sequences = _sequences(lanes, lane, [ce_id for _, ce_id in rows], in_log)
            connection.executemany(
                "UPDATE rows SET position = ? WHERE position = ?",
                [
                    (lane.base + sequence, position)
                    for sequence, (position, _) in zip(sequences, rows, strict=True)
                ],
            )
            # All of it was noted where it stood before.
            lane.noted_sequence = lane.last_sequence
            lanes.save(lane)
            claimed.append((lane.topic, lane.partition, sequences[-1]))
        if not waiting.pending:
            _leave_gaps(lanes, topic)
    return claimed


def _choose(
    connection: sqlite3.Connection, topic: Topic, max_rows: int, max_bytes: int
) -> tuple[dict[Lane, list[tuple[int, str]]], int]:
    """Give positions and ce_ids of the next rows by lane, and how far they go."""
    waiting = topic.unassigned
    chosen: dict[Lane, list[tuple[int, str]]] = {}
    position = waiting.base + waiting.last_sequence
    size = 0
    cursor = connection.execute(
        "SELECT position, ce_id, key, length(value) FROM rows"
        " WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
        (waiting.base + waiting.acknowledged_sequence, waiting.end, max_rows),
    )
    for position, ce_id, key, value_bytes in cursor:
        lane = topic.lane_of_waiting(key)
        chosen.setdefault(lane, []).append((position, ce_id))
        size += value_bytes
        if size >= max_bytes:
            break
    cursor.close()
    return chosen, position - waiting.base


def _leave_gaps(lanes: Lanes, topic: Topic) -> None:
    """Let what was skipped be over: no row gets its place there any more."""
    for lane in topic.lanes.values():
        if lane.skipped:
            lanes.settle(lane)
            lanes.save(lane)


def _sequences(
    lanes: Lanes, lane: Lane, ce_ids: Sequence[str], in_log: Mapping[str, int]
) -> list[int]:
    """Give a lane's next rows their sequences: those of the log, then new ones."""
    former = _former(lanes, lane, ce_ids, in_log) if in_log else []
    lane.skipped -= len(former)
    after = lane.last_sequence
    lane.last_sequence += len(ce_ids) - len(former)
    return [*former, *range(after + 1, lane.last_sequence + 1)]


def _former(
    lanes: Lanes, lane: Lane, ce_ids: Sequence[str], in_log: Mapping[str, int]
) -> list[int]:
    """
    Tell which sequences rows had, up to the last one that the log has.

    They got them in this order, side by side, after the copy was made. One that
    isn't in the log was refused. Where the log doesn't fit to that, as after its
    topic got more partitions, all get new ones.
    """
    found = [in_log.get(ce_id) for ce_id in ce_ids]
    while found and found[-1] is None:
        found.pop()
    sequences: list[int] = []
    for sequence in reversed(found):
        sequences.append(sequences[-1] - 1 if sequence is None else sequence)
    sequences.reverse()
    after = max(lane.acknowledged_sequence, lanes.last_row(lane))
    fits = (
        len(sequences) <= lane.skipped
        and all(one < other for one, other in pairwise([after, *sequences]))
        and max(sequences, default=0) <= lane.last_sequence
    )
    if fits and None in found:
        # No sequence may stand for two events.
        fits = len(set(sequences) - set(in_log.values())) == found.count(None)
    return sequences if fits else []
