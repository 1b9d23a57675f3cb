"""
Reading partitions' logs from an offset to their present ends.

Only how a log is read stands here; what its records mean for a lane is said in
`tails` and `cut`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

import msgspec
from aiokafka import (  # noqa: TID251 - this room speaks to aiokafka
    AIOKafkaConsumer,
    ConsumerRecord,
    TopicPartition,
    errors,
)
from aiokafka.consumer.fetcher import (  # noqa: TID251 - as above
    READ_COMMITTED,
    READ_UNCOMMITTED,
)

from bridge.errors import KafkaUnreachableError
from bridge.kafka.connection import client_arguments, read_error, start_client
from bridge.kafka.probe import failed_start
from bridge.kafka.producer.credentials import Credentials
from bridge.kafka.producer.ending import end_client
from bridge.kafka.reading.offsets import (
    CONSUMER,
    DEBUGGER,
    EARLIEST,
    LATEST,
    ask_offsets,
    held_offsets,
)
from bridge.kafka.requests import topic_ids
from bridge.settings import KafkaSettings


__all__ = ["Bounds", "Log", "open_log"]

# One fetch answers at the latest after this, so that an empty end is seen soon.
_FETCH_WAIT_MS = 100

# How often it is looked whether replicas have come after; they do so within
# milliseconds, or when a broker is back.
_REPLICATION_LOOK_SECONDS = 0.2


class Bounds(msgspec.Struct, frozen=True):
    """
    Where a partition's log begins and ends.

    Attributes:
        begin_offset: The first offset that retention has left.
        end_offset: The high watermark: the offset of the next record, open
            transactions included.
    """

    begin_offset: int
    end_offset: int


@asynccontextmanager
async def open_log(
    settings: KafkaSettings, topic: str, *, held_seconds: float | None = None
) -> AsyncIterator[Log]:
    """
    Open a topic for reading; what goes wrong inside is translated.

    Args:
        settings: How to reach Kafka.
        topic: The topic; it must exist.
        held_seconds: How long an open transaction is waited for; the start timeout
            without it, and never longer.

    Raises:
        KafkaUnreachableError: Kafka can't be read now.
        KafkaRefusedError: A broker refuses the credentials.
        ConfigError: A certificate or key can't be used.
    """
    credentials = Credentials(settings)
    consumer = AIOKafkaConsumer(
        **client_arguments(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        # What an aborted transaction left in the log was never written.
        isolation_level="read_committed",
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        retry_backoff_ms=int(settings.retry_backoff_seconds * 1000),
        request_timeout_ms=int(settings.start_timeout_seconds * 1000),
    )
    # Exchanged while it reads, it would knock in vain until its patience is over.
    following = asyncio.create_task(
        credentials.keep_following(consumer._client)  # noqa: SLF001 - has no name
    )
    try:
        async with asyncio.timeout(settings.start_timeout_seconds):
            await start_client(consumer.start)
        patience = settings.start_timeout_seconds
        held_seconds = patience if held_seconds is None else held_seconds
        yield Log(consumer, topic, patience, min(patience, held_seconds))
    except (errors.KafkaConnectionError, errors.NodeNotReadyError) as error:
        raise await failed_start(settings) from error
    except errors.TopicAuthorizationFailedError as error:
        raise read_error(settings, [topic], error) from error
    except (errors.KafkaError, TimeoutError) as error:
        raise KafkaUnreachableError(
            f"Kafka can't be read at {topic}: {error!r}; the bridge resumes when it can"
        ) from error
    finally:
        following.cancel()
        await end_client(consumer._client, consumer.stop)  # noqa: SLF001


class Log:
    """
    A topic's log, open for reading; made by `open_log`.

    Args:
        consumer: A started consumer without partitions.
        topic: The topic.
        patience_seconds: How long nothing may come where something must.
        held_seconds: How long an open transaction is waited for.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topic: str,
        patience_seconds: float,
        held_seconds: float,
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._patience_seconds = patience_seconds
        self._held_seconds = held_seconds

    async def bounds(self, numbers: Collection[int]) -> dict[int, Bounds]:
        """Ask the leaders of partitions where their logs begin and end."""
        async with asyncio.timeout(self._patience_seconds):
            # As a reader of committed records, one would be told the last stable
            # offset, which a transaction of somebody else can hold before ours.
            ends = await self._ask(numbers, LATEST, CONSUMER)
            begins = await self._ask(numbers, EARLIEST, CONSUMER)
        return {number: Bounds(begins[number], ends[number]) for number in numbers}

    async def held(self) -> dict[int, int]:
        """Ask where open transactions begin, by partition that has one."""
        client = self._consumer._client  # noqa: SLF001 - has no public name
        async with asyncio.timeout(self._patience_seconds):
            return await held_offsets(client, self._topic)

    async def replicated(self, numbers: Collection[int]) -> None:
        """
        Wait until all that the leaders have appended is replicated.

        A batch that lacks replicas is in the leader's log, above what readers are
        shown, and comes out when the replicas are back. Without them nothing else
        can be written either: whoever waits here loses nothing.
        """
        async with asyncio.timeout(self._patience_seconds):
            appended = await self._ask(numbers, LATEST, DEBUGGER)
        while True:
            async with asyncio.timeout(self._patience_seconds):
                ends = await self._ask(numbers, LATEST, CONSUMER)
                if all(ends[number] >= appended[number] for number in numbers):
                    return
                # Another leader may not have it at all.
                now = await self._ask(numbers, LATEST, DEBUGGER)
                appended = {
                    number: min(appended[number], now[number]) for number in numbers
                }
            await asyncio.sleep(_REPLICATION_LOOK_SECONDS)

    async def _ask(
        self, numbers: Collection[int], moment: int, asker: int
    ) -> dict[int, int]:
        client = self._consumer._client  # noqa: SLF001 - has no public name
        await client.add_topic(self._topic)
        committed_only = False
        return await ask_offsets(
            client, self._topic, numbers, moment, committed_only, asker
        )

    async def topic_id(self) -> str | None:
        """Ask for the id of the topic that has the name now; None if unknown."""
        client = self._consumer._client  # noqa: SLF001 - has no public name
        return (await topic_ids(client, [self._topic])).get(self._topic)

    async def records(
        self,
        firsts: Mapping[int, int],
        ends: Mapping[int, Bounds],
        *,
        aborted: bool = False,
    ) -> AsyncGenerator[tuple[int, list[ConsumerRecord]], None]:
        """
        Read partitions, each in order, up to the ends that they had.

        Args:
            firsts: Where to begin, by partition.
            ends: Their bounds.
            aborted: Whether records count of transactions that were aborted or are
                still open: they don't say what was delivered, but what stands where.

        Yields:
            A partition and its next records.

        Raises:
            KafkaUnreachableError: A transaction of somebody else is open.
            TimeoutError: Nothing came for the patience.
        """
        # These alone, and sought in the same step: aiokafka fails for an assigned
        # partition that has no position, paused or not.
        left = {
            TopicPartition(self._topic, number): max(first, ends[number].begin_offset)
            for number, first in firsts.items()
            if max(first, ends[number].begin_offset) < ends[number].end_offset
        }
        if not left:
            return
        consumer = self._consumer
        fetcher = consumer._fetcher  # noqa: SLF001 - has no public name
        level = READ_UNCOMMITTED if aborted else READ_COMMITTED
        fetcher._isolation_level = level  # noqa: SLF001
        consumer.assign(list(left))
        for partition, first in left.items():
            consumer.seek(partition, first)
        loop = asyncio.get_running_loop()
        moved_at = loop.time()
        while left:
            fetched = await consumer.getmany(timeout_ms=2 * _FETCH_WAIT_MS)
            for partition, records in fetched.items():
                yield partition.partition, records
            if await self._moved(left, ends):
                moved_at = loop.time()
            self._check_patience(left, loop.time() - moved_at)

    async def _moved(
        self, left: dict[TopicPartition, int], ends: Mapping[int, Bounds]
    ) -> bool:
        """Note how far partitions are read, and leave those at their ends."""
        moved = False
        for partition, before in list(left.items()):
            position = await self._consumer.position(partition)
            if position > before:
                moved = True
                left[partition] = position
            if position >= ends[partition.partition].end_offset:
                self._consumer.pause(partition)
                del left[partition]
        return moved

    def _check_patience(
        self, left: Mapping[TopicPartition, int], waited_seconds: float
    ) -> None:
        for partition, position in left.items():
            stable = self._consumer.last_stable_offset(partition)
            is_held = stable is not None and 0 <= stable <= position
            if is_held and waited_seconds > self._held_seconds:
                raise KafkaUnreachableError(
                    f"somebody's open transaction holds {partition.topic}"
                    f" partition {partition.partition} at offset {stable}: what stands"
                    " behind it can't be judged before it ends, at the latest when"
                    " its timeout is over; the bridge resumes then. One that stays"
                    " for longer hangs: kafka-transactions.sh finds it"
                    " (find-hanging) and ends it (abort)"
                )
        if left and waited_seconds > self._patience_seconds:
            raise TimeoutError(f"nothing came from {self._topic}")
