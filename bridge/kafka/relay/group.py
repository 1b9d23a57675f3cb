"""
What the lanes of one group share.

It is wired here and does nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.kafka.relay.memory import Memory
from bridge.kafka.relay.outage import Outage
from bridge.kafka.relay.ports import Framing, OutboxPort
from bridge.kafka.relay.publications import PublicationTrace
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.kafka.relay.topic_watch import TopicWatch
from bridge.settings import KafkaSettings


__all__ = ["Group"]


@dataclass(frozen=True, slots=True)
class Group:
    """
    Topics whose lanes use the same producers: a failure stays inside.

    Attributes:
        topics: Their names.
        settings: How to reach Kafka, sizes and times.
        outbox: Where rows are read and acknowledged.
        outage: Whether Kafka works, as this group meets it.
        memory: The room that the lanes of all groups share.
        statistics: The relay's figures.
        dead_letter_topic: Where records go that the broker refuses; None for
            quarantine alone.
        max_dead_letter_bytes: Of larger ones only the first part is kept.
        gap_topic: Where gaps go. Every start has one that waits: it is no reason to
            keep a start that doesn't work.
        limits: What topics that are open take as one batch, in bytes; all groups
            share it.
        watch: Looks at the topics of all groups.
        framing: What stands before the values of topics; None for nothing.
        prefixes: By topic that is open, the bytes before each value.
        trace: Is told of each batch; None where nobody is.
    """

    topics: tuple[str, ...]
    settings: KafkaSettings
    outbox: OutboxPort
    outage: Outage
    memory: Memory
    statistics: RelayStatistics
    dead_letter_topic: str | None
    max_dead_letter_bytes: int
    gap_topic: str | None
    limits: dict[str, int]
    watch: TopicWatch
    framing: Framing | None = None
    prefixes: dict[str, bytes] = field(default_factory=dict)
    trace: PublicationTrace | None = None
