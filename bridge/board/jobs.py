"""
Jobs by id, as the records of their topic tell them.

Owns which jobs are kept and what is known of each. It does no input or output and reads
no clock; pictures stand in `pictures`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from bridge.board.pictures import Picture
from bridge.consumer.job_record import JobRecord, is_address
from bridge.events import header_names as names
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Origin
from bridge.kafka.reader import ConsumedRecord


__all__ = ["Job", "Jobs", "as_json"]

# Signed result URLs have some hundred characters; browsers take no more than this.
_MAX_URL: Final = 4096

# No client id is longer: one of another kind must not fill the memory.
_MAX_ACCOUNT: Final = 200

_encode = msgspec.json.Encoder().encode

_ORIGINS: Final = {origin.value.encode(): origin.value for origin in Origin}
_UNKNOWN_ORIGIN: Final = "unknown"

# What the bridge says of a preview that it took out of an event, by what stands in
# `bridge_normalized`. One that was moved comes, if the board reads that topic.
_NOTES: Final = (
    (b"preview_too_large", "too large for the topic"),
    (b"preview_invalid", "no image"),
    (b"preview_dropped", "dropped: there was no room"),
    (b"preview_omitted", "not published"),
    (b"preview_moved", "on its own topic"),
)


class Job(msgspec.Struct):
    """
    A job, as its records tell it.

    Attributes:
        id: Its request id.
        account: The client id of its account; None where no record says.
        status: The latest status; it stays once the job has ended.
        progress: Percent, 0 to 100, or None where none was said.
        first_ms: The first record's moment, milliseconds since the epoch.
        last_ms: The latest record's.
        ended_ms: When it ended; None while it runs.
        events: How many records have been seen.
        picture: Its latest preview that is kept.
        preview_note: Why there is none to be seen, or no newer one.
        result_url: Where its result lies, http or https; None for anything else.
        has_result: Whether an address was said, whatever it is.
        error: Code and message, if it failed.
        origin: How the bridge learned of the latest event.
        version: The board's version when this changed last.
        encoded: It as JSON; None once that is stale.
    """

    id: str
    account: str | None
    status: str
    progress: float | None
    first_ms: int
    last_ms: int
    origin: str
    ended_ms: int | None = None
    events: int = 0
    picture: Picture | None = None
    preview_note: str | None = None
    result_url: str | None = None
    has_result: bool = False
    error: str | None = None
    version: int = 0
    encoded: msgspec.Raw | None = None

    def touch(self, version: int) -> None:
        """Note that something of it has changed."""
        self.version = version
        self.encoded = None


class Jobs:
    """
    A bounded number of jobs.

    The first to go are those that ended, longest ago, as long as they are a quarter of
    all: so jobs that will never end don't keep others from being seen as ended. Then
    those of which nothing was heard for longest.

    Args:
        most: How many are kept.

    Attributes:
        seen: How many were ever met; one that comes again after it was let go counts
            again.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # Each in the order in which the jobs' last records came.
        self._running: OrderedDict[str, Job] = OrderedDict()
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self.seen = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._ended)

    def __iter__(self) -> Iterator[Job]:
        yield from self._running.values()
        yield from self._ended.values()

    @property
    def in_flight(self) -> int:
        """How many of those that are kept have not ended."""
        return len(self._running)

    def get(self, request_id: str) -> Job | None:
        """Find a job; None if it isn't kept."""
        return self._running.get(request_id) or self._ended.get(request_id)

    def forget(self, request_id: str) -> None:
        """Let a job go, if it is kept."""
        self._running.pop(request_id, None)
        self._ended.pop(request_id, None)

    def take(
        self, record: ConsumedRecord, read: JobRecord, at_ms: int, version: int
    ) -> Job:
        """
        Take the next record of a job.

        Args:
            record: It.
            read: What it says.
            at_ms: Its moment.
            version: The board's version from now on.

        Returns:
            The job as it is now.
        """
        request_id = read.request_id
        job = self._running.get(request_id)
        if job is None:
            job = self._ended.get(request_id)
            if job is None:
                job = self._met(record, read, at_ms)
            else:
                self._ended.move_to_end(request_id)
        else:
            self._running.move_to_end(request_id)
        job.events += 1
        job.first_ms = min(job.first_ms, at_ms)
        job.last_ms = max(job.last_ms, at_ms)
        if job.ended_ms is None or read.status in TERMINAL_STATUSES:
            self._learn(job, record, read, at_ms)
        job.version = version
        job.encoded = None
        return job

    def _met(self, record: ConsumedRecord, read: JobRecord, at_ms: int) -> Job:
        self.seen += 1
        job = Job(
            id=read.request_id,
            account=_account(record),
            status=read.status,
            progress=None,
            first_ms=at_ms,
            last_ms=at_ms,
            origin=_UNKNOWN_ORIGIN,
        )
        self._running[job.id] = job
        if len(self) > self._most:
            self._evict()
        return job

    def _evict(self) -> None:
        ended_go = len(self._ended) > self._most // 4
        table = self._ended if ended_go else self._running
        table.popitem(last=False)

    def _learn(
        self, job: Job, record: ConsumedRecord, read: JobRecord, at_ms: int
    ) -> None:
        headers = record.headers
        job.status = read.status
        # What a record leaves out was said before.
        if read.progress is not None:
            job.progress = read.progress
        job.error = read.error
        job.origin = _ORIGINS.get(headers.get(names.BRIDGE_ORIGIN, b""), job.origin)
        if read.result_url:
            job.has_result = True
            job.result_url = read.result_url if _is_link(read.result_url) else None
        normalized = headers.get(names.BRIDGE_NORMALIZED)
        if read.preview is not None and is_address(read.preview):
            job.preview_note = "an address, and no image"
        elif normalized is not None and b"preview_" in normalized:
            job.preview_note = _note(normalized)
        if job.ended_ms is None and read.status in TERMINAL_STATUSES:
            job.ended_ms = at_ms
            self._ended[job.id] = self._running.pop(job.id)


def as_json(job: Job, *, shows_result: bool) -> msgspec.Raw:
    """
    Write a job as the page gets it.

    Args:
        job: The job.
        shows_result: Whether it is said where its result lies.
    """
    picture = job.picture
    preview = None
    if picture is not None:
        preview = {
            "version": picture.version,
            "type": picture.content_type,
            "bytes": len(picture.data),
        }
    shown = {
        "id": job.id,
        "account": job.account,
        "status": job.status,
        "progress": job.progress,
        "first_ms": job.first_ms,
        "last_ms": job.last_ms,
        "ended_ms": job.ended_ms,
        "events": job.events,
        "preview": preview,
        "preview_note": job.preview_note,
        "result_url": job.result_url if shows_result else None,
        "has_result": job.has_result,
        "error": job.error,
        "origin": job.origin,
    }
    return msgspec.Raw(_encode(shown))


def _note(normalized: bytes) -> str | None:
    return next((note for word, note in _NOTES if word in normalized), None)


def _account(record: ConsumedRecord) -> str | None:
    """Read the client id out of `{api_url}/clients/{client_id}`."""
    source = record.headers.get(names.CE_SOURCE, b"")
    _, found, account = source.rpartition(b"/clients/")
    return account[:_MAX_ACCOUNT].decode(errors="replace") if found else None


def _is_link(url: str) -> bool:
    """Whether it is a web address that a browser may be given."""
    return (
        len(url) <= _MAX_URL
        and url[:8].lower().startswith(("http://", "https://"))
        and url.isascii()
        and url.isprintable()
        and " " not in url
    )
