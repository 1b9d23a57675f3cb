"""
The replay of dead letters: a writer beside the bridge, with its own outbox and relay.

`dead_letters` decides which letters are replayed. Here their payloads become records as
the bridge would make them now, and go through the replay's outbox to Kafka.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
import trio

from bridge.consumer.dead_letters import (
    Choice,
    Letter,
    Replaying,
    Shaped,
    Tally,
    received_at_us,
)
from bridge.errors import DeadLetterReason, OutboxDirectoryError
from bridge.events import header_names as names
from bridge.events.intake import Intake
from bridge.events.record import Origin, Record
from bridge.kafka.relay.relay import Relay
from bridge.kafka.scan import Progress
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.survey import is_for_replays, replayed_in
from bridge.outbox.values import RETENTION
from bridge.schemas.registry import SchemaRegistry
from bridge.settings import Settings


__all__ = ["Replayed", "directory_of", "replay", "shaper"]

_T = TypeVar("_T")

_log = structlog.get_logger("bridge.replay")

# How often the outbox is looked at while something waits, and for an answer.
_LOOK_SECONDS = 0.02
_ANSWER_SECONDS = 0.001

# Rows that may wait while more are written: what the relay sends in some 100 ms.
_MAX_WAITING = 5_000

# An election takes seconds; a longer wait has failed.
STALLED_SECONDS = 60.0

# As in `bridge.service`: what the Kafka thread gets for its end.
_RELAY_GRACE_SECONDS = 4.0

# A disk that can't be written to for so long doesn't recover by itself.
_STUCK_SECONDS = 1.0


class _StalledError(Exception):
    """There is no progress; what is written waits for the next run."""


class Replayed(msgspec.Struct, frozen=True):
    """
    The result of a replay.

    Attributes:
        tally: What became of the letters.
        trouble: Why it is incomplete; None where all letters were looked at and all
            that was written is in Kafka.
        waiting: How many records wait in its outbox for the next run.
    """

    tally: Tally
    trouble: str | None = None
    waiting: int = 0


def directory_of(settings: Settings, given: Path | None) -> Path:
    """
    Return the replay's own outbox directory.

    Args:
        settings: The bridge's.
        given: The operator's choice; None for a directory inside the bridge's, and so
            on the same volume.

    Raises:
        OutboxDirectoryError: It is a bridge's.
    """
    own = settings.outbox.dir
    directory = own / "replay" if given is None else given
    if directory.resolve() == own.resolve() or not is_for_replays(directory):
        raise OutboxDirectoryError(
            f"--outbox-dir: {directory} is the outbox directory of a bridge; a replay "
            "is a writer of its own and needs another one"
        )
    return directory


async def replay(  # noqa: PLR0913 - each is one independent choice of the caller
    settings: Settings,
    *,
    directory: Path,
    dead_letter_topic: str,
    since_ms: int | None = None,
    reason: str | None = None,
    is_dry: bool = False,
    on_progress: Callable[[str, Progress], None] = lambda _what, _progress: None,
) -> Replayed:
    """
    Publish the dead letters that this version can read; none twice.

    SIGTERM or SIGINT ends it in order, a second one at once. However it ends, the next
    run does the rest.

    Args:
        settings: Those of the scope `REPLAY`.
        directory: From `directory_of`.
        dead_letter_topic: The topic of dead letters.
        since_ms: Only letters as young as that, milliseconds since the epoch.
        reason: Only letters with this reason.
        is_dry: Whether nothing is written, to disk or to Kafka.
        on_progress: Receives the progress of each reading.

    Raises:
        KafkaUnreachableError: Kafka doesn't answer.
        KafkaRefusedError: Kafka refuses: a topic is missing or may not be used.
        OutboxError: The outbox can't be used.
        ConfigError: A setting that only its use shows to be wrong.
    """
    choice = Choice(
        dead_letter_topic=dead_letter_topic,
        topic=settings.topic,
        since_ms=since_ms,
        reason=reason,
        ended_seconds=RETENTION.ended_seconds,
    )
    shape = shaper(settings, dead_letter_topic)
    prepare = partial(Replaying, settings.kafka, choice, shape, on_progress=on_progress)
    if is_dry:
        return await _run(prepare(sink=_DrySink(directory)), None, 0.0)
    # As the bridge would create it, if none has run here yet.
    with suppress(OSError):
        settings.outbox.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with OutboxDirectory(directory) as locked:
        writer = _Writer(settings, locked, dead_letter_topic)
        return await _run(
            prepare(sink=writer), writer, settings.shutdown_timeout_seconds
        )


async def _run(
    replaying: Replaying, writer: _Writer | None, drain_seconds: float
) -> Replayed:
    trouble: str | None = "it was interrupted"
    async with trio.open_nursery() as nursery:
        if writer is not None:
            nursery.start_soon(writer.run_relay)
        with trio.CancelScope() as work:
            nursery.start_soon(_watch_signals, work, nursery.cancel_scope)
            try:
                await replaying.run()
                trouble = None
            except _StalledError as error:
                trouble, drain_seconds = str(error), 0.0
        if writer is not None:
            await writer.drain(drain_seconds)
        nursery.cancel_scope.cancel()
    if writer is None or not writer.waiting:
        return Replayed(replaying.tally, trouble)
    _log.warning("replay.incomplete", waiting=writer.waiting, trouble=trouble)
    return Replayed(replaying.tally, trouble or "Kafka was too slow", writer.waiting)


async def _watch_signals(work: trio.CancelScope, everything: trio.CancelScope) -> None:
    """Stop in order at the first signal, at once at the second."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        # No deadline: most runs get no signal at all.
        async for number in signals:
            _log.info("replay.signal", signal=signal.Signals(number).name)
            if work.cancel_called:
                everything.cancel()
            work.cancel()


# -- What becomes of a payload ---------------------------------------------------------


def shaper(
    settings: Settings, dead_letter_topic: str
) -> Callable[[Letter], Shaped | str]:
    """
    Return what makes records of a letter's payload, by the bridge's own intake.

    It returns the reason if this version can't read the payload either.

    Args:
        settings: The bridge's.
        dead_letter_topic: The topic of dead letters.
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
        source = letter.text(names.CE_SOURCE) or ""
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


# -- Where records go ------------------------------------------------------------------


class _DrySink:
    """Accepts what would be replayed, and writes nothing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._taken: set[str] = set()

    async def known(self, ce_ids: Sequence[str]) -> set[str]:
        return replayed_in(self._directory, ce_ids)

    async def write(self, letters: Mapping[str, Sequence[Record]]) -> set[str]:
        new = letters.keys() - self._taken
        self._taken |= new
        return new

    async def settle(self) -> None:
        pass


class _Writer:
    """The replay's outbox and relay, with a bound for what waits."""

    def __init__(
        self, settings: Settings, directory: OutboxDirectory, dead_letter_topic: str
    ) -> None:
        registry = None
        if settings.schema_registry.url is not None:
            registry = SchemaRegistry(settings)
        self._outbox = Outbox(directory, replace(settings.outbox, dir=directory.path))
        topics = [settings.topic, dead_letter_topic]
        if settings.previews == "topic":
            topics.append(settings.preview_topic)
        self._relay = Relay(
            # The bridge creates and checks topics.
            replace(settings.kafka, create_topics=False),
            topics,
            self._outbox,
            dead_letter_topic=dead_letter_topic,
            max_dead_letter_bytes=settings.limits.event_bytes,
            delivery=settings.delivery,
            wire_format=registry,
        )
        self._relay_ended = trio.Event()

    @property
    def waiting(self) -> int:
        """How many rows wait for Kafka."""
        return self._outbox.statistics.rows

    async def run_relay(self) -> None:
        """Send what is written, until it is cancelled or drained."""
        try:
            await self._relay.run()
        finally:
            self._relay_ended.set()

    async def drain(self, seconds: float) -> None:
        """Give what waits its time to reach Kafka, and end the relay."""
        self._relay.drain()
        with trio.move_on_after(seconds):
            await self._relay_ended.wait()
        self._relay.abort()
        with trio.move_on_after(_RELAY_GRACE_SECONDS):
            await self._relay_ended.wait()

    # -- As a sink ------------------------------------------------------------

    async def known(self, ce_ids: Sequence[str]) -> set[str]:
        """Return those of some letters that were replayed."""
        return await self._answer(self._outbox.replayed(ce_ids)) if ce_ids else set()

    async def write(self, letters: Mapping[str, Sequence[Record]]) -> set[str]:
        """Write the records of letters, and note the letters, in one transaction."""
        topics = {one.topic for records in letters.values() for one in records}
        # Partition counts are known once Kafka was reached.
        await self._wait(
            lambda: self.waiting <= _MAX_WAITING and self._outbox.knows(topics)
        )
        return await self._answer(self._outbox.replay(letters))

    async def settle(self) -> None:
        """Wait until all that was written is in Kafka."""
        await self._wait(lambda: self.waiting == 0)

    async def _wait(self, is_done: Callable[[], bool]) -> None:
        """Wait for as long as Kafka takes records."""
        least, moved_at, last_error = self.waiting, trio.current_time(), ""
        while not is_done():
            if self.waiting < least:
                least, moved_at, last_error = self.waiting, trio.current_time(), ""
            # Between two tries, while the relay reads the log, there is none.
            last_error = self._relay.statistics.last_error or last_error
            if trio.current_time() > moved_at + STALLED_SECONDS:
                # Without the error's name.
                reason = f": {last_error.partition(': ')[2]}" if last_error else ""
                trouble = (
                    f"has taken none of {least:,} records" if least else "was away"
                )
                raise _StalledError(
                    f"Kafka {trouble} for {STALLED_SECONDS:.0f} s{reason}"
                )
            await trio.sleep(_LOOK_SECONDS)
            self._check_disk()

    async def _answer(self, future: Future[_T]) -> _T:
        """Wait for the outbox's thread, also when cancelled: it takes milliseconds."""
        stuck_at = trio.current_time() + _STUCK_SECONDS
        with trio.CancelScope(shield=True):
            while not future.done():
                if trio.current_time() > stuck_at:
                    self._check_disk()
                await trio.sleep(_ANSWER_SECONDS)
        try:
            return future.result()
        except CancelledError as error:
            raise _StalledError("the outbox was damaged, or is at its end") from error

    def _check_disk(self) -> None:
        if self._outbox.is_stuck:
            raise _StalledError("nothing can be written to the disk of the outbox")
