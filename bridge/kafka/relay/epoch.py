"""
An epoch: open a producer, read the log's tail, send until anything fails, close.

One loop serves the start, every failure, a recreated topic, added partitions and a
truncated log, in both delivery modes. `idempotent` and `transactional` are what sends.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the Kafka thread runs asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from bridge.errors import BridgeError, ConfigError, KafkaError, OutboxFullError
from bridge.events.dead_letter import DEFAULT_MAX_BYTES, refused
from bridge.events.record import StoredRecord
from bridge.kafka.answers import BatchRefusedError, ClientError
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.log import Log, open_log
from bridge.kafka.producer import Sent
from bridge.kafka.relay.outage import Outage
from bridge.kafka.relay.partition import Memory, PartitionQueue
from bridge.kafka.relay.publications import PublicationTrace, error_type
from bridge.kafka.relay.statistics import RelayStatistics, add, delivered
from bridge.kafka.relay.tails import Tail, last_confirmed, scan
from bridge.kafka.relay.topic_watch import TopicWatch
from bridge.kafka.topics.facts import TopicFacts
from bridge.outbox import Outbox
from bridge.outbox.values import PartitionState, Placed
from bridge.settings import KafkaSettings


__all__ = ["Delivery", "Epoch", "EpochEndedError", "Group", "WireFormat", "serve"]

_log = structlog.get_logger("bridge.kafka")

# The longest wait between two epochs while Kafka can't be used: what a partition may
# lose of the time after an outage.
_LONGEST_PAUSE_SECONDS = 10.0

# A single record is offered so often before it counts as refused for good: a batch that
# was damaged on its way is refused too (CORRUPT_MESSAGE), and a broker's own bug looks
# the same (UNKNOWN_SERVER_ERROR).
_REFUSED_AFTER = 3

# More rows than any batch holds.
_ALL_ROWS = 2000

# What a dead letter's key and headers take at most, beside its value.
_HEADERS_BYTES = 4096


class EpochEndedError(Exception):
    """The log has to be looked at again, though nothing has failed."""


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

    def acknowledged(self, queue: PartitionQueue, sent: Sent, base_offset: int) -> None:
        """Note that a batch is in the log."""
        topic, number = queue.key
        self.outage.worked(queue.key)
        delivered(self.statistics, topic, sent.rows, queue.resent_until)
        if self.trace is not None:
            self.trace(topic, number, sent.rows, sent.began_ns, base_offset=base_offset)
        queue.acknowledge(sent.rows, base_offset, sent.size_bytes)

    def failed(
        self, queue: PartitionQueue, rows: Sequence[StoredRecord], error: Exception
    ) -> None:
        """Note that a batch failed; if it was refused, where to look for the record."""
        topic, number = queue.key
        self.outage.failed(
            "partition.failed", error, queue.key, next_sequence=queue.cursor + 1
        )
        if self.trace is not None and rows:
            self.trace(
                topic, number, rows, time.time_ns(), error_type=error_type(error)
            )
        if isinstance(error, BatchRefusedError):
            if len(rows) > 1:
                self.singly_until[number] = rows[-1].sequence
            else:
                place = number, rows[0].sequence
                self.tries[place] = self.tries.get(place, 0) + 1
                if self.tries[place] >= _REFUSED_AFTER:
                    del self.tries[place]
                    self._put_aside(queue, rows[0], error)

    def _put_aside(
        self, queue: PartitionQueue, row: StoredRecord, error: BatchRefusedError
    ) -> None:
        """Replace a row by a dead letter; one that is refused itself stays unsent."""
        topic, number = queue.key
        target = None if topic == self.dead_letter_topic else self.dead_letter_topic
        letter = None
        if target is not None:
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


class Epoch(msgspec.Struct, frozen=True):
    """
    What is sent to, until something fails.

    Attributes:
        group: The topic's delivery.
        facts: What the topic is like.
        prefix: What is written before each value.
        queues: Its partitions that have a leader.
        wake: Set when one of them has rows.
    """

    group: Group
    facts: TopicFacts
    prefix: bytes
    queues: Sequence[PartitionQueue]
    wake: asyncio.Event


class Delivery(Protocol):
    """How rows are sent: see `idempotent` and `transactional`."""

    @property
    def shares_wake(self) -> bool:
        """Whether one event says that any partition has rows."""

    async def open(self, *, waits: bool) -> None:
        """
        Have producers; older ones can write nothing more from then on, as far as known.

        Args:
            waits: Whether rows wait, of which an older producer may have sent some.

        Raises:
            BridgeError: Kafka refuses, or can't be reached.
        """

    async def settle(self, log: Log, numbers: Sequence[int]) -> None:
        """
        Wait until nothing of an older producer can land in partitions any more.

        Raises:
            BridgeError: As `open_log` says.
        """

    async def send(self, epoch: Epoch) -> None:
        """
        Send until draining is done; what fails ends the epoch.

        Raises:
            EpochEndedError: The log has to be looked at again.
            BridgeError, ClientError, TimeoutError: Something failed.
        """

    async def close(self) -> None:
        """End the producers at once."""


async def serve(
    group: Group, delivery: Delivery, ends_start: Callable[[BridgeError, float], bool]
) -> None:
    """
    Send a topic's rows, epoch after epoch, until the relay drains.

    Args:
        group: The topic's delivery.
        delivery: How rows are sent.
        ends_start: Whether an error, after so many seconds, ends the process: only at a
            start that never worked.

    Raises:
        BridgeError: `ends_start` says so.
    """
    failures, begun = 0, time.monotonic()
    while True:
        try:
            epoch = await _open(group, delivery)
            failures = 0
            await _run(epoch, delivery)
        except EpochEndedError as ended:
            _log.info("partitions.reopen", topic=group.topic, reason=str(ended))
        except (KafkaError, ConfigError, OutboxFullError) as error:
            group.outage.failed("kafka.unavailable", error)
            if ends_start(error, time.monotonic() - begun):
                raise
            failures += 1
        except (ClientError, TimeoutError):
            # The partition's failure was reported.
            failures += 1
        else:
            return
        finally:
            for queue in group.queues.values():
                queue.close()
                group.outage.forget(queue.key)
            group.statistics.partitions -= len(group.queues)
            group.queues = {}
            await delivery.close()
        group.statistics.producer_recycles += 1
        if group.is_draining.is_set() and failures:
            return
        # At once after the first failure: most end with the producer.
        pause = group.settings.retry_backoff_seconds * (1 << min(failures, 8))
        pause = min(pause, _LONGEST_PAUSE_SECONDS) if failures > 1 else 0.0
        try:
            async with asyncio.timeout(pause):
                await group.is_draining.wait()
        except TimeoutError:
            pass


async def _open(group: Group, delivery: Delivery) -> Epoch:
    """Read what the log has, and continue behind it."""
    topic, outbox = group.topic, group.outbox
    facts = (await group.watch.facts([topic]))[topic]
    unfit = group.watch.unfit([topic])
    if unfit is not None and not group.statistics.ever_connected:
        raise unfit
    prefix = b""
    if group.wire_format is not None:
        prefix = await group.wire_format.prefix(topic)
    before = outbox.partition_count(topic)
    known = {state.partition: state for state in outbox.states(topic)}
    waits = any(state.waiting for state in known.values())
    # The producer first: it shows whether this user may write as configured, and a
    # transactional one fences whatever wrote before.
    await delivery.open(waits=waits)
    _report_partitions(facts, before, known)
    outbox.open_topic(topic, facts.partitions, facts.topic_id)
    states = {state.partition: state for state in outbox.states(topic)}
    led = {one: states[one] for one in range(facts.partitions)}
    wake = asyncio.Event()
    async with open_log(group.settings, topic) as log:
        await delivery.settle(log, [one for one, state in led.items() if state.waiting])
        if facts.topic_id is not None and await log.topic_id() != facts.topic_id:
            raise EpochEndedError("the topic was recreated meanwhile")
        tails = await scan(log, outbox.id, led)
        for number, tail in tails.items():
            tails[number] = await _settle(group, facts, log, led[number], tail)
    shown = {
        number: (tail.last_sequence, tail.bounds.end_offset, tail.found.keys())
        for number, tail in tails.items()
    }
    outbox.continue_behind(topic, shown)
    queues = [
        PartitionQueue(
            outbox,
            state,
            tails[state.partition].found,
            facts.max_message_bytes,
            group.settings.max_batch_bytes,
            group.memory,
            wake if delivery.shares_wake else asyncio.Event(),
            group.statistics.resumed,
        )
        for state in outbox.states(topic)
        if state.partition in tails
    ]
    # From here on what is committed comes by itself.
    group.queues = {queue.key[1]: queue for queue in queues}
    group.limit = facts.max_message_bytes
    group.statistics.partitions += len(queues)
    group.outage.worked()
    waiting = sum(state.waiting for state in states.values())
    _log.info("topic.open", topic=topic, partitions=facts.partitions, waiting=waiting)
    return Epoch(group, facts, prefix, queues, wake)


def _report_partitions(
    facts: TopicFacts, before: int, known: Mapping[int, PartitionState]
) -> None:
    """Log what has changed about a topic since it was opened last."""
    former = next((state.topic_id for state in known.values()), None)
    if None not in {former, facts.topic_id} and former != facts.topic_id:
        _log.warning("topic.recreated", topic=facts.name)
    elif 0 < before < facts.partitions:
        _log.warning(
            "topic.partitions_added",
            topic=facts.name,
            partitions=facts.partitions,
            before=before,
        )
    for number, state in known.items():
        if number >= facts.partitions and state.waiting:
            _log.error(
                "partition.gone",
                topic=facts.name,
                partition=number,
                partitions=facts.partitions,
                rows_kept=state.waiting,
            )


async def _settle(
    group: Group, facts: TopicFacts, log: Log, state: PartitionState, tail: Tail
) -> Tail:
    """Have rows sent again that a truncated log lost; gives what counts as there."""
    policy = (facts.configs or {}).get("cleanup.policy", "")
    if tail.confirms(state, is_compacted="compact" in policy):
        return tail
    topic, number = group.topic, state.partition
    end = tail.bounds.end_offset
    confirmed = await last_confirmed(log, group.outbox, topic, number, tail.bounds)
    if confirmed is None:
        confirmed = state.acknowledged_sequence
    if confirmed >= state.acknowledged_sequence:
        # What was lost is no longer kept. What the log has is not sent again, nor is it
        # passed over by the next epoch.
        end = min(tail.found.values(), default=end)
        group.outbox.rewind(topic, number, state.acknowledged_sequence, end, 0)
        return tail
    # Rows that were written where lost ones were, before that was noticed, are sent
    # again as well, in order and marked.
    last = max(state.acknowledged_sequence, tail.last_sequence)
    waiting = group.outbox.rewind(topic, number, confirmed, end, last)
    add(group.statistics.resent, topic, waiting)
    _log.error(
        "partition.log_truncated",
        topic=topic,
        partition=number,
        log_end=end,
        acknowledged_offset=state.resume_offset,
        sent_again=waiting,
        first_sequence=confirmed + 1,
        last_sequence=last,
    )
    return Tail(tail.bounds)


async def _run(epoch: Epoch, delivery: Delivery) -> None:
    """Send until something ends the epoch, or draining is done."""
    group = epoch.group
    changed = asyncio.create_task(group.watch.until_changed({group.topic: epoch.facts}))
    sending = asyncio.create_task(delivery.send(epoch))
    try:
        await asyncio.wait({changed, sending}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            if not group.is_draining.is_set():
                raise EpochEndedError("the topic has changed")
            await sending
        await sending
    finally:
        for task in (changed, sending):
            task.cancel()
        await asyncio.wait({changed, sending})
