"""
Follows topics for the bridge's commands and its board.

Owns the trio task that reads, and the thread with a consumer that fetches. The consumer
belongs to no group and commits nothing. Records aren't interpreted here. To verify a
topic, which needs an end but no values, use `scan`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum
from functools import partial
from typing import Self, TypeAlias

import aiokafka.errors as aiokafka_errors
import msgspec
import structlog
from aiokafka import AIOKafkaClient, AIOKafkaConsumer, ConsumerRecord, TopicPartition

from bridge.errors import KafkaError, KafkaRefusedError
from bridge.kafka.connection import connected, consuming, partitions_of, topic_missing
from bridge.kafka.log import translated
from bridge.kafka.loop import LoopThread
from bridge.kafka.requests import EARLIEST, LATEST, ask_offsets
from bridge.settings import KafkaSettings


__all__ = ["ConsumedRecord", "Edge", "PartitionId", "Start", "TopicReader"]

log = structlog.get_logger("bridge.kafka")

# Some thousand records with headers, or 180 previews of 90 KB: enough to keep
# a fast reader busy while the next fetch is under way.
_BUFFER_BYTES = 16 * 1024 * 1024
# How often metadata is requested: a new partition is found within it.
METADATA_AGE_SECONDS = 10.0
# A topic that metadata hasn't had for this long is deleted: three refreshes, because a
# topic without leaders may be missing from one.
TOPIC_GONE_SECONDS = 3 * METADATA_AGE_SECONDS
# A broker answers a fetch within 0.5 s (fetch.max.wait.ms); silence this long
# after one means new connections, to the bootstrap servers again: aiokafka
# never goes back to them by itself.
_RENEW_AFTER_SECONDS = 60.0
# Ten answers that didn't come: then it is reported.
_SILENT_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
# How long one poll waits for records: the grain of every check above.
_POLL_SECONDS = 0.2
# One run: small enough that trio's side is woken every few milliseconds.
RUN_RECORDS = 500
# What a record with ten headers of 20 bytes takes beside its key and value:
# 1.4 kB by tracemalloc over 35,000 records in CPython 3.11.
_RECORD_OVERHEAD_BYTES = 1_400

PartitionId: TypeAlias = tuple[str, int]  # (topic, partition)


class Edge(Enum):
    """Where reading starts, when not at a point in time."""

    BEGINNING = "beginning"
    END = "end"


# An int is a time: milliseconds since the epoch. A mapping has the first offset of
# partitions; a partition that it doesn't name is read from its beginning.
Start: TypeAlias = Edge | int | Mapping[PartitionId, int]


class ConsumedRecord(msgspec.Struct, frozen=True, gc=False):
    """
    One record as it is in Kafka; the value of a tombstone is None.

    Of a repeated header it has the last, and a null one as `b""`.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class _Delivery(msgspec.Struct, frozen=True):
    """Records, if any came, and the state of `TopicReader` after them."""

    records: list[ConsumedRecord]
    positions: dict[PartitionId, int]
    ends: dict[PartitionId, int]
    silent_since_seconds: float | None


class TopicReader:
    """
    Reads topics as a consumer without group, committed records only, for one task.

    A task that lags holds the reading thread back; memory stays bounded by the buffer
    and one fetch per broker (8 MiB). While no broker answers it tries again.

    Args:
        settings: How to reach the brokers.
        topics: What to read; all of them must exist.
        start: Where to start. A partition that appears later, or that has no offset
            there, is read from its beginning.

    Raises:
        KafkaError: On entry or while reading, why topics can't be read.
        ConfigError: On entry, a certificate or key can't be used.
    """

    def __init__(
        self, settings: KafkaSettings, topics: Sequence[str], *, start: Start = Edge.END
    ) -> None:
        self._follow = partial(_Following, settings, tuple(topics), start)
        self._thread: LoopThread[_Delivery] | None = None
        self._known = _Delivery([], {}, {}, None)

    async def __aenter__(self) -> Self:
        self._thread = LoopThread("bridge-kafka-reader", _BUFFER_BYTES)
        self._thread.start(self._follow(self._thread).run)
        try:
            # The thread has its own deadline, `start_timeout_seconds`.
            self._known = await self._thread.get()
        except BaseException:
            await self._thread.stop()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._thread is not None
        await self._thread.stop()

    async def receive_run(self) -> list[ConsumedRecord]:
        """
        Wait for the next records; a cancelled call takes none.

        They are some hundred at most, in order per partition; none where only
        positions, ends or the brokers' silence have changed.
        """
        if self._thread is None:
            raise RuntimeError("use the reader only inside its `async with`")
        self._known = await self._thread.get()
        return self._known.records

    @property
    def positions(self) -> Mapping[PartitionId, int]:
        """The offset behind the last record given out, by (topic, partition)."""
        return self._known.positions

    @property
    def ends(self) -> Mapping[PartitionId, int]:
        """The offset behind the last committed record, as last received."""
        return self._known.ends

    @property
    def is_at_end(self) -> bool:
        """Whether everything that was in the topics has been given out."""
        return self.lag == 0

    @property
    def lag(self) -> int:
        """How many offsets lie before the ends."""
        return sum(
            max(0, end - self.positions[partition])
            for partition, end in self.ends.items()
        )

    @property
    def silent_since_seconds(self) -> float | None:
        """When the brokers fell silent (`time.monotonic`); None while they answer."""
        return self._known.silent_since_seconds


class _Following(msgspec.Struct):
    """The asyncio side: reads and hands runs over, until cancelled."""

    settings: KafkaSettings
    topics: Sequence[str]
    start: Start
    thread: LoopThread[_Delivery]
    positions: dict[PartitionId, int] = msgspec.field(default_factory=dict)
    ends: dict[PartitionId, int] = msgspec.field(default_factory=dict)
    seen: dict[str, float] = msgspec.field(default_factory=dict)
    # By partition, the time of the last answer as aiokafka has it, and when it was new.
    contacts: dict[PartitionId, tuple[int | None, float]] = msgspec.field(
        default_factory=dict
    )
    last: _Delivery | None = None

    async def run(self) -> None:
        """Read until cancelled; a client that stopped working is replaced."""
        pause_seconds = _FIRST_PAUSE_SECONDS
        has_begun = False
        while True:
            is_open = False
            try:
                async with self._opened() as (client, consumer):
                    is_open = has_begun = True
                    pause_seconds = _FIRST_PAUSE_SECONDS
                    self._hand_over([])
                    await self._poll(client, consumer)
                log.warning("reader.renewing", topics=self.topics)
            except KafkaRefusedError:
                raise
            except KafkaError as error:
                if is_open or not has_begun:
                    raise
                log.warning("reader.unreachable", error=str(error))
                # It may have been abandoned before it was silent.
                self._hand_over([])
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[AIOKafkaClient, AIOKafkaConsumer]]:
        """Connect, with a consumer that has its positions."""
        age = {"metadata_max_age_ms": int(METADATA_AGE_SECONDS * 1000)}
        async with translated(self.settings, self.topics), AsyncExitStack() as stack:
            enter = stack.enter_async_context
            async with asyncio.timeout(self.settings.start_timeout_seconds):
                client = await enter(connected(self.settings, **age))
                partitions = await partitions_of(self.settings, client, self.topics)
                self.seen = dict.fromkeys(self.topics, time.monotonic())
                consumer = await enter(
                    consuming(self.settings, "read_committed", **age)
                )
                await self._assign(client, consumer, partitions)
            yield client, consumer

    async def _assign(
        self,
        client: AIOKafkaClient,
        consumer: AIOKafkaConsumer,
        partitions: Sequence[TopicPartition],
    ) -> None:
        """Assign the partitions and put each to its position."""
        new = [partition for partition in partitions if partition not in self.positions]
        ends = await ask_offsets(client, partitions, LATEST, committed_only=True)
        # Later partitions were empty when reading began: none of it was missed.
        start = self.start if len(new) == len(partitions) else Edge.BEGINNING
        self.positions |= await _start_offsets(client, new, start, ends)
        self.ends |= ends
        self._note_contact(partitions)
        consumer.assign(partitions)
        # No await between: no assigned partition may lack a position.
        for partition in partitions:
            consumer.seek(partition, self.positions[partition])

    async def _poll(self, client: AIOKafkaClient, consumer: AIOKafkaConsumer) -> None:
        """Fetch until the clients have to be replaced."""
        look_at = time.monotonic() + METADATA_AGE_SECONDS
        while not self._is_stuck(client):
            if await self.thread.wait_for_space():
                # Nothing asked the broker meanwhile, so its silence means nothing.
                self._note_contact(consumer.assignment())
            try:
                batches = await consumer.getmany(
                    timeout_ms=int(_POLL_SECONDS * 1000), max_records=RUN_RECORDS
                )
                await asyncio.sleep(0)  # the next fetch leaves
                await self._deliver(consumer, batches)
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + METADATA_AGE_SECONDS
                    await self._follow_partitions(client, consumer)
            except aiokafka_errors.OffsetOutOfRangeError as error:
                await self._return_to_range(client, consumer, list(error.args[0]))
            except (TimeoutError, aiokafka_errors.KafkaError) as error:
                may_pass = isinstance(error, TimeoutError) or error.retriable
                if not may_pass:
                    raise
                log.warning("reader.interrupted", error=repr(error))
                return

    def _note_contact(self, partitions: Iterable[PartitionId]) -> None:
        now = time.monotonic()
        self.contacts = dict.fromkeys(partitions, (None, now))

    def _is_stuck(self, client: AIOKafkaClient) -> bool:
        """Return whether a partition's leader has been silent for long."""
        oldest = time.monotonic() - _RENEW_AFTER_SECONDS
        late = [
            partition for partition, (_, at) in self.contacts.items() if at < oldest
        ]
        leaders = map(client.cluster.leader_for_partition, late)
        return any(leader is not None and leader >= 0 for leader in leaders)

    async def _deliver(
        self,
        consumer: AIOKafkaConsumer,
        batches: Mapping[TopicPartition, Sequence[ConsumerRecord]],
    ) -> None:
        """Hand over what came, or that something else has changed."""
        now = time.monotonic()
        for partition in consumer.assignment():
            # Every partition has a position, so this doesn't wait.
            self.positions[partition] = await consumer.position(partition)
            stable = consumer.last_stable_offset(partition)
            if stable is not None:
                self.ends[partition] = stable
            mark = consumer.last_poll_timestamp(partition)
            if mark != self.contacts[partition][0]:
                self.contacts[partition] = mark, now
        records = [_consumed(record) for batch in batches.values() for record in batch]
        # News without records can wait for a reader that lags.
        if records or (self.thread.is_empty and self._known() != self.last):
            self._hand_over(records)

    def _known(self) -> _Delivery:
        """What the trio side gets when it changes."""
        last = max(at for _, at in self.contacts.values())
        is_silent = time.monotonic() - last > _SILENT_SECONDS
        positions, ends = self.positions.copy(), self.ends.copy()
        return _Delivery([], positions, ends, last if is_silent else None)

    def _hand_over(self, records: list[ConsumedRecord]) -> None:
        self.last = self._known()
        size_bytes = sum(
            _RECORD_OVERHEAD_BYTES + len(one.value or b"") + len(one.key or b"")
            for one in records
        )
        delivery = msgspec.structs.replace(self.last, records=records)
        self.thread.put(delivery, size_bytes)

    async def _follow_partitions(
        self, client: AIOKafkaClient, consumer: AIOKafkaConsumer
    ) -> None:
        """Take up new partitions; fail when a topic is gone."""
        now = time.monotonic()
        partitions = set(consumer.assignment())
        for topic in self.topics:
            numbers = client.cluster.partitions_for_topic(topic)
            if numbers:
                self.seen[topic] = now
                partitions |= {TopicPartition(topic, number) for number in numbers}
            elif now - self.seen[topic] > TOPIC_GONE_SECONDS:
                raise topic_missing(self.settings, [topic], [])
        if partitions != consumer.assignment():
            log.info("reader.partitions_added", partitions=len(partitions))
            async with asyncio.timeout(self.settings.start_timeout_seconds):
                await self._assign(client, consumer, sorted(partitions))

    async def _return_to_range(
        self,
        client: AIOKafkaClient,
        consumer: AIOKafkaConsumer,
        partitions: Sequence[TopicPartition],
    ) -> None:
        """Go on at the near edge of a log that no longer has the position."""
        # Retention took records that were not read yet, or the log was cut or the topic
        # recreated; the reader's offsets show the jump.
        try:
            async with asyncio.timeout(self.settings.start_timeout_seconds):
                firsts = await ask_offsets(client, partitions, EARLIEST)
                ends = await ask_offsets(
                    client, partitions, LATEST, committed_only=True
                )
        except TimeoutError:
            # It is asked for the same offset, and comes back here.
            return
        for partition in partitions:
            position = self.positions[partition]
            target = (
                firsts[partition] if position < firsts[partition] else ends[partition]
            )
            log.warning(
                "reader.out_of_range",
                topic=partition.topic,
                partition=partition.partition,
                position=position,
                resumed_at=target,
            )
            consumer.seek(partition, target)


def _consumed(record: ConsumerRecord) -> ConsumedRecord:
    """Make the bridge's record of aiokafka's."""
    return ConsumedRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        {name: value or b"" for name, value in record.headers},
    )


async def _start_offsets(
    client: AIOKafkaClient,
    partitions: Sequence[TopicPartition],
    start: Start,
    ends: Mapping[TopicPartition, int],
) -> dict[PartitionId, int]:
    """Find where reading starts in each partition."""
    if start is Edge.END:
        return {partition: ends[partition] for partition in partitions}
    if isinstance(start, int):
        found = await ask_offsets(client, partitions, start)
        # No offset: nothing in the partition is as young as that.
        return {
            partition: ends[partition] if at < 0 else at
            for partition, at in found.items()
        }
    firsts = await ask_offsets(client, partitions, EARLIEST)
    if start is Edge.BEGINNING:
        return dict(firsts)
    # Before and behind the log there is nothing to read.
    return {
        partition: min(max(start.get(partition, 0), firsts[partition]), ends[partition])
        for partition in partitions
    }
