"""A consumer that reads along, and notes when it had which record.

What is judged in the end is read again; this shows when a record was there for a
consumer, which no record says of itself.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence

import trio
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from tests.kit.reader import Record, record_of


_POLL_SECONDS = 0.1
_BATCH = 500
_METADATA_SECONDS = 20.0

# librdkafka would print what goes wrong with a connection to stderr.
_SILENT = logging.getLogger("tests.chaos.follower.librdkafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class Follower:
    """The consumer."""

    def __init__(self, bootstrap_servers: str, topics: Sequence[str]) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": f"follower-{uuid.uuid4()}",  # asked for, never joined
                "enable.auto.commit": False,
                "allow.auto.create.topics": False,
                "fetch.wait.max.ms": 50,
            },
            logger=_SILENT,
        )
        self.records: dict[str, list[Record]] = {topic: [] for topic in topics}
        self.seen: dict[tuple[str, int, int], float] = {}

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            await trio.to_thread.run_sync(self._assign)
            while True:
                await trio.to_thread.run_sync(self._take)
        finally:
            # Closing a consumer that is in no group waits for nothing.
            self._consumer.close()

    def seen_of(self, topic: str) -> dict[tuple[int, int], float]:
        """Say when it had the record of a partition and an offset of a topic."""
        return {
            (partition, offset): at
            for (name, partition, offset), at in dict(self.seen).items()
            if name == topic
        }

    def _assign(self) -> None:
        places = []
        for topic in self.records:
            known = self._consumer.list_topics(topic, timeout=_METADATA_SECONDS)
            places += [
                TopicPartition(topic, number, OFFSET_BEGINNING)
                for number in known.topics[topic].partitions
            ]
        self._consumer.assign(places)

    def _take(self) -> None:
        for message in self._consumer.consume(_BATCH, timeout=_POLL_SECONDS):
            error = message.error()
            if error is not None:
                if error.retriable():
                    continue
                raise KafkaException(error)
            topic = message.topic()
            assert topic is not None
            record = record_of(message)
            self.records[topic].append(record)
            self.seen[topic, record.partition, record.offset] = time.time()
