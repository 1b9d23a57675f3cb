"""
What the outbox, the relay and the ledger of gaps exchange beside records.

Values only. What a record is stands in `bridge.events.record`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from bridge.events.record import Envelope, Record, StoredRecord


__all__ = [
    "Delivered",
    "Delivery",
    "Healing",
    "Held",
    "JobInFlight",
    "LaneState",
    "LeftGap",
    "Loss",
    "Memory",
    "Spent",
    "by_envelope",
]


class LaneState(msgspec.Struct, frozen=True):
    """
    A lane as the relay needs to know it before it sends.

    Attributes:
        topic: The lane's topic.
        partition: The lane's partition.
        acknowledged_sequence: The last record that is known to be in the log,
            0 if there is none.
        last_sequence: The last record that was given a sequence.
        resume_offset: From where on records of this lane may lie in the log;
            None for a lane that was never opened.
        resume_ce_id: Whose record stands at that offset; None where the row has
            been deleted since, or none of this lane was ever acknowledged.
        resent_sequence: Rows up to it were acknowledged once, by a log that has
            lost them since: they are sent again, marked. 0 if there are none.
        topic_id: Kafka's id of the topic when the lane was opened last; None if
            Kafka didn't tell. A topic that was made anew has another one.
        highest_sequence: The highest sequence that any row of the file can have in
            the log, those counted that wait without a lane.
    """

    topic: str
    partition: int
    acknowledged_sequence: int
    last_sequence: int
    resume_offset: int | None
    resume_ce_id: str | None = None
    resent_sequence: int = 0
    topic_id: str | None = None
    highest_sequence: int | None = None


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """
    An acknowledged row that is still kept.

    Attributes:
        sequence: Its place in its lane.
        ce_id: Its identity.
        offset: Where the broker said that it stands.
    """

    sequence: int
    ce_id: str
    offset: int


class Loss(msgspec.Struct, frozen=True):
    """
    A time in which the outbox gave records up: told when it begins and when it is over.

    Attributes:
        number: Which one, of this process: the same at its begin and its end.
        cause: `overflow`, `outbox_full` or `outbox_damaged`.
        ce_source: Whose records; None where that isn't known: of any account.
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
    A job whose end has not been seen.

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
    What dryAPI says of a job when it is asked: written unless the socket was faster.

    Attributes:
        record: It. A dead letter, which tells no status, is written in any case.
        job: The job as it was known before dryAPI was asked: if anything was heard of
            it since, the record is not needed.
        gap_ids: Gaps that are healed of this job if the record is written.
    """

    record: Record
    job: JobInFlight
    gap_ids: tuple[str, ...] = ()


class Delivery(msgspec.Struct, frozen=True):
    """
    A webhook that is to be on disk before it is answered.

    Attributes:
        delivery_id: As its signed body says; the same again when it is repeated.
        record: What it tells. Its envelope says whose it is.
        due_us: Until when it is held for the socket's own event, microseconds since the
            epoch.
        ended_us: When the job ended, as the webhook says; None if it hasn't, or that
            isn't said.
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
            was not closed.
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
        proved_us: For each account, by its `ce_source`: all that was sent before
            this moment had arrived and was on disk; microseconds since the epoch.
        was_stopped: Whether that process ended in order.
        left_gaps: Those that it opened and did not close, or closed without knowing
            yet what became of their jobs.
        spent: What was asked of the status endpoint, by `ce_source`.
    """

    proved_us: Mapping[str, int]
    was_stopped: bool
    left_gaps: tuple[LeftGap, ...]
    spent: Mapping[str, Spent] = msgspec.field(default_factory=dict)


def by_envelope(
    records: Sequence[Record] | Sequence[StoredRecord],
) -> Mapping[Envelope, int]:
    """Count records by their envelope; mostly they have one and the same."""
    if not records:
        return {}
    envelopes = [record.envelope for record in records]
    first = envelopes[0]
    # It compares identities first: 0.01 us a record, where hashing takes 0.05 us.
    if envelopes.count(first) == len(envelopes):
        return {first: len(envelopes)}
    return Counter(envelopes)
