"""What the lanes of one producer share; it is wired here and does nothing itself."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.kafka.memory import Memory
from bridge.kafka.outage import Outage
from bridge.kafka.ports import OutboxPort
from bridge.kafka.producers import Producers
from bridge.kafka.statistics import RelayStatistics
from bridge.settings import KafkaSettings


__all__ = ["Group"]


@dataclass(frozen=True, slots=True)
class Group:
    """
    Topics whose lanes use the same producer: a failure stays inside.

    Attributes:
        topics: Their names.
        settings: How to reach Kafka, sizes and times.
        outbox: Where rows are read and acknowledged.
        producers: Who lends producers.
        outage: Whether Kafka works, as this group meets it.
        memory: The room that the lanes of all groups share.
        statistics: The relay's figures.
    """

    topics: tuple[str, ...]
    settings: KafkaSettings
    outbox: OutboxPort
    producers: Producers
    outage: Outage
    memory: Memory
    statistics: RelayStatistics
