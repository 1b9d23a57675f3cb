"""
Jobs and their previews, as the records of the topics describe them.

It decides which jobs and previews are kept. It does no I/O and reads no clock. A kept
preview is an image by its own bytes: nothing that could hold a script is ever kept.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Final

import msgspec

from bridge.consumer.job_record import JobRecord, is_address
from bridge.events import header_names as names
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.preview import decode, sniff
from bridge.events.record import Origin
from bridge.kafka.reader import ConsumedRecord
from bridge.text import redact


__all__ = ["Job", "Jobs", "Picture", "Pictures"]

# Signed result URLs have some hundred characters; browsers accept no more than this.
_MAX_URL: Final = 4096

# No client id is longer: a hostile one must not fill the memory.
_MAX_ACCOUNT: Final = 200

_ORIGINS: Final = {origin.value.encode(): origin.value for origin in Origin}

# Why the bridge removed a preview from an event, by a word of `bridge_normalized`. One
# that was moved is shown if the board reads its topic.
_NOTES: Final = (
    (b"preview_too_large", "too large for the topic"),
    (b"preview_invalid", "not an image"),
    (b"preview_dropped", "dropped: the outbox was full"),
    (b"preview_omitted", "not published"),
    (b"preview_moved", "on its own topic"),
)

# What an image costs besides its bytes, so that a million tiny ones are bounded too.
_OVERHEAD_BYTES: Final = 1_000

# No image may have more than this part of the total: some are always kept.
_PARTS: Final = 16

# What a data URI has besides the base64 of its image.
_HEAD_CHARACTERS: Final = 4_096


class Job(msgspec.Struct, omit_defaults=True):
    """A job, in the form that the page gets; what isn't known is left out."""

    id: str
    # Times of its first and latest record, milliseconds since the epoch.
    first_ms: int
    last_ms: int
    # The latest one; a terminal status stays.
    status: str = ""
    # The client id.
    account: str | None = None
    # Percent, 0 to 100.
    progress: float | None = None
    ended_ms: int | None = None
    # The version of the latest picture.
    preview: int | None = None
    # Why there is no preview, or no newer one.
    preview_note: str | None = None
    has_result: bool = False
    # Only if results are shown, and only http or https.
    result_url: str | None = None
    # Code and message.
    error: str | None = None
    # How the bridge learned of the latest event.
    origin: str = "unknown"


class Jobs:
    """
    A bounded number of jobs, and which of them changed.

    Jobs that ended longest ago are evicted first, as long as they are a quarter of all,
    so that jobs that never end don't push out every ended one. Then those without news
    for longest.

    Attributes:
        seen: How many were ever added; an evicted job that returns counts again.
    """

    def __init__(self, limit: int, *, shows_results: bool) -> None:
        self._limit = limit
        self._shows_results = shows_results
        # Each in the order of the jobs' latest records.
        self._running: OrderedDict[str, Job] = OrderedDict()
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self._changed: dict[str, Job] = {}
        self._gone: set[str] = set()
        self.seen = 0

    @property
    def in_flight(self) -> int:
        """How many of the kept jobs have not ended."""
        return len(self._running)

    def all(self) -> list[Job]:
        """Return all kept jobs."""
        return [*self._running.values(), *self._ended.values()]

    def have_changed(self) -> bool:
        """Whether `changes` would return anything."""
        return bool(self._changed or self._gone)

    def changes(self) -> tuple[list[Job], list[str]]:
        """Return the jobs that changed since the last call, and ids of removed jobs."""
        changed, gone = list(self._changed.values()), list(self._gone)
        self._changed.clear()
        self._gone.clear()
        return changed, gone

    def get(self, request_id: str) -> Job | None:
        """Return a job; None if it isn't kept."""
        return self._running.get(request_id) or self._ended.get(request_id)

    def forget(self, request_id: str) -> None:
        """Remove a job, if it is kept."""
        for table in (self._running, self._ended):
            if table.pop(request_id, None) is not None:
                self._remove(request_id)

    def touch(self, job: Job) -> None:
        """Note that a job has changed."""
        self._changed[job.id] = job

    def take(
        self, record: ConsumedRecord, read: JobRecord, at_ms: int
    ) -> tuple[Job, bool]:
        """Take the next record of a job; return the job, and whether it is new."""
        request_id = read.request_id
        job = self.get(request_id)
        is_new = job is None
        if job is None:
            self.seen += 1
            job = Job(request_id, at_ms, at_ms, account=_account(record))
            self._running[request_id] = job
            self._evict()
        else:
            table = self._running if job.ended_ms is None else self._ended
            table.move_to_end(request_id)
        job.first_ms = min(job.first_ms, at_ms)
        job.last_ms = max(job.last_ms, at_ms)
        if job.ended_ms is None or read.is_over:
            self._learn(job, record, read, at_ms)
        self._changed[request_id] = job
        return job, is_new

    def _evict(self) -> None:
        if len(self._running) + len(self._ended) > self._limit:
            ended_go = len(self._ended) > self._limit // 4
            table = self._ended if ended_go else self._running
            self._remove(table.popitem(last=False)[0])

    def _remove(self, request_id: str) -> None:
        self._changed.pop(request_id, None)
        self._gone.add(request_id)

    def _learn(
        self, job: Job, record: ConsumedRecord, read: JobRecord, at_ms: int
    ) -> None:
        job.status = read.status
        # A record may leave out what an earlier one reported.
        if read.progress is not None:
            job.progress = read.progress
        job.error = read.error
        if read.error and not self._shows_results:
            job.error = redact(read.error)
        origin = record.headers.get(names.BRIDGE_ORIGIN, b"")
        job.origin = _ORIGINS.get(origin, job.origin)
        if read.result_url:
            job.has_result = True
            is_shown = self._shows_results and _is_link(read.result_url)
            job.result_url = read.result_url if is_shown else None
        normalized = record.headers.get(names.BRIDGE_NORMALIZED, b"")
        if read.preview is not None and is_address(read.preview):
            job.preview_note = "a URL, not an image"
        elif b"preview_" in normalized:
            found = (note for word, note in _NOTES if word in normalized)
            job.preview_note = next(found, None)
        if job.ended_ms is None and read.status in TERMINAL_STATUSES:
            job.ended_ms = at_ms
            self._ended[job.id] = self._running.pop(job.id)


def _account(record: ConsumedRecord) -> str | None:
    """Read the client id from `{api_url}/clients/{client_id}`."""
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


class Picture(msgspec.Struct, frozen=True, gc=False):
    """A preview's image; another image of the job has another version."""

    version: int
    content_type: str
    data: bytes


class Pictures:
    """The latest preview of each job; the oldest are evicted."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._size_bytes = 0
        # Browsers keep pictures by their versions for an hour, so a board that restarts
        # must not reuse one. JavaScript has whole numbers up to 2**53.
        self._version = secrets.randbits(48)

    def get(self, request_id: str) -> Picture | None:
        """Return a job's picture; None if none is kept."""
        return self._pictures.get(request_id)

    def take_text(self, request_id: str, text: str) -> Picture | str:
        """Keep the image of an event's preview; or return why there is none."""
        # Four characters carry three bytes: what is too large is not even decoded.
        if len(text) > self._max_bytes // _PARTS * 4 // 3 + _HEAD_CHARACTERS:
            return "too large to show"
        decoded = decode(text)
        return self.take_bytes(request_id, b"" if decoded is None else decoded[0])

    def take_bytes(self, request_id: str, data: bytes) -> Picture | str:
        """Keep the bytes of a record of previews; or return why not."""
        if len(data) > self._max_bytes // _PARTS:
            return "too large to show"
        content_type = sniff(data)
        if content_type is None:
            return "not an image"
        self.forget(request_id)
        self._version += 1
        picture = Picture(self._version, content_type, data)
        self._pictures[request_id] = picture
        self._size_bytes += len(data) + _OVERHEAD_BYTES
        return picture

    def forget(self, request_id: str) -> None:
        """Remove a job's picture, if one is kept."""
        picture = self._pictures.pop(request_id, None)
        if picture is not None:
            self._size_bytes -= len(picture.data) + _OVERHEAD_BYTES

    def evict(self) -> list[str]:
        """Remove the oldest pictures until the rest fit; return whose they were."""
        gone = []
        while self._size_bytes > self._max_bytes:
            gone.append(next(iter(self._pictures)))
            self.forget(gone[-1])
        return gone
