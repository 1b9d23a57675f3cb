"""
The asyncio side of `reader`: one consumer, fetched from until it is cancelled.

Owns where reading starts, what happens when partitions appear, offsets vanish
or the client dies, and the shape of what is handed to the trio side. It
belongs to no consumer group and commits nothing.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections.abc import Mapping, Sequence

import aiokafka.errors as aiokafka_errors  # noqa: TID251 - this room's library
import structlog
from aiokafka import (  # noqa: TID251 - as above
    AIOKafkaConsumer,
    ConsumerRecord,
    TopicPartition,
)

from bridge.errors import KafkaError, KafkaRefusedError
from bridge.kafka.connection import (
    client_arguments,
    read_error,
    start_client,
    topic_missing,
)
from bridge.kafka.handover import Handover
from bridge.kafka.probe import failed_start
from bridge.kafka.reading.consumed import ConsumedRecord, Delivery, Edge, Lane, Start
from bridge.settings import KafkaSettings


__all__ = ["Fetching"]

log = structlog.get_logger("bridge.kafka")

# How often aiokafka asks for metadata: a new partition is found within it.
METADATA_AGE_SECONDS = 10.0
# A topic that no metadata has named for this long is gone: three refreshes,
# because a topic without leaders is left out of one for a moment.
TOPIC_GONE_SECONDS = 3 * METADATA_AGE_SECONDS
# A broker answers a fetch within 0.5 s (fetch.max.wait.ms); silence this long
# after one means new connections, to the bootstrap servers again: aiokafka
# never goes back to them by itself.
_RENEW_AFTER_SECONDS = 60.0
# Ten answers that didn't come: then people are told.
_SILENT_SECONDS = 5.0
# Longer than a full fetch takes over 5 Mbit/s; a hung broker is left after it.
_REQUEST_TIMEOUT_SECONDS = 20.0
_RETRY_BACKOFF_SECONDS = 0.5
_RETRY_BACKOFF_MAX_SECONDS = 10.0
# Knocking at each address to learn why the start failed.
_DIAGNOSIS_SECONDS = 3.0
# Closing connections is local work; a stuck one is left to the loop's end.
_CLOSE_SECONDS = 2.0
# How long one poll waits for records: the grain of every check above.
_POLL_SECONDS = 0.2
# One run: small enough that trio's side is woken every few milliseconds.
RUN_RECORDS = 2_000
# What a broker may send at once, and so what the client holds beside the
# queue; Kafka sends a larger record alone.
_FETCH_BYTES = 8 * 1024 * 1024
# What a record with ten headers of 20 bytes takes beside its key and value:
# 1.4 kB by tracemalloc over 35,000 records in CPython 3.11.
_RECORD_OVERHEAD_BYTES = 1_400


class Fetching:
    """
    Reads topics and hands runs of records over, until cancelled.

    Args:
        settings: How to reach the brokers.
        topics: What to read; all of them must exist.
        start: Where to start in partitions that exist now; later ones are read whole.
        handover: Where the runs go.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        start: Start,
        handover: Handover[Delivery],
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._start = start
        self._handover = handover
        self._positions: dict[Lane, int] = {}
        self._ends: dict[Lane, int] = {}
        self._seen: dict[str, float] = {}
        self._contact_seconds = 0.0
        self._contact_marks: dict[Lane, int | None] = {}
        self._told: tuple[object, ...] = ()

    async def run(self) -> None:
        """
        Read until cancelled; a client that stopped working is replaced.

        Raises:
            KafkaUnreachableError: No broker answered at the start.
            KafkaRefusedError: A topic is missing or may not be read.
            KafkaError: What was read can't be used.
            ConfigError: A certificate or key can't be used.
        """
        consumer = await self._connect()
        while True:
            try:
                self._hand_over([], 0)
                await self._poll(consumer)
            finally:
                await _close(consumer)
            log.warning("reader.renewing", topics=self._topics)
            consumer = await self._reconnect()

    async def _reconnect(self) -> AIOKafkaConsumer:
        """Connect again, for as long as it takes: reading had begun."""
        backoff_seconds = _RETRY_BACKOFF_SECONDS
        while True:
            try:
                return await self._connect()
            except KafkaRefusedError:
                raise
            except KafkaError as error:
                log.warning("reader.unreachable", error=str(error))
            self._hand_over([], 0)  # it may have been given up before it was silent
            await asyncio.sleep(backoff_seconds)
            backoff_seconds = min(2 * backoff_seconds, _RETRY_BACKOFF_MAX_SECONDS)

    async def _connect(self) -> AIOKafkaConsumer:
        """Make a consumer that stands at its positions."""
        consumer = AIOKafkaConsumer(
            **client_arguments(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            metadata_max_age_ms=int(METADATA_AGE_SECONDS * 1000),
            request_timeout_ms=int(_REQUEST_TIMEOUT_SECONDS * 1000),
            retry_backoff_ms=int(_RETRY_BACKOFF_SECONDS * 1000),
            fetch_max_bytes=_FETCH_BYTES,
        )
        try:
            async with asyncio.timeout(self._settings.start_timeout_seconds):
                await start_client(consumer.start)
                lanes = await self._lanes(consumer)
                await self._assign(consumer, lanes)
        except aiokafka_errors.KafkaConnectionError as error:
            await _close(consumer)
            raise await failed_start(self._settings, _DIAGNOSIS_SECONDS) from error
        except (TimeoutError, aiokafka_errors.KafkaError) as error:
            await _close(consumer)
            raise read_error(self._settings, self._topics, error) from error
        except BaseException:
            await _close(consumer)
            raise
        self._contact_seconds = time.monotonic()
        return consumer

    async def _lanes(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        """
        Look up the partitions of the topics.

        All topics' metadata is asked for, because asking for one by name makes
        a broker with auto.create.topics.enable create it, and aiokafka's offset
        requests for an unknown topic hang until their timeout.
        """
        client = consumer._client  # noqa: SLF001 - no public way
        cluster = await client.fetch_all_metadata()
        missing = [
            topic for topic in self._topics if not cluster.partitions_for_topic(topic)
        ]
        if missing:
            raise topic_missing(self._settings, missing, cluster.topics())
        # Known leaders spare the offset requests a failure and its backoff.
        await client.set_topics(self._topics)
        self._seen = dict.fromkeys(self._topics, time.monotonic())
        return [
            TopicPartition(topic, partition)
            for topic in self._topics
            for partition in sorted(cluster.partitions_for_topic(topic))
        ]

    async def _assign(
        self, consumer: AIOKafkaConsumer, lanes: Sequence[TopicPartition]
    ) -> None:
        """Assign the lanes and put each to its position."""
        new = [lane for lane in lanes if lane not in self._positions]
        ends = await consumer.end_offsets(lanes)
        # Later partitions were empty when reading began: none of it was missed.
        start = self._start if len(new) == len(lanes) else Edge.BEGINNING
        self._positions |= await _start_offsets(consumer, new, start, ends)
        self._ends |= ends
        self._contact_marks = {}
        consumer.assign(lanes)
        # No await between: the fetcher must not see a lane without position.
        for lane in lanes:
            consumer.seek(lane, self._positions[lane])

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        """Fetch until the client has to be replaced."""
        look_at = time.monotonic() + METADATA_AGE_SECONDS
        astray: list[TopicPartition] = []
        while not self._is_dead(consumer):
            if await self._handover.room():
                # Nobody asked the broker meanwhile, so its silence means nothing.
                self._contact_seconds = time.monotonic()
            try:
                if astray:
                    await self._return_to_range(consumer, astray)
                    astray = []
                batches = await consumer.getmany(
                    timeout_ms=int(_POLL_SECONDS * 1000), max_records=RUN_RECORDS
                )
                await self._deliver(consumer, batches)
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + METADATA_AGE_SECONDS
                    await self._follow_partitions(consumer)
            except aiokafka_errors.OffsetOutOfRangeError as error:
                astray = list(error.args[0])
            except (TimeoutError, UnicodeError, aiokafka_errors.KafkaError) as error:
                if not _may_pass(error):
                    raise read_error(self._settings, self._topics, error) from error
                log.warning("reader.interrupted", error=repr(error))
                return

    def _is_dead(self, consumer: AIOKafkaConsumer) -> bool:
        """Tell whether this client will bring nothing any more."""
        # Both run for as long as the client does; aiokafka logs their end and
        # goes on waiting for them.
        tasks = (consumer._fetcher._fetch_task, consumer._client._sync_task)  # noqa: SLF001
        silence_seconds = time.monotonic() - self._contact_seconds
        return silence_seconds > _RENEW_AFTER_SECONDS or any(t.done() for t in tasks)

    async def _deliver(
        self,
        consumer: AIOKafkaConsumer,
        batches: Mapping[TopicPartition, Sequence[ConsumerRecord]],
    ) -> None:
        """Hand over what came, or that something else has changed."""
        records: list[ConsumedRecord] = []
        size_bytes = 0
        for batch in batches.values():
            for record in batch:
                consumed = _consumed(record)
                records.append(consumed)
                size_bytes += len(consumed.value or b"") + len(consumed.key or b"")
        size_bytes += len(records) * _RECORD_OVERHEAD_BYTES
        await self._look(consumer)
        # News without records can wait for a reader that lags.
        if records or (self._handover.is_empty() and self._news() != self._told):
            self._hand_over(records, size_bytes)

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Take positions, ends and the brokers' signs of life from the client."""
        positions, ends, marks = {}, {}, {}
        for lane in consumer.assignment():
            # Every lane has a position, so this doesn't wait.
            positions[lane] = await consumer.position(lane)
            stable = consumer.last_stable_offset(lane)
            ends[lane] = self._ends[lane] if stable is None else stable
            marks[lane] = consumer.last_poll_timestamp(lane)
        self._positions, self._ends = positions, ends
        if marks != self._contact_marks:
            self._contact_marks = marks
            self._contact_seconds = time.monotonic()

    def _silent_since(self) -> float | None:
        """Since when no broker has answered, if that is longer than usual."""
        silence_seconds = time.monotonic() - self._contact_seconds
        return self._contact_seconds if silence_seconds > _SILENT_SECONDS else None

    def _news(self) -> tuple[object, ...]:
        """What the trio side wants to hear of when it changes."""
        return (self._positions, self._ends, self._silent_since())

    def _hand_over(self, records: list[ConsumedRecord], size_bytes: int) -> None:
        """Give the trio side records and what is known after them."""
        self._told = self._news()
        self._handover.put(
            Delivery(
                records,
                size_bytes,
                dict(self._positions),
                dict(self._ends),
                self._silent_since(),
            )
        )

    async def _follow_partitions(self, consumer: AIOKafkaConsumer) -> None:
        """Take up new partitions; give up when a topic is gone."""
        now = time.monotonic()
        lanes = set(consumer.assignment())
        for topic in self._topics:
            partitions = consumer.partitions_for_topic(topic)
            if partitions:
                self._seen[topic] = now
                lanes |= {TopicPartition(topic, number) for number in partitions}
            elif now - self._seen[topic] > TOPIC_GONE_SECONDS:
                raise topic_missing(self._settings, [topic], [])
        if lanes != consumer.assignment():
            log.info("reader.partitions_added", lanes=len(lanes))
            async with asyncio.timeout(_REQUEST_TIMEOUT_SECONDS):
                await self._assign(consumer, sorted(lanes))

    async def _return_to_range(
        self, consumer: AIOKafkaConsumer, lanes: Sequence[TopicPartition]
    ) -> None:
        """
        Go on at the near edge of a log that no longer has the position.

        Retention took records that were not read yet, or the log was cut or
        the topic made anew; the reader's offsets show the jump.
        """
        first = await consumer.beginning_offsets(lanes)
        ends = await consumer.end_offsets(lanes)
        for lane in lanes:
            position = self._positions[lane]
            target = first[lane] if position < first[lane] else ends[lane]
            log.warning(
                "reader.out_of_range",
                topic=lane.topic,
                partition=lane.partition,
                position=position,
                resumed_at=target,
            )
            consumer.seek(lane, target)


def _may_pass(error: Exception) -> bool:
    """Tell whether a new client may succeed where this one failed."""
    if isinstance(error, TimeoutError | aiokafka_errors.KafkaTimeoutError):
        return True
    return bool(getattr(error, "retriable", False))


def _consumed(record: ConsumerRecord) -> ConsumedRecord:
    """Make the bridge's record of aiokafka's."""
    headers = dict(record.headers)
    if None in headers.values():
        headers = {name: value or b"" for name, value in headers.items()}
    return ConsumedRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        headers,
    )


async def _start_offsets(
    consumer: AIOKafkaConsumer,
    lanes: Sequence[TopicPartition],
    start: Start,
    ends: Mapping[TopicPartition, int],
) -> dict[Lane, int]:
    """Find where reading starts in each lane."""
    if not lanes:
        return {}
    if start is Edge.BEGINNING:
        return dict(await consumer.beginning_offsets(lanes))
    if start is Edge.END:
        return {lane: ends[lane] for lane in lanes}
    if isinstance(start, Mapping):
        first = await consumer.beginning_offsets(lanes)
        # Before and behind the log there is nothing to read.
        return {
            lane: min(max(start.get(lane, 0), first[lane]), ends[lane])
            for lane in lanes
        }
    found = await consumer.offsets_for_times(dict.fromkeys(lanes, start))
    # No offset: nothing in the lane is as young as that.
    return {
        lane: ends[lane] if place is None else place.offset
        for lane, place in found.items()
    }


async def _close(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer within its deadline, also one that never started."""
    # In a task of its own, so that a cancellation of the caller's doesn't leave
    # it half closed.
    closing = asyncio.ensure_future(_stop(consumer))
    await asyncio.wait([closing], timeout=_CLOSE_SECONDS)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer and close its connections, whatever its state."""
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait([stopping])
    # aiokafka cancels a fetch that waits for its retry, takes that cancellation
    # for its own, and leaves the connections open.
    if stopping.cancelled() or stopping.exception() is not None:
        await consumer._client.close()  # noqa: SLF001 - stop() has given up
