"""
The Kafka thread: one asyncio loop that commits, sends, acknowledges and trims.

It owns the outbox's file and every producer. A commit runs inside the loop, since an
event can't be sent before its commit. Measured against a helper thread, that has the
same latency and costs a tenth less CPU. The heartbeat shows when a disk or a client
hangs; the trio thread goes on reading into the buffer.
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal, TypeVar

import structlog

from bridge.errors import (
    BridgeError,
    KafkaFencedError,
    KafkaUnreachableError,
    OutboxDamagedError,
)
from bridge.events.dead_letter import DEFAULT_MAX_BYTES
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.loop import run
from bridge.kafka.producer import keep_track_of_tasks
from bridge.kafka.relay.epoch import Delivery, Group, WireFormat, distribute, serve
from bridge.kafka.relay.idempotent import IdempotentDelivery
from bridge.kafka.relay.outage import Outage, look_for_silence
from bridge.kafka.relay.partition import Memory
from bridge.kafka.relay.statistics import PublicationTrace, RelayStatistics
from bridge.kafka.relay.topic_watch import TopicWatch
from bridge.kafka.relay.transactional import TransactionalDelivery
from bridge.kafka.topics import NO_NEEDS, TopicNeeds
from bridge.outbox import Outbox
from bridge.settings import KafkaSettings
from bridge.threads import in_thread


__all__ = ["Relay"]

_log = structlog.get_logger("bridge.kafka")

_Error = TypeVar("_Error", bound=BridgeError)

# The loop shows that it lives once a second; health calls it dead after ten.
_BEAT_SECONDS = 1.0

# What only an acknowledgement wakes the commit for waits so long for something else.
_ACKNOWLEDGE_SECONDS = 0.03

# An outbox without work trims, measures and forgets so often.
_IDLE_SECONDS = 1.0

# While the disk takes nothing, a commit is tried so often.
_FULL_SECONDS = 0.5

# The thread closes its connections within this, and commits its buffer: a full one of
# 16 MiB took 0.15 s, a slow disk may take longer.
_ABORT_SECONDS = 5.0

# glibc's `mallopt`: what is free at a heap's end is given back above the one, and what
# is asked for is mapped by itself above the other.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_FREE_BYTES = 16 * 2**20


class Relay:
    """
    Commits an outbox's records and sends its rows to Kafka, in a thread of its own.

    Args:
        settings: How to reach Kafka, sizes and times.
        topics: The topics, each with producers of its own: one that refuses stops no
            other one. The first is what health calls Kafka.
        outbox: The outbox; closed at the end.
        dead_letter_topic: Where records are sent that the broker refuses for good; it
            must be among the topics. Without one they stay in the outbox, unsent.
        max_dead_letter_bytes: Of larger ones only the first part is kept.
        gap_topic: Where gaps are sent, if they are: rows that wait for it don't keep a
            start that is refused.
        delivery: What the writes promise.
        wire_format: What is written before the values of topics.
        needs: What topics must be like, by name. Others are taken as they are.
        trace: Is called with each batch, on the Kafka thread.

    Attributes:
        statistics: What is counted.
    """

    def __init__(  # noqa: PLR0913 - what it carries, each given by name
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        outbox: Outbox,
        *,
        dead_letter_topic: str | None = None,
        max_dead_letter_bytes: int = DEFAULT_MAX_BYTES,
        gap_topic: str | None = None,
        delivery: Literal["idempotent", "transactional"] = "idempotent",
        wire_format: WireFormat | None = None,
        needs: Mapping[str, TopicNeeds] = NO_NEEDS,
        trace: PublicationTrace | None = None,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._outbox = outbox
        self._gap_topic = gap_topic
        self._needs = needs
        self.statistics = RelayStatistics()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._work = asyncio.Event()
        self._is_woken = self._is_aborted = self._drains = False
        self._draining = asyncio.Event()
        self._groups: dict[str, Group] = {}
        self._group = partial(
            Group,
            settings=settings,
            outbox=outbox,
            writer=HeaderWriter(outbox.id),
            statistics=self.statistics,
            memory=Memory(),
            groups=self._groups,
            is_draining=self._draining,
            dead_letter_topic=dead_letter_topic,
            max_dead_letter_bytes=max_dead_letter_bytes,
            wire_format=wire_format,
            trace=trace,
        )
        self._deliver: Callable[[Group], Delivery] = IdempotentDelivery
        if delivery == "transactional":
            self._deliver = TransactionalDelivery

    # -- The trio thread ------------------------------------------------------

    async def run(self) -> None:
        """
        Work until `drain` has done its work, or `abort`.

        Cancelling it aborts: what was committed stays in the outbox.

        Raises:
            KafkaRefusedError: Kafka refuses at a start that never worked, and nothing
                waits.
            ConfigError: A certificate or key can't be used, likewise.
            KafkaFencedError: Another bridge writes with this outbox's ids.
            OutboxDamagedError: The file can't be used any more; the next start
                replaces it.
        """
        # A process that ends before the outbox is closed counts as crashed.
        await in_thread(self._run_loop, self.abort, _ABORT_SECONDS)

    def drain(self) -> None:
        """Let `run` return once all that was committed is acknowledged."""
        self._drains = True
        self._in_loop(self._begin_draining)

    def abort(self) -> None:
        """Let `run` return now."""
        self._is_aborted = True
        self._in_loop(self._cancel)

    def _wake(self) -> None:
        # One wake-up for all that gathers until the loop comes by.
        if not self._is_woken:
            self._is_woken = True
            self._in_loop(self._work.set)

    def _in_loop(self, callback: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            # RuntimeError: the loop has ended.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(callback)

    # -- The Kafka thread -----------------------------------------------------

    def _run_loop(self) -> None:
        _keep_free_memory()
        try:
            run(self.work)
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as group:
            damaged = group.subgroup(OutboxDamagedError)
            if damaged is not None:
                # A commit has met it, or the reading of rows.
                self._outbox.mark_damaged(_first(damaged))
            ours, rest = group.split(BridgeError)
            if rest is not None or ours is None:
                raise
            # All topics meet the same Kafka: the first one's error is enough.
            raise _first(damaged or ours) from None
        finally:
            self._outbox.close()
            # Zero: it doesn't run, and isn't stuck.
            self.statistics.last_beat = 0.0

    async def work(self) -> None:
        """Work in the loop that runs, until all is drained; the outbox stays open."""
        self._main = asyncio.current_task()
        self._loop = loop = asyncio.get_running_loop()
        keep_track_of_tasks(loop)
        self._outbox.wake = self._wake
        # Asked for before there was a loop.
        if self._is_aborted:
            return
        if self._drains:
            self._draining.set()
        # Rows of other topics were written under other settings; they are sent where
        # they were meant to go.
        others = sorted(
            topic
            for topic, waiting in self._outbox.waiting().items()
            if waiting and topic not in self._topics
        )
        if others:
            _log.info("topics.left_over", topics=others)
        topics = [*self._topics, *others]
        watch = TopicWatch(self._settings, topics, self._needs, self.statistics)
        for topic in topics:
            statistics = self.statistics if topic == topics[0] else None
            outage = Outage(topic, statistics)
            self._groups[topic] = self._group(topic=topic, watch=watch, outage=outage)
        groups = [*self._groups.values()]
        outages = [group.outage for group in groups]
        async with asyncio.TaskGroup() as tasks:
            around = [
                tasks.create_task(self._beat()),
                tasks.create_task(look_for_silence(self._settings, outages)),
                tasks.create_task(self._commit_all()),
                tasks.create_task(watch.run(outages[0])),
            ]
            serving = [
                tasks.create_task(serve(group, self._deliver(group), self._ends_start))
                for group in groups
            ]
            await asyncio.wait(serving)
            for task in around:
                task.cancel()

    async def _commit_all(self) -> None:
        """Commit what gathers: at once when idle, else once per linger."""
        linger, loop = self._settings.linger_seconds, asyncio.get_running_loop()
        due = 0.0
        while True:
            wait = _ACKNOWLEDGE_SECONDS
            if not self._outbox.has_acknowledgements:
                wait = _FULL_SECONDS if self._outbox.is_stuck else _IDLE_SECONDS
            timer = loop.call_later(wait, self._work.set)
            await self._work.wait()
            timer.cancel()
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            self._work.clear()
            self._is_woken = False
            began = time.monotonic()
            has_work = self._outbox.has_work
            distribute(self._groups, self._outbox.commit())
            self.statistics.last_beat = time.monotonic()
            due = began + linger if has_work else 0.0
            if self._outbox.is_stuck:
                await asyncio.sleep(_FULL_SECONDS)
            elif has_work and self._outbox.has_work:
                # More than a transaction takes: what lingers has lingered.
                due = 0.0
                self._work.set()
                await asyncio.sleep(0)

    async def _beat(self) -> None:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            self.statistics.beat(now, now - due)
            due = time.monotonic() + _BEAT_SECONDS
            await asyncio.sleep(_BEAT_SECONDS)

    def _ends_start(self, begun: float, error: BridgeError) -> bool:
        """
        Whether an error ends the process: a start that never worked, or a second fence.

        Kafka that can't be reached is waited for. Rows that wait are worth more than a
        quick end: the session is kept and Kafka asked again.
        """
        if isinstance(error, KafkaFencedError):
            return True
        if isinstance(error, KafkaUnreachableError):
            return False
        waiting = {one for one, count in self._outbox.waiting().items() if count}
        if waiting - {self._gap_topic}:
            return False
        # Another topic may work already; a start is over all the same only when its
        # time is.
        waited_seconds = time.monotonic() - begun
        is_over = waited_seconds >= self._settings.start_timeout_seconds
        return not (self._groups[self._topics[0]].has_started and is_over)

    def _begin_draining(self) -> None:
        self._draining.set()
        self._work.set()
        for group in self._groups.values():
            for queue in group.queues.values():
                queue.wake.set()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()


def _keep_free_memory() -> None:
    """
    Have what is freed used again, instead of given back to the system.

    aiokafka copies a request of 3 MB eight times. Each page of each copy would be asked
    for again: a sixth of what previews cost.
    """
    # Other C libraries don't have it.
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_FREE_BYTES)


def _first(group: BaseExceptionGroup[_Error]) -> _Error:
    error: BaseExceptionGroup[_Error] | _Error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
