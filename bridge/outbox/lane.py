"""
What the outbox knows of its lanes while it runs.

A lane is a (topic, partition). These objects mirror the tables `lanes` and
`acknowledged`; `store` keeps both in step and is the only one to change them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from bridge.outbox.schema import SEQUENCE_BITS
from bridge.record import LaneState


__all__ = ["Lane", "Run", "Topic"]


class Run(msgspec.Struct, gc=False):
    """
    Records acknowledged side by side: dense in sequence and in offset.

    Attributes:
        first_sequence: The first record.
        last_sequence: The last record, included.
        base_offset: The offset of the first record.
        acknowledged_at_us: When the first of them was acknowledged.
        size_bytes: Bytes of their keys and values.
    """

    first_sequence: int
    last_sequence: int
    base_offset: int
    acknowledged_at_us: int
    size_bytes: int

    @property
    def last_offset(self) -> int:
        """The offset of the last record."""
        return self.base_offset + self.last_sequence - self.first_sequence


class Lane:
    """One lane; `number` is its key in the table."""

    __slots__ = (
        "acknowledged_sequence",
        "base",
        "floor_offset",
        "last_sequence",
        "number",
        "partition",
        "runs",
        "topic",
    )

    def __init__(
        self,
        number: int,
        topic: str,
        partition: int,
        floor_sequence: int,
        floor_offset: int | None,
    ) -> None:
        self.number = number
        self.topic = topic
        self.partition = partition
        self.base = number << SEQUENCE_BITS
        self.acknowledged_sequence = floor_sequence
        self.last_sequence = floor_sequence
        self.floor_offset = floor_offset
        self.runs: deque[Run] = deque()

    @property
    def pending(self) -> int:
        """How many rows wait for their acknowledgement."""
        return self.last_sequence - self.acknowledged_sequence

    @property
    def resume_offset(self) -> int | None:
        """The offset from which on the log has to be read to resume."""
        return self.runs[-1].last_offset if self.runs else self.floor_offset

    def state(self) -> LaneState:
        """Describe the lane for another thread."""
        return LaneState(
            topic=self.topic,
            partition=self.partition,
            acknowledged_sequence=self.acknowledged_sequence,
            last_sequence=self.last_sequence,
            resume_offset=self.resume_offset,
        )


class Topic:
    """The lanes of a topic; `partition_of` is None until Kafka was reached."""

    __slots__ = ("lanes", "partition_of", "unassigned")

    def __init__(self, unassigned: Lane) -> None:
        self.unassigned = unassigned
        self.lanes: dict[int, Lane] = {}
        self.partition_of: Callable[[bytes | None], int] | None = None

    def lane_for(self, key: bytes | None) -> Lane:
        """Give the lane where a new record goes: never ahead of waiting ones."""
        if self.partition_of is None or self.unassigned.pending:
            return self.unassigned
        return self.lanes[self.partition_of(key)]
