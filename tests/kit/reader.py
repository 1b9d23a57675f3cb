"""Reads a topic back with a client that shares nothing with the bridge's."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from tests.kit.broker import SILENT


_POLL_SECONDS = 0.2
_BATCH = 500


class ReadTimeoutError(Exception):
    """The topic's end, or the expected number of records, wasn't reached in time."""

    def __init__(self, message: str, records: list[Record]) -> None:
        super().__init__(message)
        self.records = records


@dataclass(frozen=True)
class Record:
    """One record as it is on a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    timestamp: int


def read_topic(
    bootstrap_servers: str, topic: str, expected: int | None, timeout: float
) -> list[Record]:
    """Read a topic from its beginning to the high watermark of each partition.

    It waits for `expected` records and still reads to the end: one too many is seen.
    It blocks; in trio call it through `trio.to_thread.run_sync`. Records of aborted
    transactions are left out, as consumers that ask for committed ones see it.
    """
    deadline = time.monotonic() + timeout
    # At the end of a partition it gives an error.
    consumer = consumer_of(bootstrap_servers, **{"enable.partition.eof": True})
    try:
        return _read(consumer, topic, expected, deadline)
    finally:
        consumer.close()


def consumer_of(bootstrap_servers: str, **more: object) -> Consumer:
    """Make a consumer that is in no group and reads committed records."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"reader-{uuid.uuid4()}",  # asked for, never joined
            "enable.auto.commit": False,
            "allow.auto.create.topics": False,
            "check.crcs": True,
            # At the end of a partition the broker holds a fetch back this long.
            "fetch.wait.max.ms": 50,
            **more,
        },
        logger=SILENT,
    )


def _read(
    consumer: Consumer, topic: str, expected: int | None, deadline: float
) -> list[Record]:
    """Read with a consumer of this call's own."""
    partitions = partitions_of(consumer, topic, max(deadline - time.monotonic(), 0.1))
    consumer.assign(
        [TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions]
    )
    # By place: what the client gives twice is kept once.
    records: dict[tuple[int, int], Record] = {}
    unfinished = set(partitions)
    while unfinished or len(records) < (expected or 0):
        if time.monotonic() > deadline:
            raise ReadTimeoutError(
                f"{topic}: {len(records)} records read, {expected or 'all'} expected; "
                f"partitions not read to the end: {sorted(unfinished)}",
                list(records.values()),
            )
        for message in consumer.consume(_BATCH, timeout=_POLL_SECONDS):
            partition = message.partition()
            assert partition is not None
            error = message.error()
            if error is None:
                record = record_of(message)
                records[partition, record.offset] = record
                unfinished.add(partition)
            elif error.code() == KafkaError._PARTITION_EOF:
                unfinished.discard(partition)
            else:
                raise KafkaException(error)
    return [record for _, record in sorted(records.items())]


def partitions_of(consumer: Consumer, topic: str, timeout: float) -> list[int]:
    """Give the partitions that a topic has now."""
    metadata = consumer.list_topics(topic, timeout=timeout).topics[topic]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    return sorted(metadata.partitions)


def record_of(message: Message) -> Record:
    """Give what a consumer got, as the suite's own value."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    # Typed for producing as well, which takes more; reading gives pairs of bytes.
    pairs = cast("list[tuple[str, bytes]]", message.headers() or [])
    headers = dict(pairs)
    if len(headers) < len(pairs):
        raise ValueError(f"two headers of the same name at {partition}/{offset}")
    _, timestamp = message.timestamp()
    return Record(
        partition=partition,
        offset=offset,
        key=_octets(message.key()),
        value=_octets(message.value()),
        headers=headers,
        timestamp=timestamp,
    )


def _octets(content: str | bytes | None) -> bytes | None:
    return content.encode() if isinstance(content, str) else content
