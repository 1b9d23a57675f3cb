"""
The replay's own outbox and relay: where replayed records go, and wait for Kafka.

Owns their life and the bounds of what waits. Which records they are is decided where
dead letters are read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TypeVar

import msgspec
import trio

from bridge.events.record import Record
from bridge.kafka.relay.relay import Relay
from bridge.outbox import Outbox, OutboxDirectory
from bridge.schemas.registry import SchemaRegistry
from bridge.settings import Settings


__all__ = ["StalledError", "Writer"]

_T = TypeVar("_T")

# How often the outbox is looked at while something waits.
_LOOK_SECONDS = 0.02

# Rows that may wait while more are written: what the relay sends in some 100 ms.
_MOST_WAITING = 5_000

# As for a reader: an election takes seconds, and what can't go on for longer has
# failed.
STALLED_SECONDS = 60.0

# As in `bridge.service`: what the Kafka thread gets for its end.
_RELAY_GRACE_SECONDS = 4.0


class StalledError(Exception):
    """Nothing gets any further; what is written waits for the next run."""


class Writer:
    """
    An outbox with its relay, as the sink of a replay.

    Args:
        settings: The bridge's.
        directory: The replay's own, locked.
        dead_letter_topic: Where records go that the broker refuses.

    Raises:
        OutboxError: The outbox can't be used.
    """

    def __init__(
        self, settings: Settings, directory: OutboxDirectory, dead_letter_topic: str
    ) -> None:
        registry = None
        if settings.schema_registry.url is not None:
            registry = SchemaRegistry(settings)
        self._outbox = Outbox(
            directory, msgspec.structs.replace(settings.outbox, dir=directory.path)
        )
        topics = [settings.topic, dead_letter_topic]
        if settings.previews == "topic":
            topics.append(settings.preview_topic)
        self._relay = Relay(
            # Making topics, and judging them, is the bridge's.
            msgspec.structs.replace(settings.kafka, create_topics=False),
            # Each on its own: a topic that refuses stops no other one.
            topics,
            self._outbox,
            dead_letter_topic=dead_letter_topic,
            max_dead_letter_bytes=settings.limits.dead_letter_bytes,
            delivery=settings.delivery,
            wire_format=registry,
        )
        self._relay_ended = trio.Event()

    @property
    def waiting(self) -> int:
        """How many rows wait for Kafka."""
        return self._outbox.statistics.rows

    def start(self, nursery: trio.Nursery) -> None:
        """Let it work in a nursery until it is cancelled."""
        nursery.start_soon(self._run_relay)

    async def drain(self, seconds: float) -> None:
        """Give what waits its time to reach Kafka, and end the relay."""
        self._relay.drain()
        with trio.move_on_after(seconds):
            # The threads of outbox and relay change what is looked at.
            while not (  # noqa: ASYNC110
                self.waiting == 0 or self._relay_ended.is_set() or self._outbox.is_stuck
            ):
                await trio.sleep(_LOOK_SECONDS)
        self._relay.abort()
        with trio.move_on_after(_RELAY_GRACE_SECONDS):
            await self._relay_ended.wait()

    # -- As a sink ------------------------------------------------------------

    async def known(self, ce_ids: Sequence[str]) -> set[str]:
        """Give those of some letters that were replayed."""
        return await self._answer(self._outbox.replayed(ce_ids)) if ce_ids else set()

    async def write(self, letters: Mapping[str, Sequence[Record]]) -> set[str]:
        """
        Write the records of letters, and note the letters, in one transaction.

        Raises:
            StalledError: The disk or Kafka takes nothing.
        """
        await self._wait_for(_MOST_WAITING)
        await self._wait_for_topics(
            {one.topic for records in letters.values() for one in records}
        )
        return await self._answer(self._outbox.replay(letters))

    async def settle(self) -> None:
        """
        Wait until all that was written stands in Kafka.

        Raises:
            StalledError: Kafka takes nothing.
        """
        await self._wait_for(0)

    async def _wait_for(self, most: int) -> None:
        least, moved_at, told = self.waiting, trio.current_time(), ""
        while self.waiting > most:
            if self.waiting < least:
                least, moved_at, told = self.waiting, trio.current_time(), ""
            # Between two tries, while a lane reads the log, there is none.
            told = self._relay.statistics.last_error or told
            if trio.current_time() > moved_at + STALLED_SECONDS:
                # Without the error's name.
                reason = f": {told.partition(': ')[2]}" if told else ""
                raise StalledError(
                    f"Kafka has taken none of {least:,} records for "
                    f"{STALLED_SECONDS:.0f} s{reason}"
                )
            await trio.sleep(_LOOK_SECONDS)
            self._check()

    async def _wait_for_topics(self, topics: Collection[str]) -> None:
        """Wait until there are partitions for records: Kafka was reached once."""
        begun = trio.current_time()
        while not self._outbox.knows(topics):
            if trio.current_time() > begun + STALLED_SECONDS:
                error = self._relay.statistics.last_error or ""
                raise StalledError(f"Kafka was not reached: {error.partition(': ')[2]}")
            await trio.sleep(_LOOK_SECONDS)

    async def _answer(self, future: Future[_T]) -> _T:
        """Wait for the outbox's thread, also when cancelled: it takes milliseconds."""
        done = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def tell(_future: Future[_T]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        future.add_done_callback(tell)
        with trio.CancelScope(shield=True):
            while not done.is_set():
                with trio.move_on_after(1.0):
                    await done.wait()
                if not done.is_set():
                    self._check()
        try:
            return future.result()
        except CancelledError as error:
            raise StalledError("the outbox was damaged, or is at its end") from error

    def _check(self) -> None:
        if self._outbox.is_stuck:
            raise StalledError("nothing can be written to the disk of the outbox")

    async def _run_relay(self) -> None:
        try:
            await self._relay.run()
        finally:
            self._relay_ended.set()
