"""
The replay of dead letters: which are published again, and in what order of reading.

Letters are read first, then the topic of jobs, then the letters once more, which are
written. That is done for so many jobs at a time, so that memory is bounded.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias

import msgspec
import structlog
import trio
from rich.console import Console

from bridge.consumer.dead_letters import NO_REASON, Letter, as_letter, received_at_us
from bridge.consumer.job_record import UNREADABLE, read_job_record
from bridge.consumer.reading import Take, read_all, read_through
from bridge.consumer.render import escaped, json_object, print_line, print_table
from bridge.consumer.replay_outbox import ReplayOutbox, StalledError
from bridge.errors import DeadLetterReason
from bridge.events import header_names as names
from bridge.events.intake import Intake
from bridge.events.job_status import STATUSES, TERMINAL_STATUSES
from bridge.events.record import Origin, Record
from bridge.kafka.reader import ConsumedRecord, Edge, PartitionId, Start
from bridge.kafka.scan import Progress
from bridge.outbox import OutboxDirectory
from bridge.outbox.survey import replayed_in
from bridge.outbox.values import RETENTION
from bridge.settings import Settings


__all__ = [
    "Choice",
    "Outcome",
    "Replayed",
    "Shaped",
    "replay",
    "replayed_as_json",
    "shaper",
    "show_replayed",
]

# Receives how far a reading has come, and what it reads.
OnStep: TypeAlias = Callable[[Progress, str], None]

_log = structlog.get_logger("bridge.replay")

# Jobs that are handled together: 30 MB with what is known of each.
JOBS_AT_ONCE = 100_000

# What is given to the outbox at once, beside at most 2,000 letters.
BATCH_BYTES = 1024 * 1024


class Outcome(StrEnum):
    """The result for one dead letter; a closed vocabulary."""

    REPLAYED = "replayed"
    ALREADY_REPLAYED = "already_replayed"
    OVERTAKEN = "overtaken"
    STILL_INVALID = "still_invalid"
    AFTER_TERMINAL = "after_terminal"
    INVALID_PREVIEW = "invalid_preview"
    TRUNCATED = "truncated"
    REFUSED_BY_BROKER = "refused_by_broker"
    OTHER_TOPIC = "other_topic"
    UNKNOWN_REASON = "unknown_reason"
    FOREIGN = "foreign"
    NOT_CHOSEN = "not_chosen"


_MEANINGS = {
    Outcome.REPLAYED: "valid now, published on the topic of jobs",
    Outcome.ALREADY_REPLAYED: "published by an earlier replay",
    Outcome.OVERTAKEN: "valid now, but its job has ended or has a later event",
    Outcome.STILL_INVALID: "this version can't decode it either",
    Outcome.AFTER_TERMINAL: "would follow its job's last record",
    Outcome.INVALID_PREVIEW: "a preview, not a job event",
    Outcome.TRUNCATED: "only its first part was kept",
    Outcome.REFUSED_BY_BROKER: "tried again with --reason refused_by_broker",
    Outcome.OTHER_TOPIC: "was meant for another topic",
    Outcome.UNKNOWN_REASON: "written by a newer bridge",
    Outcome.FOREIGN: "not written by a bridge",
    Outcome.NOT_CHOSEN: "left out by --reason or --since",
}

# By reason, what keeps a letter where it is. Another reason is a newer bridge's.
_STAYS: Mapping[str, Outcome | None] = {
    **dict.fromkeys(DeadLetterReason),
    DeadLetterReason.AFTER_TERMINAL: Outcome.AFTER_TERMINAL,
    DeadLetterReason.INVALID_PREVIEW: Outcome.INVALID_PREVIEW,
}


class Choice(msgspec.Struct, frozen=True):
    """Which letters are replayed."""

    dead_letter_topic: str
    topic: str
    since_ms: int | None = None  # only letters as young as that
    reason: str | None = None  # only letters of this reason

    def outcome(self, letter: Letter) -> Outcome | None:
        """Return why a letter stays where it is; None if its payload decides."""
        since_ms, reason = self.since_ms, letter.reason
        # Older ones may follow the first of that age.
        is_young = since_ms is None or letter.record.timestamp_ms >= since_ms
        if not is_young or self.reason not in {None, reason}:
            return Outcome.NOT_CHOSEN
        # Without account and identity its owner isn't known, nor whether it was
        # replayed before.
        if reason == NO_REASON or not (letter.header(names.CE_SOURCE) and letter.ce_id):
            return Outcome.FOREIGN
        stays = _STAYS.get(reason, Outcome.UNKNOWN_REASON)
        if stays is None and names.BRIDGE_TRUNCATED in letter.record.headers:
            return Outcome.TRUNCATED
        if stays is None and reason == DeadLetterReason.REFUSED_BY_BROKER:
            if letter.header(names.BRIDGE_REFUSED_TOPIC) != self.topic:
                return Outcome.OTHER_TOPIC
            # What the broker refuses again is a new letter each time: the operator must
            # have changed something.
            return Outcome.REFUSED_BY_BROKER if self.reason is None else None
        return stays


class Replayed(msgspec.Struct):
    """The result of a replay: how many letters have which outcome."""

    outcomes: Counter[Outcome] = msgspec.field(default_factory=Counter)
    # The reasons of those that this version can't decode either.
    invalid: Counter[str] = msgspec.field(default_factory=Counter)
    # Why it is incomplete, and how many records wait for the next run.
    trouble: str | None = None
    waiting: int = 0


async def replay(
    settings: Settings,
    choice: Choice,
    directory: Path,
    *,
    is_dry: bool = False,
    on_progress: OnStep = lambda _progress, _what: None,
) -> Replayed:
    """
    Publish the dead letters that this version can decode; none twice.

    SIGTERM or SIGINT ends it in order, a second one at once. However it ends, the next
    run does the rest. A dry run writes nothing, to disk or to Kafka.

    Raises:
        KafkaUnreachableError: Kafka doesn't answer.
        KafkaRefusedError: Kafka refuses: a topic is missing or may not be used.
        OutboxError: The outbox can't be used.
        ConfigError: A setting that only its use shows to be wrong.
    """
    if is_dry:
        return await _Replay(settings, choice, _DryOutbox(directory), on_progress).run()
    # As the bridge would create it, if none has run here yet.
    with suppress(OSError):
        settings.outbox.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with OutboxDirectory(directory) as locked:
        outbox = ReplayOutbox(settings, locked, choice.dead_letter_topic)
        return await _Replay(settings, choice, outbox, on_progress).run()


class _Replay:
    """One replay, from the start of the dead letters to their present end."""

    def __init__(
        self,
        settings: Settings,
        choice: Choice,
        outbox: _DryOutbox | ReplayOutbox,
        on_progress: OnStep,
    ) -> None:
        self._settings = settings
        self._choice = choice
        self._outbox = outbox
        self._shape = shaper(settings, choice.dead_letter_topic)
        self._on_progress = on_progress
        self._result = Replayed()

    async def run(self) -> Replayed:
        """Replay what there is, until a signal; say what became of it."""
        outbox, result = self._outbox, self._result
        result.trouble = "it was interrupted"
        drain_seconds = self._settings.shutdown_timeout_seconds
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.run)
            with trio.CancelScope() as work:
                nursery.start_soon(_watch_signals, work, nursery.cancel_scope)
                try:
                    await self._replay()
                    result.trouble = None
                except StalledError as error:
                    result.trouble, drain_seconds = str(error), 0.0
            await outbox.drain(drain_seconds)
            nursery.cancel_scope.cancel()
        if outbox.waiting:
            result.trouble = result.trouble or "Kafka was too slow"
            result.waiting = outbox.waiting
            _log.warning(
                "replay.incomplete", waiting=outbox.waiting, trouble=result.trouble
            )
        return result

    async def _replay(self) -> None:
        # What an earlier replay left in the outbox goes first.
        await self._outbox.settle()
        since_ms = self._choice.since_ms
        start: Start = Edge.BEGINNING if since_ms is None else since_ms
        behind: Mapping[PartitionId, int] | None = None
        ends: Mapping[PartitionId, int] | None = None
        while behind is None or behind != ends:
            look = _Look()
            behind, ends = await self._read(
                "dead letters", partial(self._look, look), start, ends
            )
            if look.jobs:
                states = await self._states(look)
                await self._read("replay", partial(self._write, states), start, behind)
                await self._outbox.settle()
            else:
                self._result.outcomes += look.result.outcomes
                self._result.invalid += look.result.invalid
            start = behind

    async def _read(
        self,
        what: str,
        take: Take,
        start: Start,
        ends: Mapping[PartitionId, int] | None,
    ) -> tuple[dict[PartitionId, int], dict[PartitionId, int]]:
        topic, settings = self._choice.dead_letter_topic, self._settings.kafka
        return await read_through(
            settings,
            topic,
            take,
            start=start,
            ends=ends,
            on_progress=lambda progress: self._on_progress(progress, what),
        )

    async def _states(self, look: _Look) -> _JobStates:
        """Read the states of the jobs that there are letters of."""
        states = _JobStates(look.jobs)
        since_us = look.oldest_us - int(RETENTION.ended_seconds * 1_000_000)
        await read_all(
            self._settings.kafka,
            self._choice.topic,
            states.learn,
            since_ms=max(since_us // 1000, 0),
            on_progress=lambda progress: self._on_progress(progress, "jobs"),
        )
        return states

    async def _look(self, look: _Look, run: Sequence[ConsumedRecord]) -> bool:
        """Read letters for the first time."""
        for letter, _, shaped in await self._shaped(run, look.result):
            at_us = received_at_us(letter.record)
            look.oldest_us = min(look.oldest_us, at_us) if look.jobs else at_us
            look.jobs.add(shaped.key)
        return len(look.jobs) >= JOBS_AT_ONCE

    async def _write(self, states: _JobStates, run: Sequence[ConsumedRecord]) -> None:
        """Read letters for the second time, and write what isn't overtaken."""
        outcomes = self._result.outcomes
        batch: dict[str, Sequence[Record]] = {}
        size_bytes = 0
        found = await self._shaped(run, self._result)
        for number, (letter, ce_id, shaped) in enumerate(found, 1):
            at_us = received_at_us(letter.record)
            if ce_id in states.replayed or ce_id in batch:
                outcomes[Outcome.ALREADY_REPLAYED] += 1
            elif states.has_overtaken(shaped.key, shaped.status, at_us):
                outcomes[Outcome.OVERTAKEN] += 1
            else:
                states.note(shaped.key, shaped.status, at_us)
                batch[ce_id] = shaped.records
                size_bytes += sum(len(record.value) for record in shaped.records)
            if batch and (size_bytes >= BATCH_BYTES or number == len(found)):
                new = await self._outbox.write(batch)
                outcomes[Outcome.REPLAYED] += len(new)
                outcomes[Outcome.ALREADY_REPLAYED] += len(batch) - len(new)
                batch, size_bytes = {}, 0

    async def _shaped(
        self, run: Sequence[ConsumedRecord], result: Replayed
    ) -> list[tuple[Letter, str, Shaped]]:
        """Return the letters that can be decoded now, and count all others."""
        letters = [as_letter(record) for record in run]
        known = await self._outbox.known({one.ce_id for one in letters if one.ce_id})
        found = []
        for letter in letters:
            ce_id = letter.ce_id
            outcome = self._choice.outcome(letter)
            if ce_id in known:
                outcome = Outcome.ALREADY_REPLAYED
            if outcome is None:
                shaped = self._shape(letter)
                if isinstance(shaped, Shaped):
                    assert ce_id is not None
                    found.append((letter, ce_id, shaped))
                    continue
                result.invalid[shaped] += 1
                outcome = Outcome.STILL_INVALID
            result.outcomes[outcome] += 1
        return found


class _DryOutbox:
    """Accepts what would be replayed, and writes nothing."""

    waiting = 0

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._taken: set[str] = set()

    async def run(self) -> None:
        pass

    async def drain(self, _seconds: float) -> None:
        pass

    async def known(self, ce_ids: Collection[str]) -> set[str]:
        return replayed_in(self._directory, [*ce_ids])

    async def write(self, letters: Mapping[str, Sequence[Record]]) -> set[str]:
        new = letters.keys() - self._taken
        self._taken |= new
        return new

    async def settle(self) -> None:
        pass


class _Look:
    """
    The first reading's result.

    Attributes:
        jobs: The keys of jobs that there are letters of that can be decoded now.
        oldest_us: When the first of their events was read.
        result: The outcomes of the other letters.
    """

    def __init__(self) -> None:
        self.jobs: set[bytes] = set()
        self.oldest_us = 0
        self.result = Replayed()


# In the order in which a job has them; nothing follows a terminal one.
_RANKS = {status: rank for rank, status in enumerate(STATUSES)} | (
    dict.fromkeys(TERMINAL_STATUSES, len(STATUSES))
)


class _JobStates:
    """
    How far some jobs are on their topic: a replayed event must not come after it.

    Args:
        keys: The jobs; all others are ignored, so that memory has this bound.

    Attributes:
        replayed: Dead letters whose events are on the topic, by their `ce_id`.
    """

    def __init__(self, keys: Collection[bytes]) -> None:
        self._keys = keys
        # (the furthest status, when the latest event was read)
        self._states: dict[bytes, tuple[int, int]] = {}
        self.replayed: set[str] = set()

    def learn(self, record: ConsumedRecord) -> None:
        """Learn from a record on the topic of jobs; another one is ignored."""
        key = record.key
        if key is None or key not in self._keys:
            return
        letter = record.headers.get(names.BRIDGE_REPLAYED_CE_ID)
        if letter is not None:
            self.replayed.add(letter.decode(errors="replace"))
        status = read_job_record(record).status
        if status != UNREADABLE:
            self.note(key, status, received_at_us(record))

    def note(self, key: bytes, status: str, at_us: int) -> None:
        """Note that an event of a job is on the topic, or will be."""
        rank, latest_us = self._states.get(key, (-1, -1))
        self._states[key] = max(rank, _RANKS.get(status, -1)), max(latest_us, at_us)

    def has_overtaken(self, key: bytes, status: str, at_us: int) -> bool:
        """
        Return whether a job is past an event.

        A job that has ended is past all of them. Else a terminal event is never late,
        and another one is where the job has a later status or a later event.
        """
        rank, latest_us = self._states.get(key, (-1, -1))
        if rank == len(STATUSES):
            return True
        if status in TERMINAL_STATUSES:
            return False
        return rank > _RANKS.get(status, -1) or latest_us > at_us


async def _watch_signals(work: trio.CancelScope, everything: trio.CancelScope) -> None:
    """Stop in order at the first signal, at once at the second."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        # No deadline: most runs get no signal at all.
        async for number in signals:
            _log.info("replay.signal", signal=signal.Signals(number).name)
            if work.cancel_called:
                everything.cancel()
            work.cancel()


# -- What a payload becomes -----------------------------------------------------------


class Shaped(msgspec.Struct, frozen=True):
    """What this version makes of a letter's payload: the records of one job's event."""

    key: bytes
    status: str
    records: Sequence[Record]


def shaper(
    settings: Settings, dead_letter_topic: str
) -> Callable[[Letter], Shaped | str]:
    """
    Return a function that makes records of a letter's payload, by the bridge's intake.

    It returns the reason if this version can't decode the payload either.
    """

    # By account, as many as the bridge has; letters of other bridges are bounded too.
    @lru_cache(1024)
    def intake(ce_source: str) -> Intake:
        return Intake(
            ce_source=ce_source,
            topic=settings.topic,
            dead_letter_topic=dead_letter_topic,
            previews=settings.previews,
            preview_topic=settings.preview_topic,
            max_value_bytes=settings.limits.event_bytes,
            max_dead_letter_bytes=settings.limits.event_bytes,
            max_preview_bytes=settings.limits.preview_bytes,
            origin=Origin.REPLAY,
        )

    def shape(letter: Letter) -> Shaped | str:
        original = letter.record.value or b""
        try:
            # As it was written: halves of surrogate pairs have bytes there.
            text = original.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return DeadLetterReason.NOT_JSON
        source = letter.header(names.CE_SOURCE) or ""
        *others, record = intake(source).records(text, received_at_us(letter.record))
        headers = dict(record.extra)
        if record.topic != settings.topic:
            return headers[names.BRIDGE_REASON].decode()
        assert record.key is not None
        assert record.status is not None
        # What was changed before the broker refused it.
        former = letter.record.headers.get(names.BRIDGE_NORMALIZED, b"")
        words = (former + b"," + headers.get(names.BRIDGE_NORMALIZED, b"")).split(b",")
        if changes := b",".join(dict.fromkeys(filter(None, words))):
            headers[names.BRIDGE_NORMALIZED] = changes
        headers[names.BRIDGE_ANOMALY] = names.REPLAYED
        record_of_job = msgspec.structs.replace(record, extra=tuple(headers.items()))
        return Shaped(
            record.key,
            record.status,
            [_marked(each, letter) for each in (*others, record_of_job)],
        )

    return shape


def _marked(record: Record, letter: Letter) -> Record:
    marks = (
        (names.BRIDGE_REPLAYED_FROM, letter.place.encode()),
        (names.BRIDGE_REPLAYED_CE_ID, (letter.ce_id or "").encode()),
    )
    # Without a status the outbox doesn't take it for the present state of its job.
    return msgspec.structs.replace(
        record, extra=record.extra + marks, status=None, progress=None
    )


# -- What people and programs get -----------------------------------------------------


def show_replayed(
    choice: Choice, result: Replayed, console: Console, *, is_dry: bool
) -> None:
    """Print what became of dead letters in a replay, or would."""
    rows = []
    for outcome in Outcome:
        meaning = _MEANINGS[outcome]
        if is_dry and outcome is Outcome.REPLAYED:
            meaning = "valid now, would be published on the topic of jobs"
        if outcome is Outcome.STILL_INVALID:
            words = (f"{n:,} {word}" for word, n in result.invalid.most_common())
            meaning = f"{meaning}: {', '.join(words)}"
        rows.append((outcome.value, result.outcomes[outcome], meaning))
    columns = {"outcome": "left", "count": "right", "meaning": "fold"}
    if found := [row for row in rows if row[1]]:
        print_table(console, columns, found)
    what = "would be replayed" if is_dry else "replayed"
    end = "Nothing was written." if is_dry else "The others stay where they are."
    print_line(
        console,
        f"{result.outcomes[Outcome.REPLAYED]:,} of {result.outcomes.total():,} dead "
        f"letters on {escaped(choice.dead_letter_topic)} {what} to "
        f"{escaped(choice.topic)}. {end}",
    )


def replayed_as_json(choice: Choice, result: Replayed, *, is_dry: bool) -> bytes:
    """Write the same as one JSON object."""
    return json_object(
        {
            "topic": choice.topic,
            "dead_letter_topic": choice.dead_letter_topic,
            "dry_run": is_dry,
            "trouble": result.trouble,
            "waiting": result.waiting,
            "letters": result.outcomes.total(),
            "outcomes": {outcome: result.outcomes[outcome] for outcome in Outcome},
            "still_invalid": result.invalid,
        }
    )
