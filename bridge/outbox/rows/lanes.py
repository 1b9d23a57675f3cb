"""
The table of lanes and its mirror in memory.

Which lanes there are, to which topic they belong and how far each has come.
The rows in them belong to `store`, their end to `acknowledgements`.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from bridge.outbox.disk.schema import MAX_SEQUENCE, UNASSIGNED
from bridge.outbox.records import LaneState
from bridge.outbox.rows.lane import Lane, Run, Topic


__all__ = ["NONE_UNPLACED", "Lanes", "PartitionOf", "UnknownLaneError", "Unplaced"]

PartitionOf = Callable[[bytes | None], int]

# Sequence by ce_id by partition.
Unplaced = Mapping[int, Mapping[str, int]]
NONE_UNPLACED: Unplaced = MappingProxyType({})

# Far enough below 0 for any run to end there.
_GONE_OFFSET = -MAX_SEQUENCE - 1


class UnknownLaneError(ValueError):
    """A lane was asked for that this file doesn't have."""


class Lanes:
    """
    All lanes of an outbox.

    Args:
        connection: The outbox's file.

    Attributes:
        topics: The topics by name.
        assignments: How keys find their partition, by topic; never changed in
            place, so that a transaction can put the former one back.
        unplaced: What the log has of rows without a lane, by topic, until they all
            have one. What a log has stays true if a transaction is undone.
        pins: Partition by key by topic, of keys that don't go where others go: filled
            by `Pins`, the same object for as long as the topic is known.
        are_new: Whether a lane was added since somebody set this to False.
        note_down: Has all rows noted in the table of jobs.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._by_number: dict[int, Lane] = {}
        self.topics: dict[str, Topic] = {}
        self.assignments: Mapping[str, PartitionOf] = {}
        self.unplaced: dict[str, Unplaced] = {}
        self.pins: dict[str, dict[bytes, int]] = {}
        self.are_new = False
        self.note_down: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Lane]:
        """Go through the lanes, those for unassigned records included."""
        return iter(self._by_number.values())

    def load(self) -> None:
        """Read the lanes from the file."""
        self._by_number.clear()
        self.topics.clear()
        # A topic's lane for unassigned records is made before its others. A damaged
        # file of an older format may have fewer columns.
        for values in self._connection.execute("SELECT * FROM lanes ORDER BY id"):
            self._keep(Lane(*values))
        for number, *values in self._connection.execute(
            "SELECT * FROM acknowledged ORDER BY lane, first_sequence"
        ):
            self._by_number[number].runs.append(Run(*values))
        for lane in self:
            if lane.runs:
                lane.acknowledged_sequence = max(
                    lane.acknowledged_sequence, lane.runs[-1].last_sequence
                )
            lane.last_sequence = max(
                lane.last_sequence, lane.acknowledged_sequence, self.last_row(lane)
            )

    def states(self) -> list[LaneState]:
        """Return the state of every lane that has a partition."""
        return [
            LaneState(
                topic=lane.topic,
                partition=lane.partition,
                acknowledged_sequence=lane.acknowledged_sequence,
                # Where sequences were skipped, the last of them may be no row.
                last_sequence=max(lane.acknowledged_sequence, self.last_row(lane))
                if lane.skipped
                else lane.last_sequence,
                resume_offset=lane.resume_offset,
                resume_ce_id=self._resume_ce_id(lane),
                resent_sequence=lane.resent_sequence,
                topic_id=lane.topic_id,
                highest_sequence=lane.last_sequence
                + self.topics[lane.topic].unassigned.pending,
            )
            for lane in self
            if lane.partition != UNASSIGNED
        ]

    def oldest_pending_us(self) -> int | None:
        """Return when the oldest waiting row was read, in us since the epoch."""
        heads = [
            self._connection.execute(
                "SELECT received_at_us FROM rows WHERE position > ? AND position <= ?"
                " ORDER BY position LIMIT 1",
                (lane.base + lane.acknowledged_sequence, lane.end),
            ).fetchone()
            for lane in self
            if lane.pending
        ]
        return min((int(head[0]) for head in heads if head), default=None)

    def find(self, topic: str, partition: int) -> Lane:
        """
        Give a lane that was opened.

        Raises:
            UnknownLaneError: There is none.
        """
        entry = self.topics.get(topic)
        lane = entry.lanes.get(partition) if entry else None
        if lane is None:
            raise UnknownLaneError(f"{topic}-{partition} is no lane of this outbox")
        return lane

    def topic(self, name: str) -> Topic:
        """Give a topic, adding it if it is new."""
        if name not in self.topics:
            self._add(name, UNASSIGNED)
        return self.topics[name]

    def open(
        self,
        topic: str,
        partition_of: PartitionOf,
        opened: Mapping[int, tuple[int, int]],
        topic_id: str | None,
        unplaced: Unplaced,
    ) -> None:
        """Let a topic's records go to lanes: see `Store.open_topic`."""
        entry = self.topic(topic)
        self.unplaced[topic] = unplaced
        for partition, (sequence, end_offset) in opened.items():
            lane = entry.lanes.get(partition) or self._add(topic, partition)
            if topic_id is not None:
                if lane.topic_id not in {None, topic_id}:
                    self._forget_log(lane)
                lane.topic_id = topic_id
            if lane.resume_offset is None:
                lane.floor_offset = end_offset
            if sequence > lane.last_sequence:
                # The log is ahead of a file that was put back to an older copy.
                # Rows that wait may be in the log or not: the relay looks for
                # each. New ones go on above both.
                lane.skipped += sequence - lane.last_sequence
                lane.last_sequence = sequence
                self.settle(lane)
            self.save(lane)
        self.assignments = {**self.assignments, topic: partition_of}
        entry.partition_of = partition_of

    def advance(self, lane: Lane, first_sequence: int, last_sequence: int) -> None:
        """
        Let a lane's next rows wait no more.

        Raises:
            sqlite3.DatabaseError: Rows before them aren't in the file any more.
        """
        passed = first_sequence - lane.acknowledged_sequence - 1
        assert passed >= 0, "an acknowledgement out of order"
        if passed:
            (rows,) = self._connection.execute(
                "SELECT count(*) FROM rows WHERE position > ? AND position < ?",
                (lane.base + lane.acknowledged_sequence, lane.base + first_sequence),
            ).fetchone()
            assert not rows, "an acknowledgement out of order passes over a row"
            if passed > lane.skipped:
                raise sqlite3.DatabaseError(
                    f"rows before {first_sequence} of {lane.topic}-{lane.partition}"
                    " are gone"
                )
            lane.skipped -= passed
        lane.acknowledged_sequence = last_sequence
        if lane.skipped or passed or lane.resent_sequence:
            self.settle(lane)
            self.save(lane)

    def secure(self, lane: Lane, sequence: int) -> None:
        """
        Have a lane's rows noted up to one, before they are moved or deleted.

        The rows that are left wouldn't tell how far their jobs have come.
        """
        if sequence > lane.noted_sequence:
            self.note_down()

    def settle(self, lane: Lane) -> None:
        """
        Leave behind what was skipped or resent, once no row of it waits.

        Rows without a lane may have their places among what was skipped.
        """
        unassigned = self.topics[lane.topic].unassigned
        if lane.skipped and not lane.pending and not unassigned.pending:
            lane.acknowledged_sequence = lane.last_sequence
            lane.skipped = 0
        if lane.acknowledged_sequence >= lane.resent_sequence:
            lane.resent_sequence = 0

    def last_row(self, lane: Lane) -> int:
        """Give the last sequence that has a row; 0 if none has."""
        (last,) = self._connection.execute(
            "SELECT max(position) FROM rows WHERE position BETWEEN ? AND ?",
            (lane.base, lane.end),
        ).fetchone()
        return 0 if last is None else int(last) - lane.base

    def save(self, lane: Lane) -> None:
        """Write how far a lane has come."""
        self._connection.execute(
            "UPDATE lanes SET acknowledged_sequence = ?, floor_sequence = ?,"
            " skipped = ?, floor_offset = ?, resent_sequence = ?, topic_id = ?,"
            " noted_sequence = ? WHERE id = ?",
            (
                lane.acknowledged_sequence,
                lane.last_sequence,
                lane.skipped,
                lane.floor_offset,
                lane.resent_sequence,
                lane.topic_id,
                lane.noted_sequence,
                lane.number,
            ),
        )

    def _forget_log(self, lane: Lane) -> None:
        """
        Let all that stands in a lane's log count as delivered: the log is gone.

        The rows stay for `Acknowledgements.trim`, which takes them next, and no
        more at a time than a transaction should.
        """
        self._connection.execute(
            "UPDATE acknowledged SET base_offset = ?, acknowledged_at_us = 0"
            " WHERE lane = ?",
            (_GONE_OFFSET, lane.number),
        )
        lane.runs = deque(
            msgspec.structs.replace(run, base_offset=_GONE_OFFSET, acknowledged_at_us=0)
            for run in lane.runs
        )
        lane.floor_offset = 0

    def _resume_ce_id(self, lane: Lane) -> str | None:
        run = lane.last_run
        if run is None or run.last_offset != lane.resume_offset:
            return None
        row = self._connection.execute(
            "SELECT ce_id FROM rows WHERE position = ?",
            (lane.base + run.last_sequence,),
        ).fetchone()
        return None if row is None else str(row[0])

    def _add(self, topic: str, partition: int) -> Lane:
        cursor = self._connection.execute(
            "INSERT INTO lanes (topic, partition) VALUES (?, ?)", (topic, partition)
        )
        assert cursor.lastrowid is not None
        self.are_new = True
        return self._keep(Lane(cursor.lastrowid, topic, partition))

    def _keep(self, lane: Lane) -> Lane:
        self._by_number[lane.number] = lane
        if lane.partition == UNASSIGNED:
            pins = self.pins.setdefault(lane.topic, {})
            entry = self.topics[lane.topic] = Topic(lane, pins)
            entry.partition_of = self.assignments.get(lane.topic)
        else:
            self.topics[lane.topic].lanes[lane.partition] = lane
        return lane
