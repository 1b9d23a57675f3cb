"""
The latest state of each job, as a topic's records tell it.

Owns what a person watching jobs needs to know and how much of it is kept. It
does no input or output, reads no clock and knows no terminal: `view` draws it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

import msgspec

from bridge.consumer.job_record import MAX_TEXT, preview_bytes, read_job_record
from bridge.consumer.rate import Rate
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.kafka.reader import ConsumedRecord


__all__ = ["Job", "JobTable"]

# A terminal shows some dozens; the rest keeps the counts and survives a
# resize. At about 1 kB a job this is 2 MB.
_MAX_JOBS = 2_000


class Job(msgspec.Struct):
    """
    A job, as its latest record shows it.

    Attributes:
        request_id: The record's key as text.
        status: The status; for a record that is no job status, its
            `bridge_reason` header or "unreadable".
        progress: Percent, 0 to 100, or None where none was said.
        preview_bytes: Size of the latest preview as it was sent, in bytes; 0
            while there was none.
        result_url: Where the result lies, with its signature.
        error: Code and message of a failed job.
        first_ms: The first record's timestamp, milliseconds since the epoch.
        last_ms: The latest record's timestamp.
        topic: The latest record's topic.
        partition: Its partition.
        offset: Its offset.
        events: How many records have been seen.
    """

    request_id: str
    status: str
    progress: float | None
    preview_bytes: int
    result_url: str | None
    error: str | None
    first_ms: int
    last_ms: int
    topic: str
    partition: int
    offset: int
    events: int = 1

    @property
    def is_over(self) -> bool:
        """Whether the status is a job's last."""
        return self.status in TERMINAL_STATUSES

    def age_ms(self, now_ms: int) -> int:
        """How long it has run; of a job that is over, how long it took."""
        return max(0, (self.last_ms if self.is_over else now_ms) - self.first_ms)


class JobTable:
    """
    The jobs of one or several topics, a bounded number of them.

    Args:
        max_jobs: How many are kept. The first to go are those that were over
            first, then those that began first.
    """

    def __init__(self, max_jobs: int = _MAX_JOBS) -> None:
        self._max_jobs = max_jobs
        # Both in the order in which the jobs' first, and last, records came.
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._over: OrderedDict[str, None] = OrderedDict()
        self._rate = Rate()
        self.events = 0
        self.by_status: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, records: Iterable[ConsumedRecord], now_seconds: float) -> None:
        """
        Take in records in the order in which they were read.

        Args:
            records: Records of any topic.
            now_seconds: When they were read, on a clock that only goes forward.
        """
        before = self.events
        for record in records:
            self._add_one(record)
        self._rate.add(self.events - before, now_seconds)

    def _add_one(self, record: ConsumedRecord) -> None:
        self.events += 1
        job = _read(record)
        known = self._jobs.get(job.request_id)
        if known is None:
            self._jobs[job.request_id] = job
        else:
            self._count(known.status, -1)
            job.first_ms = min(known.first_ms, job.first_ms)
            job.events = known.events + 1
            # What a record leaves out was said before.
            job.preview_bytes = job.preview_bytes or known.preview_bytes
            if job.progress is None:
                job.progress = known.progress
            self._jobs[job.request_id] = job
        self._count(job.status, 1)
        if job.is_over:
            self._over[job.request_id] = None
        else:
            self._over.pop(job.request_id, None)
        while len(self._jobs) > self._max_jobs:
            self._evict()

    def _evict(self) -> None:
        request_id = next(iter(self._over), None) or next(iter(self._jobs))
        self._over.pop(request_id, None)
        self._count(self._jobs.pop(request_id).status, -1)

    def _count(self, status: str, change: int) -> None:
        count = self.by_status.get(status, 0) + change
        if count:
            self.by_status[status] = count
        else:
            self.by_status.pop(status, None)

    def rate(self, now_seconds: float) -> float:
        """
        Give the events a second over the last five seconds.

        Args:
            now_seconds: The time on the clock that `add` was given.
        """
        return self._rate.per_second(now_seconds)

    def newest(self, count: int) -> list[Job]:
        """
        Choose the jobs to show, newest first.

        Running jobs come before those that are over when there isn't room for
        all; the order is that of the jobs' first records, so that a row moves
        only when a job appears or goes.

        Args:
            count: How many at most.
        """
        if count <= 0:
            return []
        running = (job for job in reversed(self._jobs.values()) if not job.is_over)
        chosen = {job.request_id: job for job in islice(running, count)}
        for job in reversed(self._jobs.values()):
            if len(chosen) >= count:
                break
            chosen.setdefault(job.request_id, job)
        return [job for key, job in reversed(self._jobs.items()) if key in chosen]


def _read(record: ConsumedRecord) -> Job:
    """Make a job of one record, whatever the record is."""
    read = read_job_record(record)
    return Job(
        request_id=read.request_id,
        status=read.status,
        progress=read.progress,
        preview_bytes=preview_bytes(read.preview),
        result_url=read.result_url and read.result_url[:MAX_TEXT],
        error=read.error,
        first_ms=record.timestamp_ms,
        last_ms=record.timestamp_ms,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
    )
