"""The outbox and the relay of a replay, a writer of its own beside the bridge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import trio

from bridge.errors import OutboxDirectoryError
from bridge.events.record import Record
from bridge.kafka.relay.relay import Relay
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.survey import is_for_replays
from bridge.schemas.registry import SchemaRegistry
from bridge.settings import Settings


__all__ = ["ReplayOutbox", "StalledError", "directory_of"]

_T = TypeVar("_T")

# How often the outbox is polled while something waits, and for an answer.
_POLL_SECONDS = 0.02
_ANSWER_SECONDS = 0.001

# Rows that may wait while more are written: what the relay sends in some 100 ms.
_MAX_WAITING = 5_000

# An election takes seconds; a longer wait is a failure.
STALLED_SECONDS = 60.0

# As in `bridge.service`: what the Kafka thread gets for its end.
_RELAY_GRACE_SECONDS = 4.0

# A disk that can't be written to for so long doesn't recover by itself.
_STUCK_SECONDS = 1.0


class StalledError(Exception):
    """There is no progress; what is written waits for the next run."""


def directory_of(settings: Settings, given: Path | None) -> Path:
    """
    Return the replay's own outbox directory.

    Without the operator's choice it is inside the bridge's, and so on the same volume.

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


class ReplayOutbox:
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

    async def run(self) -> None:
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

    async def known(self, ce_ids: Collection[str]) -> set[str]:
        """Return those of some letters that were replayed."""
        if not ce_ids:
            return set()
        return await self._answer(self._outbox.replayed([*ce_ids]))

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
                raise StalledError(
                    f"Kafka {trouble} for {STALLED_SECONDS:.0f} s{reason}"
                )
            await trio.sleep(_POLL_SECONDS)
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
            raise StalledError("the outbox was damaged, or is at its end") from error

    def _check_disk(self) -> None:
        if self._outbox.is_stuck:
            raise StalledError("nothing can be written to the disk of the outbox")
