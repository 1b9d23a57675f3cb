"""
What a file tells of jobs: its table of them, and rows that aren't noted there yet.

SQLite has no checksums, and rows of this table have none either: what a disk has
changed is passed over here, so that it ends nobody. What is made of the rest is the
business of `table`.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Iterator
from contextlib import suppress
from heapq import merge
from typing import Literal

import msgspec

from bridge.errors import InvalidEventError
from bridge.events import header_names
from bridge.events.job_status import PROGRESS
from bridge.events.parsing import parse
from bridge.events.record import Record
from bridge.outbox.disk.schema import UNASSIGNED
from bridge.outbox.rows import table as rows
from bridge.outbox.rows.envelopes import Envelopes
from bridge.outbox.rows.lane import Lane
from bridge.outbox.rows.lanes import Lanes


__all__ = ["WrittenJob", "events_not_noted", "jobs_written"]


class WrittenJob(msgspec.Struct, frozen=True, array_like=True):
    """
    A row of the table of jobs in flight.

    Attributes:
        place: Its number.
        ce_source: The account.
        key: The job.
        status: As `jobs.Heard` has it, and so are the others.
        progress: The furthest.
        last_seen_us: When its last event was read.
        fingerprint: That event's; a damaged file of an older format has none.
    """

    place: int
    ce_source: str
    key: bytes
    status: Literal["processing", "in_progress"]
    progress: str | None
    last_seen_us: int
    fingerprint: int | None = None


def jobs_written(connection: sqlite3.Connection) -> Iterator[WrittenJob | None]:
    """
    Read the table, the job not heard of for longest first.

    Returns:
        Its rows; None for one that can't be what was written.

    Raises:
        sqlite3.Error: It can't be read.
    """
    for values in connection.execute("SELECT * FROM jobs ORDER BY last_seen_us, id"):
        yield _written(values)


def events_not_noted(
    connection: sqlite3.Connection, lanes: Lanes, envelopes: Envelopes
) -> Iterator[Record]:
    """
    Read the rows above the lanes' marks that tell of jobs, in the order of each job.

    One that isn't what was written is passed over, and where one can't be read those
    behind it are: whoever needs it will find the damage.
    """
    # A topic's rows without a lane are younger than its others.
    for waits in (False, True):
        some = [lane for lane in lanes if (lane.partition == UNASSIGNED) is waits]
        # Within a lane the order is exact; between lanes only a job matters whose
        # partition has just been changed.
        yield from merge(
            *[_above_mark(connection, lane, envelopes) for lane in some],
            key=_received_at,
        )


def _written(values: tuple[object, ...]) -> WrittenJob | None:
    try:
        # Otherwise a key that has become a text would be decoded from base64.
        job = msgspec.convert(values, WrittenJob, builtin_types=(bytes,))
        job.key.decode()
    except (msgspec.ValidationError, UnicodeDecodeError):
        return None
    is_progress = job.progress is None or PROGRESS.fullmatch(job.progress)
    return job if is_progress else None


def _above_mark(
    connection: sqlite3.Connection, lane: Lane, envelopes: Envelopes
) -> Iterator[Record]:
    if lane.last_sequence <= lane.noted_sequence:
        return
    with suppress(sqlite3.Error):
        for number, at_us, key, value, extra, total in connection.execute(
            "SELECT envelope, received_at_us, key, value, extra, checksum FROM rows"
            " WHERE position > ? AND position <= ? ORDER BY position",
            (lane.base + lane.noted_sequence, lane.end),
        ):
            envelope = envelopes.by_number.get(number)
            if envelope is None or envelope.ce_type != header_names.JOB_STATUS_TYPE:
                continue
            with suppress(
                InvalidEventError, TypeError, ValueError, msgspec.MsgspecError
            ):
                # A row from before there were checksums has none.
                if total not in {None, rows.checksum(key, value, extra)}:
                    continue
                status = parse(value.decode())
                yield Record(
                    lane.topic,
                    key,
                    value,
                    int(at_us),
                    envelope,
                    rows.decode_extra(extra),
                    status=status.status,
                    progress=status.progress,
                )


def _received_at(record: Record) -> int:
    return record.received_at_us
