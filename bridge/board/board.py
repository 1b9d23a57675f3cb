"""
Everything that a board knows, and the messages that it sends to browsers.

All browsers get the same messages: a snapshot of everything first, then updates with
what changed since the last one. It does no I/O and reads no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from bridge.board.jobs import Jobs, Picture, Pictures
from bridge.consumer.dead_letters import Reason, Reasons, as_letter, received_at_us
from bridge.consumer.gaps import Choice, Folded, Gap
from bridge.consumer.job_record import is_address, read_job_record, request_id_of
from bridge.consumer.rate import Rate
from bridge.events import header_names as names
from bridge.events.record import Origin
from bridge.kafka.reader import ConsumedRecord
from bridge.text import redact


__all__ = ["Board", "Bounds", "Latencies", "Reading", "TopicState"]

_encode = msgspec.json.Encoder().encode

# So many records of a run are measured: enough for a percentile of some seconds.
_SAMPLES_PER_RUN: Final = 50
_MAX_SAMPLES: Final = 2_000
_WINDOW_MS: Final = 10_000

# A busy topic is never read to its end: no reader notices so small a delay.
_SMALL_LAG: Final = 1_000
_LAG_SECONDS: Final = 2.0

# How many gaps are kept, and how many are sent; `bridge gaps` has them all.
_MAX_GAPS: Final = 10_000
_SHOWN_GAPS: Final = 100

# A longer key or message of a dead letter is cut.
_MAX_TEXT: Final = 300

_REPLAYED: Final = Origin.REPLAY.value.encode()


class Bounds(msgspec.Struct, frozen=True):
    """How much a board keeps and shows."""

    # The jobs with the latest events: about 10 MB.
    max_jobs: int = 5_000
    # The latest previews, 700 of 90 KB; one may have a sixteenth of it.
    max_preview_bytes: int = 64 * 1024 * 1024
    # A team's, with some forgotten tabs.
    max_browsers: int = 100
    # Fluent for people.
    updates_per_second: int = 4
    # Whether result URLs are shown, with their signatures.
    shows_results: bool = False


class Reading(StrEnum):
    """How far the reading of a topic is."""

    STARTING = "starting"
    LIVE = "live"
    CATCHING_UP = "catching-up"
    UNAVAILABLE = "unavailable"


class TopicState(msgspec.Struct):
    """The state of one topic's reading."""

    # Whether the topic was ever reached.
    has_started: bool = False
    # How many offsets are left to read.
    lag: int = 0
    # When Kafka stopped answering.
    unavailable_since_ms: int | None = None
    # What the page should say about it.
    note: str | None = None

    def reading(self, events_per_second: float) -> Reading:
        """Return how far the reading is."""
        if self.unavailable_since_ms is not None:
            return Reading.UNAVAILABLE
        if not self.has_started:
            return Reading.STARTING
        if self.lag > max(_SMALL_LAG, _LAG_SECONDS * events_per_second):
            return Reading.CATCHING_UP
        return Reading.LIVE


class Board:
    """
    What is known of jobs, gaps and dead letters.

    Args:
        topic: The jobs' topic, for the page's header.
        bounds: How much is kept and shown.
        since_ms: Where reading starts, milliseconds since the epoch.

    Attributes:
        topics: The state of each topic's reading, by name; written by what reads. The
            jobs' topic is always there.
    """

    def __init__(self, topic: str, bounds: Bounds, since_ms: int) -> None:
        self.topics = {topic: TopicState()}
        self._topic = topic
        self._since_ms = since_ms
        self._shows_results = bounds.shows_results
        self._jobs = Jobs(bounds.max_jobs, shows_results=bounds.shows_results)
        self._pictures = Pictures(bounds.max_preview_bytes)
        self._gaps = Folded(_MAX_GAPS)
        self._reasons = Reasons()
        self._rate = Rate()
        self._latencies = Latencies()
        self._are_gaps_complete = False
        self._have_gaps_changed = self._have_letters_changed = False

    def take_jobs(
        self, run: Sequence[ConsumedRecord], now_ms: int, now_seconds: float
    ) -> None:
        """Take records of the jobs' topic, received at the time of two clocks."""
        self._rate.add(len(run), now_seconds)
        # The age of a record that was written before the board read says nothing.
        if self._reading(now_seconds) is Reading.LIVE:
            self._latencies.add(run, now_ms)
        previews: dict[str, str] = {}
        for record in run:
            read = read_job_record(record)
            if record.value is None:
                # A tombstone: the job was erased, so nothing of it is shown.
                previews.pop(read.request_id, None)
                self._jobs.forget(read.request_id)
                self._pictures.forget(read.request_id)
                continue
            # A producer's clock may be wrong, and Kafka has -1 for no time.
            at_ms = record.timestamp_ms
            if not 0 <= at_ms <= now_ms:
                at_ms = now_ms
            job, is_new = self._jobs.take(record, read, at_ms)
            picture = self._pictures.get(job.id) if is_new else None
            if picture is not None:
                # Where previews have their own topic, one may come before its job.
                job.preview = picture.version
            if read.preview and not is_address(read.preview):
                previews[job.id] = read.preview
        # Only the last preview of each job in a run is decoded.
        for request_id, text in previews.items():
            self._show(request_id, self._pictures.take_text(request_id, text))
        self._evict_pictures()

    def take_previews(self, run: Sequence[ConsumedRecord]) -> None:
        """Take records of the previews' topic."""
        for key, value in {record.key: record.value for record in run}.items():
            if not key:
                continue
            request_id = request_id_of(key)
            if value is None:
                self._pictures.forget(request_id)
                self._show(request_id, "erased", keeps=False)
            elif value:
                self._show(request_id, self._pictures.take_bytes(request_id, value))
        self._evict_pictures()

    def take_gaps(self, run: Sequence[ConsumedRecord], *, is_end: bool) -> None:
        """Take records of the gaps' topic, which is read from its beginning."""
        for record in run:
            self._gaps.take(record)
        # Until the end was reached once, gaps that closed long ago would look open.
        if run or (is_end and not self._are_gaps_complete):
            self._are_gaps_complete |= is_end
            self._have_gaps_changed = True

    def take_dead_letters(self, run: Sequence[ConsumedRecord]) -> None:
        """Take records of the dead-letter topic."""
        for record in run:
            # Reading starts at the first that is young enough; older ones may follow.
            if record.timestamp_ms >= self._since_ms:
                self._reasons.take(as_letter(record))
                self._have_letters_changed = True

    def picture(self, request_id: str) -> Picture | None:
        """Return a job's latest picture; None if it is no longer kept."""
        return self._pictures.get(request_id)

    def figures(self, now_ms: int, now_seconds: float) -> dict[str, object]:
        """Return the figures at a time."""
        state = self.topics[self._topic]
        p50, p99 = self._latencies.percentiles(now_ms)
        # While jobs aren't read, no other topic matters.
        notes = [one.note for one in self.topics.values() if one.note]
        return {
            "now_ms": now_ms,
            "events_per_second": round(self._rate.per_second(now_seconds), 1),
            "latency_p50_ms": p50,
            "latency_p99_ms": p99,
            "in_flight": self._jobs.in_flight,
            "seen": self._jobs.seen,
            "lag": state.lag,
            "reading": self._reading(now_seconds),
            "unavailable_since_ms": state.unavailable_since_ms,
            "note": state.note or " ".join(notes) or None,
        }

    def has_changes(self) -> bool:
        """Whether anything but the figures changed since the last update."""
        return (
            self._have_gaps_changed
            or self._have_letters_changed
            or self._jobs.have_changed()
        )

    def snapshot(self, figures: dict[str, object]) -> bytes:
        """Return everything as JSON. It may include what the next update repeats."""
        message = {
            "topic": self._topic,
            "since_ms": self._since_ms,
            "figures": figures,
            "jobs": self._jobs.all(),
            "gaps": self._shown_gaps(),
            "dead_letters": self._shown_reasons(),
        }
        return _encode(message)

    def update(self, figures: dict[str, object]) -> bytes:
        """Return as JSON what changed since the last update."""
        jobs, gone = self._jobs.changes()
        message = {"figures": figures, "jobs": jobs, "gone": gone}
        if self._have_gaps_changed:
            message["gaps"] = self._shown_gaps()
        if self._have_letters_changed:
            message["dead_letters"] = self._shown_reasons()
        self._have_gaps_changed = self._have_letters_changed = False
        return _encode(message)

    def _shown_reasons(self) -> list[dict[str, object]]:
        return [self._shown_reason(one) for one in self._reasons.most_frequent()]

    def _shown_gaps(self) -> list[Gap]:
        """Return the newest, newest first; an open gap is never left out for others."""
        if not self._are_gaps_complete:
            return []
        since = datetime.fromtimestamp(self._since_ms / 1000, UTC)
        gaps = list(self._gaps.overview(Choice(since=since)).gaps)
        gaps.sort(key=lambda gap: gap.until is not None)
        return sorted(gaps[:_SHOWN_GAPS], key=_place_in_time, reverse=True)

    def _shown_reason(self, one: Reason) -> dict[str, object]:
        key = one.example.key
        show = str if self._shows_results else redact
        return {
            "reason": one.reason,
            "count": one.count,
            "last_ms": one.last_ms,
            "id": None if key is None else show(key[:_MAX_TEXT]),
            "text": show(one.text),
            "error": show(one.example.message[:_MAX_TEXT]),
        }

    def _reading(self, now_seconds: float) -> Reading:
        return self.topics[self._topic].reading(self._rate.per_second(now_seconds))

    def _show(
        self, request_id: str, found: Picture | str, *, keeps: bool = True
    ) -> None:
        """Give a job its picture, or the reason why there is no new one."""
        job = self._jobs.get(request_id)
        if job is None:
            return
        if isinstance(found, str):
            job.preview_note = found
            job.preview = job.preview if keeps else None
        else:
            job.preview, job.preview_note = found.version, None
        self._jobs.touch(job)

    def _evict_pictures(self) -> None:
        for request_id in self._pictures.evict():
            self._show(request_id, "no longer kept", keeps=False)


def _place_in_time(gap: Gap) -> datetime:
    """Return where the page draws it: an open gap without a start is at the present."""
    is_present = gap.since is None and gap.until is None
    return datetime.max.replace(tzinfo=UTC) if is_present else gap.moment


class Latencies:
    """How long events of the last seconds took from the bridge's socket to here."""

    def __init__(self) -> None:
        # (when it was received, how long it took)
        self._samples: deque[tuple[int, float]] = deque(maxlen=_MAX_SAMPLES)

    def add(self, run: Sequence[ConsumedRecord], now_ms: int) -> None:
        """Measure a sample of what was received at a time."""
        step = max(1, len(run) // _SAMPLES_PER_RUN)
        for record in run[::step]:
            # A replayed event was read long ago, and not by the socket.
            if record.headers.get(names.BRIDGE_ORIGIN) != _REPLAYED:
                took_ms = now_ms - received_at_us(record) / 1000
                # Clocks of two machines differ.
                self._samples.append((now_ms, max(0.0, took_ms)))

    def percentiles(self, now_ms: int) -> tuple[float | None, float | None]:
        """Return the median and the 99th percentile in milliseconds; None for none."""
        samples = self._samples
        while samples and samples[0][0] < now_ms - _WINDOW_MS:
            samples.popleft()
        took = sorted(took_ms for _, took_ms in samples)
        if not took:
            return None, None
        p50, p99 = (took[int(part * len(took))] for part in (0.5, 0.99))
        return round(p50, 1), round(p99, 1)
