"""
The partition's log as the truth about what was written: read to resume.

Only identities are looked at; values are left alone.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Mapping

import msgspec
from aiokafka import (  # noqa: TID251 - this room speaks to aiokafka
    AIOKafkaConsumer,
    ConsumerRecord,
    TopicPartition,
    errors,
)

from bridge.errors import KafkaUnreachableError
from bridge.kafka.connection import client_arguments, failed_start
from bridge.kafka.ending import end_client
from bridge.kafka.headers import own_identity
from bridge.settings import KafkaSettings


__all__ = ["LogTail", "ScanFrom", "scan"]

# One fetch answers at the latest after this, so that an empty end is seen soon.
_FETCH_WAIT_MS = 100

_KNOCK_SECONDS = 5.0


class ScanFrom(msgspec.Struct, frozen=True):
    """
    Where to read a partition from.

    Attributes:
        offset: The first offset that may hold a record of this outbox that
            isn't known to be there; None reads the end offset alone.
        acknowledged_sequence: Records up to it are known to be there.
    """

    offset: int | None
    acknowledged_sequence: int


class LogTail(msgspec.Struct):
    """
    What a partition's end shows.

    Attributes:
        end_offset: The offset that the next record will get.
        last_sequence: The highest sequence of this outbox that was seen.
        offsets: Offset by `ce_id` of this outbox's records that weren't known
            to be there.
    """

    end_offset: int
    last_sequence: int = 0
    offsets: dict[str, int] = msgspec.field(default_factory=dict)


async def scan(
    settings: KafkaSettings,
    outbox_id: str,
    topic: str,
    starts: Mapping[int, ScanFrom],
) -> dict[int, LogTail]:
    """
    Read partitions from given offsets to their present ends.

    Args:
        settings: How to reach Kafka.
        outbox_id: Whose records are looked for.
        topic: The topic; it must exist.
        starts: Where to begin, by partition.

    Raises:
        KafkaUnreachableError: Kafka can't be read now.
        KafkaRefusedError: A broker refuses the credentials.
        ConfigError: A certificate or key can't be used.
    """
    consumer = AIOKafkaConsumer(
        **client_arguments(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        retry_backoff_ms=int(settings.retry_backoff_seconds * 1000),
        request_timeout_ms=int(settings.start_timeout_seconds * 1000),
    )
    try:
        async with asyncio.timeout(settings.start_timeout_seconds):
            await consumer.start()
        partitions = {TopicPartition(topic, number): number for number in starts}
        async with asyncio.timeout(settings.start_timeout_seconds):
            ends = await consumer.end_offsets(list(partitions))
            begins = await consumer.beginning_offsets(list(partitions))
        tails = {
            number: LogTail(ends[partition]) for partition, number in partitions.items()
        }
        firsts = {}
        for partition, number in partitions.items():
            start = starts[number].offset
            # Retention may have taken the rows in between: they were delivered.
            first = ends[partition] if start is None else max(start, begins[partition])
            if first < ends[partition]:
                firsts[partition] = first
        # These alone, and sought in the same step: aiokafka fails for an assigned
        # partition that has no position, paused or not.
        if firsts:
            consumer.assign(list(firsts))
            for partition, first in firsts.items():
                consumer.seek(partition, first)
            reader = _TailReader(settings, outbox_id, starts, tails)
            await reader.read(consumer, set(firsts))
    except errors.KafkaConnectionError as error:
        raise await failed_start(settings, _KNOCK_SECONDS) from error
    except (errors.KafkaError, TimeoutError) as error:
        raise KafkaUnreachableError(
            f"Kafka can't be read at {topic}: {error!r}; the bridge resumes when it can"
        ) from error
    else:
        return tails
    finally:
        await end_client(consumer._client, consumer.stop)  # noqa: SLF001


class _TailReader:
    """Reads until every partition has come to the end that it had at first."""

    def __init__(
        self,
        settings: KafkaSettings,
        outbox_id: str,
        starts: Mapping[int, ScanFrom],
        tails: dict[int, LogTail],
    ) -> None:
        self._patience_seconds = settings.start_timeout_seconds
        self._own = outbox_id.encode()
        self._starts = starts
        self._tails = tails

    async def read(
        self, consumer: AIOKafkaConsumer, partitions: set[TopicPartition]
    ) -> None:
        """Read; TimeoutError if nothing comes for the start timeout."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._patience_seconds) as patience:
            while partitions:
                fetched = await consumer.getmany(timeout_ms=2 * _FETCH_WAIT_MS)
                if fetched:
                    patience.reschedule(loop.time() + self._patience_seconds)
                for partition, records in fetched.items():
                    self._note(partition.partition, records)
                for partition in list(partitions):
                    position = await consumer.position(partition)
                    if position >= self._tails[partition.partition].end_offset:
                        consumer.pause(partition)
                        partitions.discard(partition)

    def _note(self, partition: int, records: list[ConsumerRecord]) -> None:
        tail = self._tails[partition]
        known = self._starts[partition].acknowledged_sequence
        for record in records:
            identity = own_identity(record.headers, self._own)
            if identity is None:
                continue
            ce_id, sequence = identity
            tail.last_sequence = max(tail.last_sequence, sequence)
            if sequence > known:
                tail.offsets[ce_id] = record.offset
