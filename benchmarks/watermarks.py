"""
How many records stand on a topic, asked for in one request.

Owns the ends of partitions alone; whether that is enough is for who asks.
"""

from __future__ import annotations

import logging

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec


__all__ = ["Watermarks"]

_ANSWER_SECONDS = 10.0

# Which offset of a partition is asked for: its end.
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call] # theirs

# librdkafka would print to stderr when the broker goes.
_SILENT = logging.getLogger("benchmarks.librdkafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class Watermarks:
    """
    The ends of a topic's partitions.

    Args:
        servers: Bootstrap servers.
        topic: Its name.
        partitions: How many it has.
    """

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self._admin = AdminClient({"bootstrap.servers": servers}, logger=_SILENT)
        self._partitions = [
            TopicPartition(topic, number) for number in range(partitions)
        ]

    def total(self) -> int:
        """Count the records on the topic."""
        latest = dict.fromkeys(self._partitions, _LATEST)
        futures = self._admin.list_offsets(latest, request_timeout=_ANSWER_SECONDS)
        return sum(future.result().offset for future in futures.values())
