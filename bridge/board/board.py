"""
All that a board knows, and what of it each browser is told.

Owns versions: whatever changes makes a new one, so that an update is made of what is
true now and of what a browser was shown last, and never of a backlog. It does no input
or output and reads no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from bridge.board.figures import Figures, Latencies, Reading, Standing, reading_of
from bridge.board.jobs import Job, Jobs, as_json
from bridge.board.ledger import Gaps, Letters, ShownGap
from bridge.board.pictures import Picture, Pictures
from bridge.consumer.job_record import is_address, read_job_record, request_id_of
from bridge.consumer.rate import Rate
from bridge.kafka.reader import ConsumedRecord


__all__ = ["Board", "Filter", "View"]

_encode = msgspec.json.Encoder().encode


class Bounds(msgspec.Struct, frozen=True):
    """How much a board keeps and shows."""

    # The jobs with the latest events: about 10 MB.
    max_jobs: int = 5_000
    # The latest that a browser's filter lets through: more than a wall screen shows.
    shown_jobs: int = 200
    # The latest previews, 700 of 90 KB; one may have a sixteenth of it.
    max_preview_bytes: int = 64 * 1024 * 1024
    # A team's, with some forgotten tabs.
    max_browsers: int = 100
    # Fluent for people; changes between two updates cost nothing.
    updates_per_second: int = 4
    # Whether result URLs are shown, with their signatures.
    shows_results: bool = False


class Filter(msgspec.Struct, frozen=True):
    """
    Which jobs a browser wants.

    Attributes:
        statuses: Those with one of these; empty for all.
        text: Those whose id has this in it.
    """

    statuses: frozenset[str] = frozenset()
    text: str = ""

    def chosen(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Give those that are wanted, in their order."""
        if self.statuses:
            jobs = [job for job in jobs if job.status in self.statuses]
        if self.text:
            jobs = [job for job in jobs if self.text in job.id]
        return jobs


class View(msgspec.Struct, frozen=True):
    """
    What a browser was told last: all that is kept for it.

    Attributes:
        filter: Which jobs it wants.
        version: The board's version that it has.
        matching: How many jobs the filter let through.
        shown: The ids of those that it was given.
    """

    filter: Filter
    version: int
    matching: int
    shown: frozenset[str]


class _Snapshot(msgspec.Struct):
    version: int
    topic: str
    since_ms: int
    jobs: list[msgspec.Raw]
    matching: int
    gaps: msgspec.Raw
    letters: msgspec.Raw
    figures: Figures


class _Update(msgspec.Struct):
    version: int
    jobs: list[msgspec.Raw]
    gone: list[str]
    matching: int
    figures: Figures
    gaps: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    letters: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Board:
    """
    What is known of jobs, gaps and dead letters.

    Args:
        topic: The jobs' topic, for the page's head.
        limits: How much is kept and shown.
        since_ms: From when on, milliseconds since the epoch.

    Attributes:
        version: Grows with everything that changes but the figures.
        standings: How the reading of each topic stands, by its name; whoever reads
            writes it. The jobs' is always there.
    """

    def __init__(self, topic: str, limits: Bounds, since_ms: int) -> None:
        self.version = 1
        self.standings = {topic: Standing()}
        self._topic = topic
        self._since_ms = since_ms
        self._shown_jobs = limits.shown_jobs
        self._shows_results = limits.shows_results
        self._jobs = Jobs(limits.max_jobs)
        self._pictures = Pictures(limits.max_preview_bytes)
        self._gaps = Gaps(datetime.fromtimestamp(since_ms / 1000, UTC))
        self._letters = Letters(since_ms, shows_results=limits.shows_results)
        self._rate = Rate()
        self._latencies = Latencies()
        self._gaps_told = _Told(self._shown_gaps)
        self._letters_told = _Told(self._letters.shown)
        self._are_gaps_whole = False
        self._newest: tuple[int, list[Job]] = (0, [])

    def take_jobs(
        self, run: Sequence[ConsumedRecord], now_ms: int, now_seconds: float
    ) -> None:
        """
        Take records of the topic of jobs.

        Args:
            run: They, in order per partition.
            now_ms: When they were received, milliseconds since the epoch.
            now_seconds: The same on a clock that only goes forward.
        """
        self._rate.add(len(run), now_seconds)
        if not run:
            return
        self.version = version = self.version + 1
        # Of what was written before anybody read, the age says nothing.
        if self._reading(now_seconds) is Reading.LIVE:
            self._latencies.add(run, now_ms)
        take, pictures = self._jobs.take, self._pictures
        previews: dict[str, str] = {}
        for record in run:
            read = read_job_record(record)
            if record.value is None:
                # A tombstone: whoever had to erase the job wants none of it seen.
                previews.pop(read.request_id, None)
                self._jobs.forget(read.request_id)
                pictures.forget(read.request_id)
                continue
            # A producer's clock may say anything, and Kafka has -1 for nothing.
            at_ms = record.timestamp_ms
            if not 0 <= at_ms <= now_ms:
                at_ms = now_ms
            job = take(record, read, at_ms, version)
            if job.events == 1:
                # Where previews have a topic of their own they may come first.
                job.picture = pictures.get(job.id)
            if read.preview and not is_address(read.preview):
                previews[job.id] = read.preview
        # Those that a later one of the same run took the place of are not looked at.
        for request_id, text in previews.items():
            self._show(request_id, pictures.read_text(request_id, text))
        self._let_pictures_go()

    def take_previews(self, run: Sequence[ConsumedRecord]) -> None:
        """Take records of the topic of previews."""
        latest = {record.key: record.value for record in run}
        if latest:
            self.version += 1
        for key, value in latest.items():
            if not key:
                continue
            request_id = request_id_of(key)
            if value is None:
                self._pictures.forget(request_id)
                self._lose_picture(request_id, "erased")
            elif value:
                self._show(request_id, self._pictures.read_bytes(request_id, value))
        self._let_pictures_go()

    def take_gaps(self, run: Sequence[ConsumedRecord], *, is_end: bool) -> None:
        """
        Take records of the topic of gaps, which is read from its beginning.

        Nothing is shown before its end was reached once: gaps that were closed long ago
        would look open until then.

        Args:
            run: They, in order.
            is_end: Whether they are the last ones that are there.
        """
        self._gaps.take(run)
        if run or (is_end and not self._are_gaps_whole):
            self._are_gaps_whole |= is_end
            self.version += 1
            self._gaps_told.touch(self.version)

    def take_letters(self, run: Sequence[ConsumedRecord]) -> None:
        """Take records of the dead-letter topic."""
        self._letters.take(run)
        if run:
            self.version += 1
            self._letters_told.touch(self.version)

    def picture(self, request_id: str) -> Picture | None:
        """Give a job's latest picture; None once it was let go."""
        return self._pictures.get(request_id)

    def figures(self, now_ms: int, now_seconds: float, browsers: int) -> Figures:
        """Give the figures of a moment."""
        standing = self.standings[self._topic]
        p50, p99 = self._latencies.percentiles(now_ms)
        # Without jobs there is one thing to say, whatever else is read or not.
        notes = [one.note for one in self.standings.values() if one.note]
        return Figures(
            now_ms=now_ms,
            events_per_second=round(self._rate.per_second(now_seconds), 1),
            latency_p50_ms=p50,
            latency_p99_ms=p99,
            in_flight=self._jobs.in_flight,
            jobs=len(self._jobs),
            seen=self._jobs.seen,
            lag=standing.lag,
            reading=self._reading(now_seconds),
            away_since_ms=standing.away_since_ms,
            note=standing.note or " ".join(notes) or None,
            browsers=browsers,
        )

    def snapshot(self, wanted: Filter, figures: Figures) -> tuple[bytes, View]:
        """Give all that a browser is shown, as JSON, and what is kept for it."""
        view, jobs = self._view(wanted)
        made = _Snapshot(
            version=self.version,
            topic=self._topic,
            since_ms=self._since_ms,
            jobs=[self._encoded(job) for job in jobs],
            matching=view.matching,
            gaps=self._gaps_told.as_json(),
            letters=self._letters_told.as_json(),
            figures=figures,
        )
        return _encode(made), view

    def update(self, before: View, figures: Figures) -> tuple[bytes, View]:
        """Give what has changed since a view, as JSON, and the view of now."""
        if before.version == self.version:
            made = _Update(self.version, [], [], before.matching, figures)
            return _encode(made), before
        view, jobs = self._view(before.filter)
        made = _Update(
            version=self.version,
            jobs=[
                self._encoded(job)
                for job in jobs
                if job.version > before.version or job.id not in before.shown
            ],
            gone=sorted(before.shown - view.shown),
            matching=view.matching,
            figures=figures,
        )
        if self._gaps_told.version > before.version:
            made.gaps = self._gaps_told.as_json()
        if self._letters_told.version > before.version:
            made.letters = self._letters_told.as_json()
        return _encode(made), view

    def _view(self, wanted: Filter) -> tuple[View, Sequence[Job]]:
        """Choose what is shown of the present version."""
        if self._newest[0] != self.version:
            # By when they began: by their last events a busy grid would show two
            # hundred others at each update.
            newest = sorted(self._jobs, key=_began, reverse=True)
            self._newest = self.version, newest
        matching = wanted.chosen(self._newest[1])
        jobs = matching[: self._shown_jobs]
        shown = frozenset([job.id for job in jobs])
        return View(wanted, self.version, len(matching), shown), jobs

    def _shown_gaps(self) -> Sequence[ShownGap]:
        return self._gaps.shown() if self._are_gaps_whole else []

    def _reading(self, now_seconds: float) -> Reading:
        standing = self.standings[self._topic]
        return reading_of(standing, self._rate.per_second(now_seconds))

    def _show(self, request_id: str, found: Picture | str) -> None:
        """Give a job its picture, or say why there is none."""
        job = self._jobs.get(request_id)
        if job is None:
            return
        if isinstance(found, str):
            job.preview_note = found
        else:
            job.picture, job.preview_note = found, None
        job.touch(self.version)

    def _let_pictures_go(self) -> None:
        for request_id in self._pictures.let_go():
            self._lose_picture(request_id, "no longer kept")

    def _lose_picture(self, request_id: str, note: str) -> None:
        job = self._jobs.get(request_id)
        if job is not None:
            job.picture, job.preview_note = None, note
            job.touch(self.version)

    def _encoded(self, job: Job) -> msgspec.Raw:
        if job.encoded is None:
            job.encoded = as_json(job, shows_result=self._shows_results)
        return job.encoded


class _Told:
    """
    A list of which browsers are told whole whenever something in it has changed.

    Args:
        shown: Gives it.

    Attributes:
        version: The board's version when it changed last.
    """

    def __init__(self, shown: Callable[[], object]) -> None:
        self.version = 1
        self._shown = shown
        self._encoded: msgspec.Raw | None = None

    def touch(self, version: int) -> None:
        """Note that something of it has changed."""
        self.version = version
        self._encoded = None

    def as_json(self) -> msgspec.Raw:
        """Give it as JSON."""
        if self._encoded is None:
            self._encoded = msgspec.Raw(_encode(self._shown()))
        return self._encoded


def _began(job: Job) -> tuple[int, str]:
    return job.first_ms, job.id
