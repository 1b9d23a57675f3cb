"""A consumer beside the bridge, which notes when it had which record.

What is judged in the end is read again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import trio
from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from tests.kit.reader import Record, consumer_of, partitions_of, record_of


_POLL_SECONDS = 0.1
_BATCH = 500
_METADATA_SECONDS = 20.0


class Follower:
    """The consumer."""

    def __init__(self, bootstrap_servers: str, topics: Sequence[str]) -> None:
        self._consumer = consumer_of(bootstrap_servers)
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
        """Give when it had the record of a partition and an offset of a topic."""
        return {
            (partition, offset): at
            for (name, partition, offset), at in dict(self.seen).items()
            if name == topic
        }

    def _assign(self) -> None:
        self._consumer.assign(
            [
                TopicPartition(topic, number, OFFSET_BEGINNING)
                for topic in self.records
                for number in partitions_of(self._consumer, topic, _METADATA_SECONDS)
            ]
        )

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
