"""
Reads the logs of partitions, from offsets to known ends.

Owns the clients that read, how they stop, and their errors. It doesn't interpret
records: `relay` resumes by them, and `scan` verifies a topic with them. `reader`
follows a topic without an end.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import msgspec
import structlog
from aiokafka import (
    AIOKafkaClient,
    AIOKafkaConsumer,
    ConsumerRecord,
    TopicPartition,
    errors,
)

from bridge.errors import KafkaError, KafkaUnreachableError
from bridge.kafka.connection import connected, consuming, read_error, silence
from bridge.kafka.probe import failed_start
from bridge.kafka.requests import (
    CONSUMER,
    DEBUGGER,
    EARLIEST,
    LATEST,
    ask_offsets,
    describe_topics,
)
from bridge.settings import KafkaSettings


__all__ = ["Bounds", "Log", "open_log", "translated"]

log = structlog.get_logger("bridge.kafka")

# Records that are made at once. Of 200 each is still in the processor's cache when it
# is used: a proof reads 150,000 a second, and 70,000 with 400.
RUN_RECORDS = 200
# One fetch answers at the latest after this, so that an empty end is seen soon.
_FETCH_WAIT_MS = 100
# Answers in a row without a record, though the offsets exist: nothing is there.
_EMPTY_ANSWERS = 2
# How often it is looked whether replicas have come after; they do so within
# milliseconds, or when a broker is back.
_REPLICATION_LOOK_SECONDS = 0.2


@asynccontextmanager
async def translated(
    settings: KafkaSettings, topics: Sequence[str], *, resumes: bool = False
) -> AsyncIterator[None]:
    """Turn aiokafka's errors into what says what to do, or that the bridge resumes."""
    try:
        yield
    except (errors.KafkaConnectionError, errors.NodeNotReadyError) as error:
        raise await failed_start(settings) from error
    except (errors.TopicAuthorizationFailedError, UnicodeError) as error:
        raise read_error(settings, topics, error) from error
    except (TimeoutError, errors.KafkaError) as error:
        if not resumes:
            raise read_error(settings, topics, error) from error
        raise KafkaUnreachableError(
            f"Kafka can't be read at {', '.join(topics)}: {error!r}; the bridge resumes"
            " when it can"
        ) from error


class Bounds(msgspec.Struct, frozen=True):
    """The first offset that is left of a partition, and the high watermark."""

    begin_offset: int
    end_offset: int


@asynccontextmanager
async def open_log(settings: KafkaSettings, topic: str) -> AsyncIterator[Log]:
    """Open a topic, which must exist, for the relay; what goes wrong may pass."""
    patience = settings.start_timeout_seconds
    async with (
        translated(settings, [topic], resumes=True),
        Log(settings, topic, patience, needs_leaders=True) as opened,
    ):
        async with asyncio.timeout(patience):
            await opened.client.set_topics([topic])
        yield opened


class Log:
    """
    A topic's log, open for reading inside its `async with`, by one task.

    Where something must come it is waited for `patience_seconds`. A leader that is away
    is not waited for if the log `needs_leaders`.
    """

    client: AIOKafkaClient

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        patience_seconds: float,
        *,
        needs_leaders: bool = False,
    ) -> None:
        self._settings = settings
        self._needs_leaders = needs_leaders
        self._topic = topic
        self._patience_seconds = patience_seconds
        self._consumers: dict[str, AIOKafkaConsumer] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.client = await self._stack.enter_async_context(connected(self._settings))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def leaders(self) -> dict[int, int]:
        """Return which node leads each partition that has a leader."""
        cluster = self.client.cluster
        led = cluster.available_partitions_for_topic(self._topic) or ()
        return {
            number: cluster.leader_for_partition(TopicPartition(self._topic, number))
            for number in led
        }

    async def ask(
        self, numbers: Iterable[int], moment: int, **choices: Any
    ) -> dict[int, int]:
        """Ask the leaders of partitions for offsets: see `ask_offsets`."""
        partitions = [TopicPartition(self._topic, number) for number in numbers]
        async with asyncio.timeout(self._patience_seconds):
            found = await ask_offsets(
                self.client,
                partitions,
                moment,
                needs_leaders=self._needs_leaders,
                **choices,
            )
        return {partition.partition: offset for partition, offset in found.items()}

    async def bounds(self, numbers: Collection[int]) -> dict[int, Bounds]:
        """Ask the leaders of partitions where their logs begin and end."""
        # As a reader of committed records, one would get the last stable offset,
        # which another writer's transaction can hold before ours.
        ends = await self.ask(numbers, LATEST)
        begins = await self.ask(numbers, EARLIEST)
        return {number: Bounds(begins[number], ends[number]) for number in numbers}

    async def held(self) -> dict[int, int]:
        """Ask where open transactions begin, by partition that has one and is led."""
        led = self.leaders()
        # In this order: what is appended meanwhile isn't taken for held.
        ends = await self.ask(led, LATEST)
        stable = await self.ask(led, LATEST, committed_only=True)
        return {one: stable[one] for one in led if stable[one] < ends[one]}

    async def topic_id(self) -> str | None:
        """Ask for the id of the topic that has the name now; None if unknown."""
        if self.client.get_random_node() is None:
            return None
        found = await describe_topics(self.client, [self._topic])
        return found[self._topic].topic_id

    async def replicated(self, numbers: Collection[int]) -> None:
        """
        Wait until all that the leaders have appended is replicated.

        A batch that lacks replicas comes out when they are back, and nothing else can
        be written before.
        """
        appended = await self.ask(numbers, LATEST, asker=DEBUGGER)
        while True:
            ends = await self.ask(numbers, LATEST, asker=CONSUMER)
            if all(ends[number] >= appended[number] for number in numbers):
                return
            # Another leader may not have it at all.
            now = await self.ask(numbers, LATEST, asker=DEBUGGER)
            appended = {
                number: min(appended[number], now[number]) for number in numbers
            }
            await asyncio.sleep(_REPLICATION_LOOK_SECONDS)

    async def records(
        self,
        firsts: Mapping[int, int],
        ends: Mapping[int, Bounds],
        *,
        aborted: bool = False,
        trimmed: Callable[[int, int], None] | None = None,
    ) -> AsyncGenerator[tuple[int, list[ConsumerRecord]], None]:
        """
        Read partitions, each in order, up to the ends that they had.

        With `aborted`, it also reads records of aborted and open transactions. If
        records are deleted meanwhile, `trimmed` gets the partition and the log's new
        start; without `trimmed` that is an error. A truncated log is always one.
        """
        left = {
            TopicPartition(self._topic, number): max(first, ends[number].begin_offset)
            for number, first in firsts.items()
            if max(first, ends[number].begin_offset) < ends[number].end_offset
        }
        if not left:
            return
        level = "read_uncommitted" if aborted else "read_committed"
        consumer = await self._consumer(level)
        # In one step: no assigned partition may lack a position.
        consumer.assign(list(left))
        for partition, first in left.items():
            consumer.seek(partition, first)
        loop = asyncio.get_running_loop()
        moved_at = loop.time()
        answers: dict[TopicPartition, set[int]] = defaultdict(set)
        while left:
            try:
                fetched = await consumer.getmany(
                    timeout_ms=2 * _FETCH_WAIT_MS, max_records=RUN_RECORDS
                )
            except errors.OffsetOutOfRangeError as error:
                if trimmed is None:
                    raise
                await self._jump(consumer, left, error.args[0], trimmed)
                continue
            await asyncio.sleep(0)  # the next fetch leaves
            for partition, found in fetched.items():
                if records := _before(found, ends[partition.partition].end_offset):
                    yield partition.partition, records
            if await _moved(consumer, left, fetched or tuple(left), ends):
                moved_at = loop.time()
                answers.clear()
            elif not fetched:
                _pass_empty(consumer, left, ends, answers, is_committed=not aborted)
            self._check_patience(consumer, left, loop.time() - moved_at)

    async def _consumer(self, level: str) -> AIOKafkaConsumer:
        if level not in self._consumers:
            self._consumers[level] = await self._stack.enter_async_context(
                consuming(self._settings, level, fetch_max_wait_ms=_FETCH_WAIT_MS)
            )
        return self._consumers[level]

    async def _jump(
        self,
        consumer: AIOKafkaConsumer,
        left: dict[TopicPartition, int],
        astray: Mapping[TopicPartition, int],
        trimmed: Callable[[int, int], None],
    ) -> None:
        """Go on where logs begin now."""
        begins = await self.ask([partition.partition for partition in astray], EARLIEST)
        for partition, position in astray.items():
            begin = begins[partition.partition]
            if begin <= position:
                raise KafkaError(
                    f"{self._topic}, partition {partition.partition}: the log was"
                    f" truncated below offset {position} while it was read; it lost"
                    " records, or the topic was recreated. Run it again."
                )
            log.warning("scan.jumped", partition=partition.partition, to=begin)
            trimmed(partition.partition, begin)
            consumer.seek(partition, begin)
            left[partition] = begin

    def _check_patience(
        self,
        consumer: AIOKafkaConsumer,
        left: Mapping[TopicPartition, int],
        waited_seconds: float,
    ) -> None:
        if not left or waited_seconds <= self._patience_seconds:
            return
        for partition, position in left.items():
            stable = consumer.last_stable_offset(partition)
            if stable is not None and 0 <= stable <= position:
                raise KafkaUnreachableError(
                    f"another writer's open transaction holds {partition.topic}"
                    f" partition {partition.partition} at offset {stable}: what is"
                    " behind it can't"
                    " be judged before it ends, at the latest when its timeout is over;"
                    " the bridge resumes then. One that stays for longer hangs:"
                    " kafka-transactions.sh finds it (find-hanging) and ends it (abort)"
                )
        raise silence(self._settings, self._topic, self._patience_seconds)


def _before(records: list[ConsumerRecord], end: int) -> list[ConsumerRecord]:
    if records[-1].offset < end:
        return records
    return [one for one in records if one.offset < end]


async def _moved(
    consumer: AIOKafkaConsumer,
    left: dict[TopicPartition, int],
    partitions: Iterable[TopicPartition],
    ends: Mapping[int, Bounds],
) -> bool:
    """Note how far partitions are read, and leave those at their ends."""
    moved = False
    for partition in partitions:
        # It has one, so that this doesn't wait.
        position = await consumer.position(partition)
        if position > left[partition]:
            moved = True
            left[partition] = position
        if position >= ends[partition.partition].end_offset:
            consumer.pause(partition)
            del left[partition]
    return moved


def _pass_empty(
    consumer: AIOKafkaConsumer,
    left: dict[TopicPartition, int],
    ends: Mapping[int, Bounds],
    answers: dict[TopicPartition, set[int]],
    *,
    is_committed: bool,
) -> None:
    """Leave partitions whose last offsets hold nothing any more."""
    for partition in list(left):
        answered_at = consumer.last_poll_timestamp(partition)
        if answered_at is None:
            continue
        answers[partition].add(answered_at)
        known = consumer.last_stable_offset if is_committed else consumer.highwater
        is_whole = (known(partition) or 0) >= ends[partition.partition].end_offset
        # The first may be the answer that brought what was read last.
        if is_whole and len(answers[partition]) > _EMPTY_ANSWERS:
            consumer.pause(partition)
            del left[partition]
