"""
Which dead letters go to the topic of jobs, found by reading both.

Owns the order of it: letters are looked at, then the topic of jobs, then they are
read once more and written. So that memory stays bounded it is done for some jobs
after the other. How an event becomes a record and how that reaches Kafka is told
by the caller: nothing here writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from bridge.consumer.dead_letters.judge import Outcome, outcome_unread
from bridge.consumer.dead_letters.letter import Letter, as_letter, received_at_us
from bridge.consumer.dead_letters.states import JobStates
from bridge.consumer.reading import read_through
from bridge.events.record import Record
from bridge.kafka.reader import ConsumedRecord, Edge, Lane, Start
from bridge.kafka.scan import Progress
from bridge.settings import KafkaSettings


__all__ = ["Choice", "Replaying", "Shaped", "Sink", "Tally"]

# Jobs that are looked at together: 30 MB with what is known of each.
JOBS_A_SLICE = 100_000

# What is handed to the outbox at once, beside at most 2,000 letters.
BATCH_BYTES = 1024 * 1024


class Shaped(msgspec.Struct, frozen=True):
    """
    What this version makes of a letter's payload.

    Attributes:
        key: The job.
        status: What the event says of it.
        records: What goes to Kafka.
    """

    key: bytes
    status: str
    records: Sequence[Record]


class Sink(Protocol):
    """Where replayed events go; none of a letter that went before."""

    async def known(self, ce_ids: Sequence[str]) -> set[str]:
        """Give those of some letters that were replayed."""

    async def write(self, letters: Mapping[str, Sequence[Record]]) -> set[str]:
        """Take the records of letters, by `ce_id`; give those that are new."""

    async def settle(self) -> None:
        """Wait until all that was written stands in Kafka."""


class Choice(msgspec.Struct, frozen=True):
    """
    Which letters are looked at.

    Attributes:
        dead_letter_topic: Where they stand.
        topic: Where events of jobs go.
        since_ms: Only letters as young as that, milliseconds since the epoch.
        reason: Only letters of this reason.
        ended_seconds: How long before its letter a job's end still counts.
    """

    dead_letter_topic: str
    topic: str
    since_ms: int | None = None
    reason: str | None = None
    ended_seconds: float = 0.0


class Tally:
    """
    What became of the letters.

    Attributes:
        outcomes: How many there were of each.
        invalid: The reasons of those that can't be read by this version either.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.invalid: Counter[str] = Counter()

    @property
    def letters(self) -> int:
        """How many letters there were."""
        return self.outcomes.total()

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.outcomes += other.outcomes
        self.invalid += other.invalid


class Replaying:
    """
    One replay, from the dead letters' start to the end that they have now.

    Args:
        settings: How to reach the brokers.
        choice: Which letters, and where they go.
        shape: Makes records of a letter's payload; gives the reason why it can't.
        sink: Where they go.
        on_progress: Is told how far which reading has come.

    Attributes:
        tally: What became of the letters so far.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        choice: Choice,
        shape: Callable[[Letter], Shaped | str],
        sink: Sink,
        on_progress: Callable[[str, Progress], None] = lambda _what, _progress: None,
    ) -> None:
        self.tally = Tally()
        self._settings = settings
        self._choice = choice
        self._shape = shape
        self._sink = sink
        self._on_progress = on_progress

    async def run(self) -> None:
        """
        Replay what there is; what an earlier replay left in the outbox goes first.

        Raises:
            KafkaError: A topic can't be read; the subclass says why.
            ConfigError: A certificate or key can't be used.
        """
        await self._sink.settle()
        choice = self._choice
        start: Start = Edge.BEGINNING if choice.since_ms is None else choice.since_ms
        ends: Mapping[Lane, int] | None = None
        while True:
            look = _Look(self._sink, self._judge)
            behind, ends = await self._read("dead letters", look.take, start, ends)
            if look.jobs:
                states = await self._states(look)
                write = _Writing(self._sink, self._judge, states, self.tally)
                await self._read("replay", write.take, start, behind)
                await self._sink.settle()
            else:
                self.tally.add(look.tally)
            if behind == ends:
                return
            start = behind

    async def _read(
        self,
        what: str,
        take: Callable[[Sequence[ConsumedRecord]], Awaitable[bool]],
        start: Start,
        ends: Mapping[Lane, int] | None,
    ) -> tuple[dict[Lane, int], dict[Lane, int]]:
        return await read_through(
            self._settings,
            self._choice.dead_letter_topic,
            take,
            start=start,
            ends=ends,
            on_progress=lambda progress: self._on_progress(what, progress),
        )

    async def _states(self, look: _Look) -> JobStates:
        """Read how far the jobs have come that there are letters of."""
        states = JobStates(look.jobs)

        async def take(run: Sequence[ConsumedRecord]) -> bool:
            for record in run:
                states.learn(record)
            return False

        since_us = look.oldest_us - int(self._choice.ended_seconds * 1_000_000)
        await read_through(
            self._settings,
            self._choice.topic,
            take,
            start=max(since_us // 1000, 0),
            on_progress=lambda progress: self._on_progress("jobs", progress),
        )
        return states

    def _judge(self, letter: Letter) -> Outcome | Shaped | str:
        """Give what becomes of a letter, or its records, or why it is still invalid."""
        since_ms = self._choice.since_ms
        # Reading begins with the first one of that age; older ones may follow it.
        if since_ms is not None and letter.record.timestamp_ms < since_ms:
            return Outcome.NOT_CHOSEN
        unread = outcome_unread(letter, self._choice.topic, self._choice.reason)
        return self._shape(letter) if unread is None else unread


_Judge = Callable[[Letter], Outcome | Shaped | str]


async def _judged(
    run: Sequence[ConsumedRecord], sink: Sink, judge: _Judge, tally: Tally
) -> list[tuple[Letter, str, Shaped]]:
    """Give the letters that can be read now, and tally all others."""
    letters = [as_letter(record) for record in run]
    ce_ids = {letter.ce_id for letter in letters} - {None}
    known = await sink.known([ce_id for ce_id in ce_ids if ce_id is not None])
    found = []
    for letter in letters:
        ce_id = letter.ce_id
        judged = Outcome.ALREADY_REPLAYED if ce_id in known else judge(letter)
        if isinstance(judged, Shaped):
            assert ce_id is not None
            found.append((letter, ce_id, judged))
        elif isinstance(judged, Outcome):
            tally.outcomes[judged] += 1
        else:
            tally.outcomes[Outcome.STILL_INVALID] += 1
            tally.invalid[judged] += 1
    return found


class _Look:
    """
    The first reading: of which jobs there are letters that can be read now.

    Attributes:
        jobs: Their keys.
        oldest_us: When the first of their events was read.
        tally: What became of the others.
    """

    def __init__(self, sink: Sink, judge: _Judge) -> None:
        self.jobs: set[bytes] = set()
        self.oldest_us = 0
        self.tally = Tally()
        self._sink = sink
        self._judge = judge

    async def take(self, run: Sequence[ConsumedRecord]) -> bool:
        found = await _judged(run, self._sink, self._judge, self.tally)
        for letter, _, shaped in found:
            at_us = received_at_us(letter.record)
            self.oldest_us = min(self.oldest_us, at_us) if self.jobs else at_us
            self.jobs.add(shaped.key)
        return len(self.jobs) >= JOBS_A_SLICE


class _Writing:
    """The second reading: what isn't overtaken is written."""

    def __init__(
        self, sink: Sink, judge: _Judge, states: JobStates, tally: Tally
    ) -> None:
        self._sink = sink
        self._judge = judge
        self._states = states
        self._tally = tally

    async def take(self, run: Sequence[ConsumedRecord]) -> bool:
        outcomes = self._tally.outcomes
        batch: dict[str, Sequence[Record]] = {}
        size_bytes = 0
        for letter, ce_id, shaped in await _judged(
            run, self._sink, self._judge, self._tally
        ):
            at_us = received_at_us(letter.record)
            if ce_id in self._states.replayed or ce_id in batch:
                outcomes[Outcome.ALREADY_REPLAYED] += 1
            elif self._states.has_overtaken(shaped.key, shaped.status, at_us):
                outcomes[Outcome.OVERTAKEN] += 1
            else:
                self._states.note(shaped.key, shaped.status, at_us)
                batch[ce_id] = shaped.records
                size_bytes += sum(len(record.value) for record in shaped.records)
            if size_bytes >= BATCH_BYTES:
                await self._write(batch)
                batch, size_bytes = {}, 0
        if batch:
            await self._write(batch)
        return False

    async def _write(self, batch: Mapping[str, Sequence[Record]]) -> None:
        new = await self._sink.write(batch)
        self._tally.outcomes[Outcome.REPLAYED] += len(new)
        # Another process can't have: the outbox is this one's alone.
        self._tally.outcomes[Outcome.ALREADY_REPLAYED] += len(batch) - len(new)
