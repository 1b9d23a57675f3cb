"""What tests of the reader share: records to read, and a look at its threads."""

from __future__ import annotations

import threading

import trio
from confluent_kafka import Producer

from bridge.kafka.reader import ConsumedRecord, TopicReader
from bridge.settings import KafkaSettings
from tests.conftest import Topic


# Far above what any of these waits takes on a busy machine, below the 60 s of
# a test.
DEADLINE_SECONDS = 30.0


def settings_of(topic: Topic) -> KafkaSettings:
    """Settings for the topic's broker."""
    return KafkaSettings(bootstrap_servers=topic.bootstrap_servers)


def produce(
    topic: Topic,
    count: int,
    *,
    first: int = 0,
    size_bytes: int = 10,
    timestamp_ms: int = 0,
) -> None:
    """Write records `first`, `first + 1`, ... in turn to the partitions."""
    producer = Producer({"bootstrap.servers": topic.bootstrap_servers})
    for number in range(first, first + count):
        producer.produce(
            topic.name,
            key=f"key-{number}".encode(),
            value=str(number).encode().ljust(size_bytes),
            headers=[("ce_id", f"id-{number}".encode()), ("empty", None)],
            partition=number % topic.partitions,
            timestamp=timestamp_ms,
        )
    assert producer.flush(DEADLINE_SECONDS) == 0


async def read(source: TopicReader, count: int) -> list[ConsumedRecord]:
    """Read until so many records have come."""
    records: list[ConsumedRecord] = []
    with trio.fail_after(DEADLINE_SECONDS):
        while len(records) < count:
            records += await source.receive_run()
    return records


def numbers(records: list[ConsumedRecord]) -> list[int]:
    """The numbers that `produce` wrote."""
    return sorted(int(record.value or b"") for record in records)


def reader_threads() -> list[threading.Thread]:
    """The readers' threads that are alive."""
    return [t for t in threading.enumerate() if t.name == "bridge-kafka-reader"]


class Nothing:
    """Stands for the records of an answer that has none."""

    def __init__(self, _data: bytes) -> None:
        pass

    def has_next(self) -> bool:
        """Whether there is a batch."""
        return False

    def size_in_bytes(self) -> int:
        """Nothing at all."""
        return 0
