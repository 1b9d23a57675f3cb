"""
What the lanes of one group share, and what carries them.

It is wired here and does nothing itself.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bridge.kafka.memory import Memory
from bridge.kafka.outage import Outage
from bridge.kafka.ports import Framing, OutboxPort
from bridge.kafka.publications import PublicationTrace
from bridge.kafka.statistics import RelayStatistics
from bridge.kafka.topic_watch import TopicWatch
from bridge.settings import KafkaSettings


if TYPE_CHECKING:
    from bridge.kafka.lane import Lane


__all__ = ["Delivery", "Group"]


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


class Delivery(Protocol):
    """How a group's rows get into the log; the setting `delivery` chooses."""

    @property
    def wake(self) -> asyncio.Event | None:
        """What wakes all lanes together; None where each is on its own."""

    async def prepare(self) -> None:
        """
        Be ready to write.

        Raises:
            KafkaUnreachableError: No broker answers now.
            KafkaRefusedError: A broker refuses.
            ConfigError: A certificate or key can't be used.
        """

    async def carry(self, lanes: Sequence[Lane]) -> None:
        """
        Send the lanes' rows as they come, until all are drained.

        Raises:
            TopicReplacedError: A topic was made anew.
            KafkaFencedError: Another bridge writes for the same outbox.
        """

    async def close(self) -> None:
        """End the producers; batches on their way fail."""
