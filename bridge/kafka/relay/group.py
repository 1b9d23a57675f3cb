"""One topic's delivery over all epochs: what it counts, what becomes of refusals."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the Kafka thread runs asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import structlog

from bridge.errors import KafkaUnreachableError
from bridge.events.dead_letter import DEFAULT_MAX_BYTES, refused
from bridge.events.record import StoredRecord
from bridge.kafka.answers import BatchRefusedError
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.producer import Producer, Sent
from bridge.kafka.relay.outage import Outage
from bridge.kafka.relay.partition import Memory, PartitionQueue
from bridge.kafka.relay.publications import PublicationTrace, error_type
from bridge.kafka.relay.statistics import RelayStatistics, add, delivered
from bridge.kafka.relay.topic_watch import TopicWatch
from bridge.outbox import Outbox
from bridge.outbox.values import Placed
from bridge.settings import KafkaSettings


__all__ = ["Group", "WireFormat"]

_log = structlog.get_logger("bridge.kafka")

# A single record is offered so often, with pauses, before it counts as refused for good
# where that isn't certain: a batch that was damaged on its way is refused too
# (CORRUPT_MESSAGE), and a broker's own bug looks like an invalid record
# (UNKNOWN_SERVER_ERROR).
_REFUSED_AFTER = 4

# More rows than any batch holds.
_ALL_ROWS = 2000

# What a dead letter's key and headers take at most, beside its value.
_HEADERS_BYTES = 4096


class WireFormat(Protocol):
    """What is written before the values of topics, a Schema Registry's for one."""

    async def prefix(self, topic: str) -> bytes:
        """
        Return the bytes before each value of a topic; none if its values are plain.

        Raises:
            KafkaError: They aren't known now, or never will be.
        """


class Group(msgspec.Struct):
    """
    One topic's delivery, over all epochs.

    Attributes:
        topic: The topic.
        settings: How to reach Kafka.
        outbox: Where rows are.
        writer: Writes headers.
        watch: Knows what topics are like.
        outage: Reports failures once, and their end.
        statistics: What is counted.
        memory: What rows in memory take.
        distribute: Takes rows that were committed.
        dead_letter_topic: Where records are sent that the broker refuses.
        max_dead_letter_bytes: Of larger ones only the first part is kept.
        dead_letter_limit: Returns what the dead letters' topic takes, if that is known.
        wire_format: What is written before values.
        trace: Is told of each batch.
        queues: The partitions of the epoch that runs.
        singly_until: Rows up to this sequence are sent one by one, by partition.
        tries: How often the first row of a partition was refused alone.
        limit: What the topic takes as one batch, as far as that is known.
        is_draining: Whether the relay ends once nothing waits.
    """

    topic: str
    settings: KafkaSettings
    outbox: Outbox
    writer: HeaderWriter
    watch: TopicWatch
    outage: Outage
    statistics: RelayStatistics
    memory: Memory
    distribute: Callable[[Sequence[Placed]], None]
    dead_letter_topic: str | None = None
    max_dead_letter_bytes: int = DEFAULT_MAX_BYTES
    dead_letter_limit: Callable[[], int | None] = lambda: None
    wire_format: WireFormat | None = None
    trace: PublicationTrace | None = None
    queues: dict[int, PartitionQueue] = msgspec.field(default_factory=dict)
    singly_until: dict[int, int] = msgspec.field(default_factory=dict)
    tries: dict[tuple[int, int], int] = msgspec.field(default_factory=dict)
    limit: int | None = None
    is_draining: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    def max_rows(self, queue: PartitionQueue) -> int:
        """Return how many rows the next batch of a partition may have."""
        return 1 if queue.cursor < self.singly_until.get(queue.key[1], 0) else _ALL_ROWS

    def acknowledged(
        self, queue: PartitionQueue, producer: Producer, sent: Sent, base_offset: int
    ) -> None:
        """Note that a batch is in the log."""
        self.outage.worked(queue.key)
        delivered(self.statistics, queue.key[0], sent.rows, queue.resent_until)
        if self.trace is not None:
            self.trace(
                *queue.key,
                sent.rows,
                sent.began_ns,
                base_offset=base_offset,
                broker=producer.broker(*queue.key),
            )
        queue.acknowledge(sent.rows, base_offset, sent.size_bytes)

    def failed(
        self, queue: PartitionQueue, rows: Sequence[StoredRecord], error: Exception
    ) -> None:
        """Note that a batch failed; if it was refused, where to look for the record."""
        number = queue.key[1]
        self.outage.failed(
            "partition.failed", error, queue.key, next_sequence=queue.cursor + 1
        )
        self.given_up(queue, rows, error)
        if isinstance(error, BatchRefusedError):
            if len(rows) > 1:
                self.singly_until[number] = rows[-1].sequence
            else:
                place = number, rows[0].sequence
                self.tries[place] = self.tries.get(place, 0) + 1
                if error.is_certain or self.tries[place] >= _REFUSED_AFTER:
                    self._put_aside(queue, rows[0], error)
                    del self.tries[place]

    def given_up(
        self, queue: PartitionQueue, rows: Sequence[StoredRecord], error: Exception
    ) -> None:
        """Note that a batch failed, for its own sake or another one's."""
        self.outage.forget(queue.key)
        if self.trace is not None and rows:
            began_ns, kind = time.time_ns(), error_type(error)
            self.trace(*queue.key, rows, began_ns, error_type=kind)

    def _put_aside(
        self, queue: PartitionQueue, row: StoredRecord, error: BatchRefusedError
    ) -> None:
        """Replace a row by a dead letter; one that is refused itself stays unsent."""
        topic, number = queue.key
        target = None if topic == self.dead_letter_topic else self.dead_letter_topic
        letter = None
        if target is not None:
            if not self.outbox.knows([target]):
                raise KafkaUnreachableError(
                    f"the topic {target} was never reached, and a record of {topic} is"
                    " to be sent to it"
                )
            limit = self.dead_letter_limit()
            most = self.max_dead_letter_bytes
            letter = refused(
                row,
                topic=topic,
                partition=number,
                dead_letter_topic=target,
                max_bytes=most
                if limit is None
                else max(min(most, limit - _HEADERS_BYTES), 0),
                message=error.message,
                error_class=error.error_class,
            )
        self.distribute(self.outbox.refuse(topic, number, row.sequence, letter))
        self.statistics.dead_letters += letter is not None
        add(self.statistics.refused, topic, 1)
        _log.error(
            "record.refused",
            topic=topic,
            partition=number,
            sequence=row.sequence,
            ce_id=row.ce_id,
            size_bytes=len(row.value) + len(row.key or b""),
            reason=error.message,
            destination=target or "the outbox, unsent",
        )
