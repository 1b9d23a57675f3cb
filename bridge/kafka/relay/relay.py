"""
The relay: carries committed rows from the outbox into Kafka.

It owns a thread with an asyncio loop of its own, because aiokafka needs one and
because a client that misbehaves can then be thrown away with it. What a lane
does stands in `lane`, how it comes about in `opening`; here lanes are fed,
drained and watched.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal, cast

import structlog
import trio

from bridge.errors import BridgeError
from bridge.events.dead_letter import DEFAULT_MAX_BYTES
from bridge.events.record import StoredRecord
from bridge.kafka.asking import answer
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.loop import ClosingLoop
from bridge.kafka.relay.delivery import Delivery
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.idempotent import IdempotentDelivery
from bridge.kafka.relay.lane import Lane
from bridge.kafka.relay.memory import Memory
from bridge.kafka.relay.opening import open_lanes
from bridge.kafka.relay.outage import Outage
from bridge.kafka.relay.ports import Framing, OutboxPort
from bridge.kafka.relay.publications import PublicationTrace
from bridge.kafka.relay.resuming import TopicReplacedError
from bridge.kafka.relay.silence import explain_silence
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.kafka.relay.topic_watch import TopicWatch
from bridge.kafka.relay.transactional import TransactionalDelivery
from bridge.kafka.topics import NO_NEEDS, TopicNeeds
from bridge.settings import KafkaSettings


__all__ = ["Relay"]

_log = structlog.get_logger("bridge.kafka")

# The loop shows that it lives once a second; health calls it dead after ten.
_BEAT_SECONDS = 1.0

# How often a drain asks the outbox whether rows still wait.
_LOOK_SECONDS = 0.02


class Relay:
    """
    Carries an outbox's rows to Kafka, in a thread of its own.

    Args:
        settings: How to reach Kafka, sizes and times.
        groups: Topics by producer: a failure in one group doesn't touch the
            others. The first group is what health calls Kafka.
        outbox: The outbox.
        dead_letter_topic: Where records go that the broker refuses for good; it
            must be in a group. Without one they go to quarantine.
        max_dead_letter_bytes: Of larger ones only the first part is kept.
        gap_topic: Where gaps go, if they do: see `Group`.
        delivery: What the writes promise.
        framing: What stands before the values of topics; nothing without it.
        needs: What topics must be like, by name: see `topics.needs`. Others are taken
            as they are.
        trace: Is told of each batch, on the relay's thread.
    """

    def __init__(  # noqa: PLR0913 - what it carries, each given by name
        self,
        settings: KafkaSettings,
        groups: Sequence[Sequence[str]],
        outbox: OutboxPort,
        *,
        dead_letter_topic: str | None = None,
        max_dead_letter_bytes: int = DEFAULT_MAX_BYTES,
        gap_topic: str | None = None,
        delivery: Literal["idempotent", "transactional"] = "idempotent",
        framing: Framing | None = None,
        needs: Mapping[str, TopicNeeds] = NO_NEEDS,
        trace: PublicationTrace | None = None,
    ) -> None:
        self._settings = settings
        self._topics = [tuple(topics) for topics in groups]
        self._outbox = outbox
        self._dead_letter_topic = dead_letter_topic
        self._max_dead_letter_bytes = max_dead_letter_bytes
        self._gap_topic = gap_topic
        self._delivery = delivery
        self._needs = needs
        self._framing = framing
        self._trace = trace
        self._memory = Memory()
        self._limits: dict[str, int] = {}
        self.statistics = RelayStatistics()
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._outages: list[Outage] = []
        self._inbox: deque[list[tuple[str, int, list[StoredRecord]]]] = deque()
        self._told = False
        self._aborted = False
        self._replaced = False
        self._drain_asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main_task: asyncio.Task[None] | None = None
        self._draining: asyncio.Event | None = None

    def _group(
        self, topics: Sequence[str], watch: TopicWatch, *, is_first: bool = False
    ) -> Group:
        watch.add(topics)
        outage = Outage(topics, self.statistics if is_first else None)
        self._outages.append(outage)
        return Group(
            topics=tuple(topics),
            settings=self._settings,
            outbox=self._outbox,
            outage=outage,
            memory=self._memory,
            statistics=self.statistics,
            dead_letter_topic=self._dead_letter_topic,
            max_dead_letter_bytes=self._max_dead_letter_bytes,
            gap_topic=self._gap_topic,
            limits=self._limits,
            watch=watch,
            framing=self._framing,
            trace=self._trace,
        )

    # -- Trio's doors ---------------------------------------------------------

    async def run(self) -> None:
        """
        Work until `drain` has done its work, or `abort`.

        Cancelling it aborts: rows that Kafka has not acknowledged stay in the
        outbox.

        Raises:
            KafkaUnreachableError: Kafka was never reached, by no process with
                this outbox, and there is nothing to keep.
            KafkaRefusedError: Kafka refuses at a start that never worked, and
                there is nothing to keep.
            ConfigError: A certificate or key can't be used, likewise.
        """
        try:
            await trio.to_thread.run_sync(self._run_loop, abandon_on_cancel=True)
        finally:
            self.abort()

    def drain(self) -> None:
        """Let `run` return once all that was committed is acknowledged."""
        self._drain_asked = True
        self._in_loop(self._start_draining)

    def abort(self) -> None:
        """Let `run` return now."""
        self._aborted = True
        self._in_loop(self._cancel)

    # -- The outbox's doors, called on its thread -----------------------------

    def _committed(self, placed: list[tuple[str, int, list[StoredRecord]]]) -> None:
        self._inbox.append(placed)
        # One wake-up for all that gathers until the loop comes by.
        if not self._told:
            self._told = True
            self._in_loop(self._distribute)

    def _claimed(self, lanes: list[tuple[str, int, int]]) -> None:
        def tell() -> None:
            for topic, partition, last_sequence in lanes:
                if lane := self._lanes.get((topic, partition)):
                    lane.claimed(last_sequence)

        self._in_loop(tell)

    def _was_replaced(self) -> None:
        # Looked at before anything else is done with the new file.
        self._replaced = True
        self._in_loop(self._cancel)

    def _in_loop(self, callback: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None:
            return
        # RuntimeError: the loop has ended, what it would be told is in the outbox.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(callback)

    # -- Inside the loop ------------------------------------------------------

    def _run_loop(self) -> None:
        try:
            while True:
                self._replaced = False
                try:
                    self._run_once()
                except asyncio.CancelledError:
                    pass
                except BaseExceptionGroup:
                    # What failed may have asked for a lane of the file before.
                    if not self._replaced:
                        raise
                if not self._replaced or self._aborted:
                    break
                _log.warning("relay.begins_anew", outbox=self._outbox.id)
        except BaseExceptionGroup as group:
            ours, rest = group.split(BridgeError)
            if rest is not None or ours is None:
                raise
            # All groups meet the same Kafka: the first one's word is enough.
            raise _first(ours) from None
        finally:
            # Zero: it doesn't run, and isn't stuck.
            self.statistics.last_beat = 0.0

    def _run_once(self) -> None:
        """
        Work with one outbox, in a loop of its own.

        Raises:
            asyncio.CancelledError: `abort`, the outbox has ended, or another file
                is in its place: rows that were committed stay where they are.
        """
        with asyncio.Runner(loop_factory=ClosingLoop) as runner:
            try:
                runner.run(self.work())
            finally:
                runner.run(cast("ClosingLoop", runner.get_loop()).abort_connections())

    async def work(self) -> None:
        """
        Work with the outbox of now in the loop that runs, until all is drained.

        `run` calls it in a thread of its own.

        Raises:
            BaseExceptionGroup: As `run`; the errors of all groups.
        """
        self._main_task = asyncio.current_task()
        self._draining = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # Asked before there was a loop to tell.
        if self._aborted or self._replaced:
            return
        if self._drain_asked:
            self._draining.set()
        self._outages.clear()
        self._lanes.clear()
        self._inbox.clear()
        self._told = False
        self.statistics.lanes = 0
        self._outbox.subscribe(self._committed, self._claimed, self._was_replaced)
        watch = TopicWatch(self._settings, self._needs, self.statistics)
        groups = [
            self._group(topics, watch, is_first=number == 0)
            for number, topics in enumerate(self._topics)
        ]
        async with asyncio.TaskGroup() as tasks:
            beat = tasks.create_task(self._beat())
            watching = tasks.create_task(watch.run(self._outages[0]))
            explaining = tasks.create_task(
                explain_silence(self._settings, self._outages)
            )
            known = {topic for topics in self._topics for topic in topics}
            left = sorted(await answer(self._outbox.waiting_topics()) - known)
            if left:
                # They were written under other settings; they go where they
                # were meant to go.
                _log.info("topics.left_over", topics=left)
                groups += [self._group([topic], watch) for topic in left]
            writer = HeaderWriter(self._outbox.id)
            async with asyncio.TaskGroup() as workers:
                for group in groups:
                    workers.create_task(self._serve(group, writer, self._draining))
            beat.cancel()
            watching.cancel()
            explaining.cancel()

    async def _beat(self) -> None:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            self.statistics.beat(now, now - due)
            for outage in self._outages:
                outage.look()
            due = time.monotonic() + _BEAT_SECONDS
            await asyncio.sleep(_BEAT_SECONDS)

    async def _serve(
        self, group: Group, writer: HeaderWriter, draining: asyncio.Event
    ) -> None:
        is_start = True
        delivery: Delivery
        if self._delivery == "transactional":
            delivery = TransactionalDelivery(group, writer)
        else:
            delivery = IdempotentDelivery(group, writer)
        try:
            while not await self._serve_once(
                group, delivery, draining, is_start=is_start
            ):
                is_start = False
        finally:
            await delivery.close()

    async def _serve_once(
        self,
        group: Group,
        delivery: Delivery,
        draining: asyncio.Event,
        *,
        is_start: bool,
    ) -> bool:
        """Serve until all is drained; False if lanes have to be opened again."""
        lanes = await open_lanes(
            group, delivery, self._lanes, draining, is_start=is_start
        )
        ended = True
        try:
            async with asyncio.TaskGroup() as workers:
                watching = workers.create_task(_watch(group, lanes, draining))
                carrying = workers.create_task(delivery.carry(lanes))
                carrying.add_done_callback(lambda _: watching.cancel())
                await self._drain(lanes, group, draining)
        except* TopicReplacedError:
            ended = False
            _log.warning("lanes.reopen", topics=list(group.topics))
            group.statistics.lanes -= len(lanes)
            for lane in lanes:
                lane.forget()
                group.outage.forget(lane.key)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # A task group that fails while it is cancelled tells of its failure alone.
            raise asyncio.CancelledError
        return ended

    async def _drain(
        self, lanes: Sequence[Lane], group: Group, draining: asyncio.Event
    ) -> None:
        """
        Let lanes end once nothing waits for them, when draining has begun.

        Only the outbox knows that: of rows that it has not yet given a lane, no
        lane has heard.
        """
        # No deadline: most of a process's life nothing drains. `abort` ends it.
        await draining.wait()
        while lanes:
            waiting = await answer(self._outbox.waiting_topics())
            if waiting.isdisjoint(group.topics):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        for lane in lanes:
            lane.drain()

    def _distribute(self) -> None:
        self._told = False
        while self._inbox:
            for topic, partition, rows in self._inbox.popleft():
                # One that isn't open yet reads its rows from the outbox.
                if lane := self._lanes.get((topic, partition)):
                    lane.committed(rows)

    def _start_draining(self) -> None:
        assert self._draining is not None
        self._draining.set()

    def _cancel(self) -> None:
        if self._main_task is not None:
            self._main_task.cancel()


async def _watch(group: Group, lanes: Sequence[Lane], draining: asyncio.Event) -> None:
    """
    Have lanes opened again once they don't fit their topics any more.

    Raises:
        TopicReplacedError: They don't; not while they drain, which ends them anyway.
    """
    await group.watch.until_changed({lane.facts.name: lane.facts for lane in lanes})
    if not draining.is_set():
        raise TopicReplacedError(", ".join(group.topics))


def _first(group: BaseExceptionGroup[BridgeError]) -> BridgeError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, BridgeError)
    return error
