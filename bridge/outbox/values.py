"""
What the outbox exchanges with the relay, the gap ledger and reconciliation.

Values only; times are in microseconds since the epoch. Records are in
`bridge.events.record`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from bridge.events.record import Record, StoredRecord


__all__ = [
    "RETENTION",
    "Delivered",
    "Delivery",
    "Healing",
    "Held",
    "JobInFlight",
    "LeftGap",
    "Loss",
    "Memory",
    "PartitionState",
    "Placed",
    "Retention",
    "Spent",
]

# Rows that were just committed: topic, partition, and the rows in order.
Placed = tuple[str, int, list[StoredRecord]]

# dryAPI repeats a webhook for about a day.
_REPEATED_SECONDS: Final = 25 * 3600.0


class Retention(msgspec.Struct, frozen=True):
    """For how long the outbox keeps what it no longer needs to send, and how much."""

    # What a log lost after it was acknowledged (unclean election, restored broker) is
    # noticed minutes later, and is sent again from these rows.
    acknowledged_seconds: float = 300.0
    acknowledged_bytes: int = 256 * 1024 * 1024
    # Unfinished jobs: dryAPI's result URLs last about a day. So many need 20 MB of
    # memory, an hour of 13 jobs a second that all fail, which the socket never reports.
    unfinished_seconds: float = 86_400.0
    unfinished_jobs: int = 50_000
    # Twice a million jobs a day: 28 MB of memory and 16 MB of disk.
    ended_seconds: float = _REPEATED_SECONDS
    ended_jobs: int = 2_000_000
    # Two webhooks of a million jobs a day: 140 MB of disk.
    delivery_seconds: float = _REPEATED_SECONDS
    deliveries: int = 2_000_000


RETENTION: Final = Retention()


class PartitionState(msgspec.Struct, frozen=True):
    """A partition as the relay needs to know it before it sends."""

    topic: str
    partition: int
    # The last record that is known to be in the log, 0 for none.
    acknowledged_sequence: int
    # The last sequence that was given to a row.
    last_sequence: int
    # How many rows aren't acknowledged.
    waiting: int
    # From where on records of this partition may be in the log that aren't known to be
    # there; None if the partition was never opened.
    resume_offset: int | None
    # Whose record is at that offset; None if that row has been deleted, or none was
    # ever acknowledged.
    resume_ce_id: str | None = None
    # Rows up to it were acknowledged once by a log that lost them: they are sent again,
    # marked. 0 if there are none.
    resent_sequence: int = 0
    # Kafka's id of the topic when it was opened last; None if unknown.
    topic_id: str | None = None


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """An acknowledged row that is still kept, and its offset in Kafka."""

    sequence: int
    ce_id: str
    offset: int


class Loss(msgspec.Struct, frozen=True):
    """An interval in which records were dropped: reported when it begins and ends."""

    # Which one, of this process: the same at its begin and its end.
    number: int
    # `overflow`, `outbox_full` or `outbox_damaged`.
    cause: str
    # Whose records; None if that isn't known: of any account.
    ce_source: str | None
    # Before this moment nothing was lost; None if that isn't known.
    since_us: int | None
    # From this moment on nothing is lost; None while it lasts.
    until_us: int | None
    # How many were lost so far, as far as that is known.
    records: int


class JobInFlight(msgspec.Struct, frozen=True, gc=False):
    """A job whose end was not received."""

    request_id: str
    # The furthest that was read, and the highest progress with that status.
    status: str
    progress: str | None
    # When its last event was read.
    last_seen_us: int


class Healing(msgspec.Struct, frozen=True):
    """What dryAPI answers about a job: written unless the socket was faster."""

    # A dead letter, which has no status, is always written.
    record: Record
    # The job as it was known before dryAPI was asked: if any event of it was received
    # since, the record isn't needed.
    job: JobInFlight
    # Gaps that are healed of this job if the record is written.
    gap_ids: tuple[str, ...] = ()


class Delivery(msgspec.Struct, frozen=True):
    """A webhook that must be on disk before it is answered."""

    # From its signed body; the same when it is repeated.
    delivery_id: str
    # What it reports. Its envelope says whose it is.
    record: Record
    # Until when it is held for the socket's own event.
    due_us: int
    # When the job ended, as the webhook says; None if it hasn't, or isn't known.
    ended_us: int | None = None


class Held(msgspec.Struct, frozen=True):
    """A webhook that is held on disk; `place` is its name for `Outbox.release`."""

    place: int
    record: Record
    due_us: int
    ended_us: int | None


class Spent(msgspec.Struct, frozen=True):
    """How often an account has asked the status endpoint since its day began."""

    since_us: int
    calls: int


class LeftGap(msgspec.Struct, frozen=True):
    """A gap that the process before opened, and of which not all was known."""

    # The value of its last record; its `until` is null if it wasn't closed.
    value: bytes
    # How many of its jobs, so far.
    healed_by_status_endpoint: int = 0
    healed_by_webhook: int = 0


class Memory(msgspec.Struct, frozen=True):
    """What the outbox remembers of the process before; accounts by `ce_source`."""

    # All that was sent before this moment had arrived and was on disk.
    proved_us: Mapping[str, int]
    # Whether that process stopped in order.
    was_stopped: bool
    # Gaps that it did not close, or closed without knowing what became of their jobs.
    left_gaps: tuple[LeftGap, ...]
    spent: Mapping[str, Spent] = msgspec.field(default_factory=dict)
    # The rows that a damaged file lost.
    damage: Loss | None = None
