"""
Whether everything that was sent stands on the topic, once, whole and in order.

Pure: records come in, a verdict goes out. It judges by the payload and, where the
records carry it, by the header `bridge_sequence`, which must be dense in each
partition.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.traffic import Traffic
from tests.kit.reader import Record


__all__ = ["Verdict", "event_of", "verify"]

_SEQUENCE = "bridge_sequence"


@dataclass(frozen=True)
class Verdict:
    """
    How many events are not as they should be.

    Attributes:
        lost: Sent, and not on the topic.
        duplicated: More records than events, counted beyond the first of each.
        disordered: Behind a later event of their own job, or on another partition
            than it.
        altered: Another value than was sent, or another key than the request id.
        foreign: No events of this run.
        holes: Records whose `bridge_sequence` isn't the one after the last.
    """

    lost: int = 0
    duplicated: int = 0
    disordered: int = 0
    altered: int = 0
    foreign: int = 0
    holes: int = 0

    @property
    def flawless(self) -> bool:
        """Whether nothing is wrong."""
        return self == Verdict()


def event_of(record: Record, traffic: Traffic) -> int | None:
    """Tell which event a record is, from 0; None for one that isn't of the traffic."""
    try:
        value = json.loads(record.value or b"")
        return traffic.index_of(value["request_id"], value["progress"])
    except (KeyError, TypeError, ValueError):
        return None


def verify(records: Iterable[Record], traffic: Traffic) -> Verdict:
    """
    Judge a topic.

    Args:
        records: All its records, by partition and offset.
        traffic: What was sent.
    """
    payloads = list(traffic.payloads())
    seen: set[int] = set()
    last: dict[str, tuple[int, int]] = {}
    sequences: dict[int, int] = {}
    duplicated = disordered = altered = foreign = holes = 0
    for record in records:
        sequence = record.headers.get(_SEQUENCE)
        if sequence is not None:
            holes += int(sequence) != sequences.get(record.partition, 0) + 1
            sequences[record.partition] = int(sequence)
        index = event_of(record, traffic)
        if index is None:
            foreign += 1
            continue
        request_id = traffic.request_id(index)
        altered += record.value != payloads[index].encode() or (
            record.key != request_id.encode()
        )
        if index in seen:
            duplicated += 1
            continue
        seen.add(index)
        partition, before = last.get(request_id, (record.partition, -1))
        disordered += index < before or record.partition != partition
        last[request_id] = (record.partition, index)
    return Verdict(
        lost=traffic.events - len(seen),
        duplicated=duplicated,
        disordered=disordered,
        altered=altered,
        foreign=foreign,
        holes=holes,
    )
