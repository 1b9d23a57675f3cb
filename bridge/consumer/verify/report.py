"""
What a proof is told and what it says: claims, findings, counts.

Shapes alone; how they come about stands in `judge`, how they look in `view`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec


__all__ = ["Claim", "Finding", "Kind", "LaneReport", "PartitionReport", "Report"]


class Kind(StrEnum):
    """What can be wrong with a topic."""

    HOLE = "hole"
    DUPLICATE = "duplicate"
    REORDERED = "reordered"
    CONFLICT = "conflict"
    REPEATED_ID = "repeated_id"
    UNREADABLE = "unreadable"
    MISSING_END = "missing_end"

    @property
    def meaning(self) -> str:
        """What it means, in a few words."""
        return _MEANINGS[self]


_MEANINGS = {
    Kind.HOLE: "sequences that no record has",
    Kind.DUPLICATE: "a record that is there twice",
    Kind.REORDERED: "a record behind one with a higher sequence",
    Kind.CONFLICT: "two events with the same sequence",
    Kind.REPEATED_ID: "one ce_id under two sequences or in two partitions",
    Kind.UNREADABLE: "a bridge's record without a readable sequence or ce_id",
    Kind.MISSING_END: "acknowledged in the outbox, but not on the topic",
}


class Claim(msgspec.Struct, frozen=True):
    """
    What an outbox says of one of its lanes.

    Attributes:
        outbox: The outbox's UUID.
        topic: The lane's topic.
        partition: The lane's partition.
        delivered: The highest sequence that it holds for delivered.
        waiting: How many rows wait.
        quarantined: Sequences that neither the topic nor the dead letters took.
    """

    outbox: str
    topic: str
    partition: int
    delivered: int
    waiting: int
    quarantined: Sequence[int] = ()


class Finding(msgspec.Struct, frozen=True):
    """
    One thing that is wrong.

    Attributes:
        kind: What.
        partition: Where.
        offset: The record at which it shows; for a missing end, where the log ends.
        outbox: Whose record.
        first_sequence: The first sequence concerned, None if it can't be read.
        last_sequence: The last one.
        count: How many sequences: fewer than from first to last where some may
            have been compacted away.
        after_offset: For a hole, the outbox's record before it; None if there is
            none.
        ce_id: The record's, None for a hole.
    """

    kind: Kind
    partition: int
    offset: int
    outbox: str
    first_sequence: int | None
    last_sequence: int | None
    count: int = 1
    after_offset: int | None = None
    ce_id: str | None = None


class LaneReport(msgspec.Struct, frozen=True):
    """
    One outbox's records in one partition.

    Attributes:
        outbox: The outbox's UUID.
        partition: The partition.
        origin: `bridge_origin` of its first record.
        records: How many were read.
        first_sequence: The first that was read; 0 if none was.
        last_sequence: The highest. What should come after it, the topic can't tell.
        unread: Sequences before the chosen start.
        trimmed: Sequences that retention or DeleteRecords may have taken.
        compacted: Sequences that compaction may have taken.
        refused: Sequences whose record the broker refused; its dead letter says so.
        resent: Records sent again after the log was cut, marked as such.
        waiting: Rows of the outbox that wait for Kafka; None if it wasn't asked.
        end: What is known of the lane's end: `unknown`, `proven`, `missing`, or
            `unstable` where an open transaction hides it.
    """

    outbox: str
    partition: int
    origin: str
    records: int
    first_sequence: int
    last_sequence: int
    unread: int
    trimmed: int
    compacted: int
    refused: int
    resent: int
    waiting: int | None = None
    end: str = "unknown"


class PartitionReport(msgspec.Struct, frozen=True):
    """
    One partition, as far as it was read.

    Attributes:
        partition: Its number.
        log_start: The first offset that the log had.
        start: The first offset that was to be read.
        end: The offset behind the last one.
        log_end: The offset behind the last record, committed or not.
        records: How many were read.
        foreign: How many of them no bridge wrote.
        astray: How many stand in another partition than their key's.
    """

    partition: int
    log_start: int
    start: int
    end: int
    log_end: int
    records: int
    foreign: int
    astray: int


class Report(msgspec.Struct, frozen=True):
    """
    All of it.

    Attributes:
        topic: The topic.
        isolation: `read_committed` or `read_uncommitted`.
        seconds: How long it took.
        partitions: By number.
        lanes: By partition, then outbox.
        counts: How often each kind was found.
        findings: The first ones of each kind.
        notes: What was not checked, and what a reader should know.
    """

    topic: str
    isolation: str
    seconds: float
    partitions: list[PartitionReport]
    lanes: list[LaneReport]
    counts: dict[str, int]
    findings: list[Finding]
    notes: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.counts

    @property
    def records(self) -> int:
        """How many records were read."""
        return sum(one.records for one in self.partitions)
