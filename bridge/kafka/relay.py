"""
The relay: carries committed rows from the outbox into Kafka.

It owns a thread with an asyncio loop of its own, because aiokafka needs one and
because a client that misbehaves can then be thrown away with it. What a lane
does stands in `lane`; here lanes are opened, fed, drained and watched.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
import trio

from bridge.errors import KafkaError, KafkaRefusedError
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.lane import Lane, Memory
from bridge.kafka.log import ScanFrom, scan
from bridge.kafka.partitioner import partitioner
from bridge.kafka.ports import OutboxPort
from bridge.kafka.producers import Producers
from bridge.kafka.statistics import RelayStatistics
from bridge.kafka.topics import TopicFacts, look_up
from bridge.record import LaneState, StoredRecord
from bridge.settings import KafkaSettings


__all__ = ["Relay"]

_log = structlog.get_logger("bridge.kafka")

# The loop shows that it lives once a second; health calls it dead after ten.
_BEAT_SECONDS = 1.0

# An unreachable Kafka is asked again after so long; it isn't worth a setting,
# since nothing is lost meanwhile.
_RETRY_SECONDS = 2.0

_Key = tuple[str, int]


class Relay:
    """
    Carries an outbox's rows to Kafka, in a thread of its own.

    Args:
        settings: How to reach Kafka, sizes and times.
        groups: Topics by producer: a failure in one group doesn't touch the
            others. The first group is what health calls Kafka.
        outbox: The outbox.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        groups: Sequence[Sequence[str]],
        outbox: OutboxPort,
    ) -> None:
        self._settings = settings
        self._groups = [list(group) for group in groups]
        self._outbox = outbox
        self._writer = HeaderWriter(outbox.id)
        self._memory = Memory()
        self._lanes: dict[_Key, Lane] = {}
        self._inbox: deque[list[tuple[str, int, list[StoredRecord]]]] = deque()
        self._told = False
        self._aborted = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main_task: asyncio.Task[None] | None = None
        self._draining: asyncio.Event | None = None
        self.statistics = RelayStatistics(last_beat=time.monotonic())

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
        """
        try:
            await trio.to_thread.run_sync(self._run_loop, abandon_on_cancel=True)
        finally:
            self.abort()

    def drain(self) -> None:
        """Let `run` return once all that was committed is acknowledged."""
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
                self._lanes[topic, partition].claimed(last_sequence)

        self._in_loop(tell)

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
            asyncio.run(self._main())
        except asyncio.CancelledError:
            # `abort`: nothing is lost, the rows stay in the outbox.
            pass
        except BaseExceptionGroup as group:
            refusals, rest = group.split(KafkaError)
            if rest is not None or refusals is None:
                raise
            # All groups meet the same Kafka: the first one's word is enough.
            raise _first(refusals) from None

    async def _main(self) -> None:
        self._main_task = asyncio.current_task()
        self._draining = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._aborted:
            return
        self._outbox.subscribe(self._committed, self._claimed)
        async with asyncio.TaskGroup() as tasks:
            beat = tasks.create_task(self._beat())
            known = {name for group in self._groups for name in group}
            left = await asyncio.wrap_future(self._outbox.waiting_topics()) - known
            if left:
                # They were written under other settings; they go where they
                # were meant to go.
                _log.info("topics.left_over", topics=sorted(left))
            async with asyncio.TaskGroup() as workers:
                for group in [*self._groups, *([name] for name in sorted(left))]:
                    workers.create_task(self._serve(group))
            beat.cancel()

    async def _beat(self) -> None:
        while True:
            self.statistics.last_beat = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)

    def _distribute(self) -> None:
        self._told = False
        while self._inbox:
            for topic, partition, rows in self._inbox.popleft():
                self._lanes[topic, partition].committed(rows)

    def _start_draining(self) -> None:
        assert self._draining is not None
        self._draining.set()
        for lane in self._lanes.values():
            lane.drain()

    def _cancel(self) -> None:
        if self._main_task is not None:
            self._main_task.cancel()

    async def _serve(self, names: list[str]) -> None:
        producers = Producers(self._settings, self._writer, self.statistics)
        try:
            lanes = await self._open_when_possible(names, producers)
            async with asyncio.TaskGroup() as workers:
                for lane in lanes:
                    workers.create_task(lane.run())
        finally:
            await producers.close()

    # -- Opening lanes --------------------------------------------------------

    async def _open_when_possible(
        self, names: list[str], producers: Producers
    ) -> list[Lane]:
        """Open a group's lanes; none if draining begins before Kafka is reached."""
        assert self._draining is not None
        begun = time.monotonic()
        told: str | None = None
        while not self._draining.is_set():
            try:
                return await self._open(names, producers)
            except KafkaError as error:
                self.statistics.failed(error)
                waited = time.monotonic() - begun
                if await self._ends_start(error, waited):
                    raise
                if str(error) != told:
                    told = str(error)
                    _log.warning("kafka.waits", topics=names, error=told)
            try:
                async with asyncio.timeout(_RETRY_SECONDS):
                    await self._draining.wait()
            except TimeoutError:
                pass
        return []

    async def _ends_start(self, error: KafkaError, waited_seconds: float) -> bool:
        """
        Whether an error ends the process: only a start that never worked.

        Rows that wait, or an outbox that has been to Kafka before, are worth
        more than a quick end: the session is kept and Kafka asked again.
        """
        if self.statistics.ever_connected:
            return False
        states = await asyncio.wrap_future(self._outbox.lane_states())
        if await asyncio.wrap_future(self._outbox.waiting_topics()):
            return False
        if isinstance(error, KafkaRefusedError):
            return True
        return not states and waited_seconds >= self._settings.start_timeout_seconds

    async def _open(self, names: list[str], producers: Producers) -> list[Lane]:
        facts = await look_up(self._settings, names)
        # The producer first: it shows whether the user may write idempotently.
        async with producers.lend():
            pass
        lanes = []
        for name in names:
            lanes += await self._open_topic(facts[name], producers)
        self.statistics.worked()
        _log.info(
            "topics.open",
            topics={name: facts[name].partitions for name in names},
            waiting=sum(lane.waiting for lane in lanes),
        )
        return lanes

    async def _open_topic(self, topic: TopicFacts, producers: Producers) -> list[Lane]:
        states = {
            state.partition: state
            for state in await asyncio.wrap_future(self._outbox.lane_states())
            if state.topic == topic.name
        }
        if any(_unsure(state) for state in states.values()):
            # A batch of the process before this one may still be on its way.
            await asyncio.sleep(self._settings.resume_quiet_seconds)
        starts = {number: ScanFrom(None, 0) for number in range(topic.partitions)}
        for number, state in states.items():
            starts[number] = ScanFrom(state.resume_offset, state.acknowledged_sequence)
        tails = await scan(self._settings, self._outbox.id, topic.name, starts)
        lanes = []
        for number, tail in tails.items():
            known = states.get(number)
            start = starts[number]
            lane = self._lanes[topic.name, number] = Lane(
                topic,
                number,
                acknowledged_sequence=start.acknowledged_sequence,
                last_sequence=0 if known is None else known.last_sequence,
                resume_offset=tail.end_offset if start.offset is None else start.offset,
                found=tail.offsets,
                outbox=self._outbox,
                producers=producers,
                settings=self._settings,
                memory=self._memory,
                statistics=self.statistics,
            )
            lanes.append(lane)
        opened = {
            number: (tail.last_sequence, tail.end_offset)
            for number, tail in tails.items()
        }
        self.statistics.lanes += len(lanes)
        opening = self._outbox.open_topic(
            topic.name, partitioner(topic.partitions), opened
        )
        await asyncio.wrap_future(opening)
        return lanes


def _unsure(state: LaneState) -> bool:
    return state.last_sequence > state.acknowledged_sequence


def _first(group: BaseExceptionGroup[KafkaError]) -> KafkaError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, KafkaError)
    return error
