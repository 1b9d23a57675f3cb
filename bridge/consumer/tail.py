"""
The latest state of each job, as a topic's records tell it.

Owns what a person watching jobs needs to know and how much of it is kept. It
does no input or output, reads no clock and knows no terminal: `view` draws it.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice

import msgspec

from bridge.consumer.framed import unframed
from bridge.kafka.reading.reader import ConsumedRecord


__all__ = ["Job", "JobTable"]

# A terminal shows some dozens; the rest keeps the counts and survives a
# resize. At about 1 kB a job this is 2 MB.
_MAX_JOBS = 2_000
# Long enough to be readable at a few events a second, short enough to follow.
_RATE_WINDOW_SECONDS = 5.0
# Text of a record that is shown: a hostile one must not fill the memory.
_MAX_TEXT = 300

_TERMINAL = frozenset({"done", "error"})


class _Payload(msgspec.Struct):
    """What is shown of a job's record; everything else is passed over."""

    status: str
    progress: str | float | None = None
    preview: str | None = None
    result_url: str | None = None
    error_code: str | int | None = None
    error_message: str | None = None


_decode = msgspec.json.Decoder(_Payload).decode


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
        return self.status in _TERMINAL

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
        self._arrivals: deque[tuple[float, int]] = deque()
        self._began_at: float | None = None
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
        if self._began_at is None:
            self._began_at = now_seconds
        if self.events > before:
            self._arrivals.append((now_seconds, self.events - before))
        self._forget_arrivals(now_seconds)

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

    def _forget_arrivals(self, now_seconds: float) -> None:
        while self._arrivals and self._arrivals[0][0] <= now_seconds - (
            _RATE_WINDOW_SECONDS
        ):
            self._arrivals.popleft()

    def rate(self, now_seconds: float) -> float:
        """
        Give the events a second over the last five seconds.

        Args:
            now_seconds: The time on the clock that `add` was given.
        """
        self._forget_arrivals(now_seconds)
        if self._began_at is None:
            return 0.0
        # A table that has just begun must not look five times too slow.
        window = min(_RATE_WINDOW_SECONDS, max(1.0, now_seconds - self._began_at))
        return sum(count for _, count in self._arrivals) / window

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
    try:
        payload = _decode(unframed(record)[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reason = record.headers.get("bridge_reason", b"unreadable")
        payload = _Payload(_text(reason))
    key = record.key or record.headers.get("ce_subject")
    # A record without key stands for itself.
    name = _text(key) if key else f"{record.partition}/{record.offset}"
    return Job(
        request_id=name,
        status=payload.status[:_MAX_TEXT],
        progress=_percent(payload.progress),
        preview_bytes=_preview_bytes(payload.preview),
        result_url=payload.result_url and payload.result_url[:_MAX_TEXT],
        error=_error(payload),
        first_ms=record.timestamp_ms,
        last_ms=record.timestamp_ms,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
    )


def _text(raw: bytes) -> str:
    return raw[:_MAX_TEXT].decode(errors="replace")


def _percent(progress: str | float | None) -> float | None:
    """Read progress, a decimal string; None for anything that is no number."""
    try:
        value = float(progress) if progress is not None else None
    except ValueError:
        return None
    if value is None or not math.isfinite(value):
        return None
    return min(100.0, max(0.0, value))


def _preview_bytes(preview: str | None) -> int:
    """Size of the image: base64 carries three bytes in four characters."""
    # A status answer has the preview as a URL.
    if not preview or preview.startswith(("http://", "https://")):
        return 0
    # A data URL's head is no part of the image.
    payload = len(preview) - (preview.find(",") + 1 if preview[:5] == "data:" else 0)
    return payload * 3 // 4 - preview[-2:].count("=")


def _error(payload: _Payload) -> str | None:
    parts = [payload.error_code, payload.error_message]
    return ": ".join(str(part) for part in parts if part)[:_MAX_TEXT] or None
