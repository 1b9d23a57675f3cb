"""
Records, as intake, outbox and relay exchange them.

Header names are in `header_names`, columns in the outbox.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec


__all__ = ["Envelope", "Importance", "Kind", "Origin", "Record", "StoredRecord"]


class Origin(StrEnum):
    """How the bridge learned of an event: the header `bridge_origin`."""

    SOCKET = "socket"
    STATUS_ENDPOINT = "status-endpoint"
    WEBHOOK = "webhook"
    REPLAY = "replay"


class Kind(StrEnum):
    """What a record is about; a dead letter has the kind of what it replaces."""

    EVENT = "event"
    PREVIEW = "preview"
    GAP = "gap"


class Importance(IntEnum):
    """What is dropped first when there is no room for all: the lowest."""

    # A preview that is a record of its own: dropped whole, and no event with it.
    PICTURE = 0
    # An event of a running job that can go without its preview.
    PREVIEW = 1
    EVENT = 2
    # The last event of a job.
    TERMINAL = 3


class Envelope(msgspec.Struct, frozen=True):
    """
    The part of a record's headers that thousands of records share.

    Attributes:
        ce_source: `{api_url}/clients/{client_id}`.
        ce_type: CloudEvents type, `dev.dryapi.request.status.updated` or another.
        origin: How the bridge learned of the event.
        content_type: What the value's bytes are.
        kind: A `Kind`. It is not a header.
    """

    ce_source: str
    ce_type: str
    origin: str
    content_type: str
    kind: str = Kind.EVENT


class Record(msgspec.Struct, frozen=True, gc=False):
    """
    One record before it has a place in a partition.

    Attributes:
        topic: The Kafka topic's name.
        key: `request_id` as UTF-8, or None where none is known.
        value: The bytes for Kafka.
        received_at_us: When the bridge read it, microseconds since the epoch.
        envelope: What it shares with others.
        extra: Headers of only this record, by name.
        importance: What goes first when there is no room.
        status: The status of the job that `key` names; None if it isn't a job's.
        progress: The job's progress, a decimal string; None if the event has none.
    """

    topic: str
    key: bytes | None
    value: bytes
    received_at_us: int
    envelope: Envelope
    extra: tuple[tuple[str, bytes], ...] = ()
    importance: Importance = Importance.EVENT
    status: str | None = None
    progress: str | None = None


class StoredRecord(msgspec.Struct, frozen=True, gc=False):
    """
    One committed record with its place in a partition; other attributes as in `Record`.

    Attributes:
        sequence: Dense per outbox, topic and partition, from 1.
        ce_id: The identity that is never used twice.
    """

    sequence: int
    ce_id: str
    key: bytes | None
    value: bytes
    received_at_us: int
    envelope: Envelope
    extra: tuple[tuple[str, bytes], ...] = ()
