"""
What the outbox exchanges with the relay, the gap ledger and reconciliation.

Values only. What a record is: `bridge.events.record`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bridge.events.record import Record, StoredRecord


__all__ = [
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
    "Spent",
]

# Rows that were just committed: topic, partition, and the rows in order.
Placed = tuple[str, int, list[StoredRecord]]


class PartitionState(msgspec.Struct, frozen=True):
    """
    A partition as the relay needs to know it before it sends.

    Attributes:
        topic: The topic.
        partition: The partition's number.
        acknowledged_sequence: The last record that is known to be in the log, 0 for
            none.
        last_sequence: The last sequence that was given to a row.
        waiting: How many rows aren't acknowledged.
        resume_offset: From where on records of this partition may be in the log that
            aren't known to be there; None if the partition was never opened.
        resume_ce_id: Whose record is at that offset; None if that row has been deleted,
            or none was ever acknowledged.
        resent_sequence: Rows up to it were acknowledged once by a log that lost them:
            they are sent again, marked. 0 if there are none.
        topic_id: Kafka's id of the topic when it was opened last; None if unknown.
    """

    topic: str
    partition: int
    acknowledged_sequence: int
    last_sequence: int
    waiting: int
    resume_offset: int | None
    resume_ce_id: str | None = None
    resent_sequence: int = 0
    topic_id: str | None = None


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """
    An acknowledged row that is still kept.

    Attributes:
        sequence: Its place in its partition.
        ce_id: Its identity.
        offset: Its offset in Kafka, as the broker answered.
    """

    sequence: int
    ce_id: str
    offset: int


class Loss(msgspec.Struct, frozen=True):
    """
    An interval in which the outbox dropped records: reported when it begins and ends.

    Attributes:
        number: Which one, of this process: the same at its begin and its end.
        cause: `overflow`, `outbox_full` or `outbox_damaged`.
        ce_source: Whose records; None if that isn't known: of any account.
        since_us: Before this moment nothing was lost, microseconds since the epoch;
            None if that isn't known.
        until_us: From this moment on nothing is lost; None while it lasts.
        records: How many were lost so far, as far as that is known.
    """

    number: int
    cause: str
    ce_source: str | None
    since_us: int | None
    until_us: int | None
    records: int


class JobInFlight(msgspec.Struct, frozen=True, gc=False):
    """
    A job whose end was not received.

    Attributes:
        request_id: The job.
        status: The furthest that was read.
        progress: The highest that was read with that status; None if none was.
        last_seen_us: When its last event was read, microseconds since the epoch.
    """

    request_id: str
    status: str
    progress: str | None
    last_seen_us: int


class Healing(msgspec.Struct, frozen=True):
    """
    What dryAPI answers about a job: written unless the socket was faster.

    Attributes:
        record: The record. A dead letter, which has no status, is always written.
        job: The job as it was known before dryAPI was asked: if any event of it was
            received since, the record isn't needed.
        gap_ids: Gaps that are healed of this job if the record is written.
    """

    record: Record
    job: JobInFlight
    gap_ids: tuple[str, ...] = ()


class Delivery(msgspec.Struct, frozen=True):
    """
    A webhook that must be on disk before it is answered.

    Attributes:
        delivery_id: From its signed body; the same when it is repeated.
        record: What it reports. Its envelope says whose it is.
        due_us: Until when it is held for the socket's own event, microseconds since the
            epoch.
        ended_us: When the job ended, as the webhook says; None if it hasn't, or isn't
            known.
    """

    delivery_id: str
    record: Record
    due_us: int
    ended_us: int | None = None


class Held(msgspec.Struct, frozen=True):
    """
    A webhook that is held on disk.

    Attributes:
        place: Its name for `Outbox.release`.
        record: As in `Delivery`.
        due_us: As in `Delivery`.
        ended_us: As in `Delivery`.
    """

    place: int
    record: Record
    due_us: int
    ended_us: int | None


class Spent(msgspec.Struct, frozen=True):
    """
    What an account has asked of the status endpoint on a day.

    Attributes:
        since_us: When that day began for it, microseconds since the epoch.
        calls: How many calls were made since.
    """

    since_us: int
    calls: int


class LeftGap(msgspec.Struct, frozen=True):
    """
    A gap that the process before opened, and of which not all was known.

    Attributes:
        value: The value of its last record on `jobs.gaps`. Its `until` is null if it
            wasn't closed.
        healed_by_status_endpoint: How many of its jobs, so far.
        healed_by_webhook: The same.
    """

    value: bytes
    healed_by_status_endpoint: int = 0
    healed_by_webhook: int = 0


class Memory(msgspec.Struct, frozen=True):
    """
    What the outbox remembers of the process before.

    Attributes:
        proved_us: For each account, by its `ce_source`: all that was sent before this
            moment had arrived and was on disk; microseconds since the epoch.
        was_stopped: Whether that process stopped in order.
        left_gaps: Gaps that it opened and did not close, or closed without knowing
            what became of their jobs.
        spent: What was asked of the status endpoint, by `ce_source`.
    """

    proved_us: Mapping[str, int]
    was_stopped: bool
    left_gaps: tuple[LeftGap, ...]
    spent: Mapping[str, Spent] = msgspec.field(default_factory=dict)
