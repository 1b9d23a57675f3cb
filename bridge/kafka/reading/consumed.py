"""
What readers of topics get: records, and where reading stands.

Shapes alone: how they are fetched stands in `fetching`, what the headers of
the bridge's own records mean in `headers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias

import msgspec


__all__ = ["ConsumedRecord", "Delivery", "Edge", "Lane", "Start"]

Lane: TypeAlias = tuple[str, int]  # (topic, partition)


class Edge(Enum):
    """Where reading starts, when not at a point in time."""

    BEGINNING = "beginning"
    END = "end"


# An int is a time: milliseconds since the epoch. A mapping has the first offset of
# lanes; a lane that it doesn't name is read from its beginning.
Start: TypeAlias = Edge | int | Mapping[Lane, int]


class ConsumedRecord(msgspec.Struct, frozen=True, gc=False):
    """
    One record as it stands in Kafka.

    Attributes:
        topic: Its topic.
        partition: Its partition.
        offset: Its offset there.
        timestamp_ms: Its timestamp, milliseconds since the epoch.
        key: Its key, or None.
        value: Its value, or None for a tombstone.
        headers: Its headers; of a repeated name the last, a null one as `b""`.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class Delivery(msgspec.Struct, frozen=True):
    """
    What the trio side gets: records and what is known after them.

    Attributes:
        records: In order per partition; empty when only the rest changed.
        size_bytes: The memory that the records take.
        positions: The next offset of each lane.
        ends: The offset behind each lane's last committed record.
        silent_since_seconds: When the brokers fell silent, on the monotonic clock;
            None while they answer.
    """

    records: list[ConsumedRecord]
    size_bytes: int
    positions: dict[Lane, int]
    ends: dict[Lane, int]
    silent_since_seconds: float | None
