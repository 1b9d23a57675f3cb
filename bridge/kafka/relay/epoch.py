"""
An epoch: open a producer, read the log's tail, send until anything fails, close.

One loop serves the start, every failure, a recreated topic, added partitions, a new
password and a truncated log, in both delivery modes. `idempotent` and `transactional`
are what sends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

import msgspec
import structlog

from bridge.errors import (
    BridgeError,
    ConfigError,
    KafkaError,
    KafkaUnreachableError,
    OutboxFullError,
)
from bridge.events.dead_letter import refused
from bridge.events.record import StoredRecord
from bridge.kafka.answers import BatchRefusedError, ClientError, error_type
from bridge.kafka.connection import RETRY_BACKOFF_SECONDS
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.log import Log, open_log
from bridge.kafka.producer import MAX_BATCH_BYTES, Producer, Sent
from bridge.kafka.relay.outage import Outage
from bridge.kafka.relay.partition import (
    EpochEndedError,
    Memory,
    PartitionQueue,
    read_tails,
    rewind,
)
from bridge.kafka.relay.statistics import PublicationTrace, RelayStatistics
from bridge.kafka.relay.topic_watch import TopicWatch
from bridge.kafka.requests import TopicFacts
from bridge.outbox import Outbox
from bridge.outbox.values import PartitionState, Placed
from bridge.settings import KafkaSettings


__all__ = ["Delivery", "Epoch", "Group", "WireFormat", "distribute", "serve"]

_log = structlog.get_logger("bridge.kafka")

# The longest wait between two epochs while Kafka can't be used: what a partition may
# lose of the time after an outage.
_LONGEST_PAUSE_SECONDS = 10.0

# Leaders of partitions without one, and another password, are looked for so often.
_LOOK_SECONDS = 1.0

# What is on its way gets so long for its answer where an epoch ends without a failure:
# a producer with an old password may get none.
_ANSWERS_SECONDS = 5.0

# A single record is offered so often, with pauses, before it counts as refused for good
# where that isn't certain: a batch that was damaged on its way is refused too
# (CORRUPT_MESSAGE), and a broker's own bug looks like an invalid record
# (UNKNOWN_SERVER_ERROR).
_REFUSED_AFTER = 4

# More rows than any batch holds.
_ALL_ROWS = 2000

# A record batch's own header and each record's headers don't count into
# `MAX_BATCH_BYTES`, but into what the broker takes: leave them room.
_BATCH_SHARE = 0.75

# What a dead letter's key and headers take at most, beside its value.
_HEADERS_BYTES = 4096


class WireFormat(Protocol):
    """What is written before the values of topics, a Schema Registry's for one."""

    async def prefix(self, topic: str) -> bytes:
        """Return the bytes before each value of a topic; none if they are plain."""


# -- Over all epochs ----------------------------------------------------------


class Group(msgspec.Struct):
    """One topic's delivery, over all epochs."""

    topic: str
    settings: KafkaSettings
    outbox: Outbox
    writer: HeaderWriter
    watch: TopicWatch
    outage: Outage
    statistics: RelayStatistics
    memory: Memory
    # All topics' deliveries, this one's too.
    groups: Mapping[str, Group]
    is_draining: asyncio.Event
    dead_letter_topic: str | None
    max_dead_letter_bytes: int
    wire_format: WireFormat | None
    trace: PublicationTrace | None
    # The partitions of the epoch that runs.
    queues: dict[int, PartitionQueue] = msgspec.field(default_factory=dict)
    # What the clients of the last epoch signed in with.
    password: str | None = None
    # What the topic takes as one batch, as far as that is known.
    limit: int | None = None
    # By partition: rows up to this sequence are sent one by one. And how often a row
    # was refused by itself.
    singly_until: dict[int, int] = msgspec.field(default_factory=dict)
    tries: dict[tuple[int, int], int] = msgspec.field(default_factory=dict)

    @property
    def has_started(self) -> bool:
        """Whether Kafka has worked for the first topic, which stands for all."""
        return next(iter(self.groups.values())).outage.has_worked

    def next_rows(self, queue: PartitionQueue) -> list[StoredRecord]:
        """Return what the next batch of a partition is made of."""
        is_single = queue.cursor < self.singly_until.get(queue.key[1], 0)
        return queue.next_rows(1 if is_single else _ALL_ROWS)

    def acknowledged(
        self, queue: PartitionQueue, producer: Producer, sent: Sent, base_offset: int
    ) -> None:
        """Note that a batch is in the log."""
        self.outage.worked(queue.key)
        self.statistics.delivered(self.topic, sent.rows, queue.resent_until)
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
        if not isinstance(error, BatchRefusedError):
            return
        if len(rows) > 1:
            self.singly_until[number] = rows[-1].sequence
            return
        place = number, rows[0].sequence
        self.tries[place] = self.tries.get(place, 0) + 1
        if error.is_certain or self.tries[place] >= _REFUSED_AFTER:
            self._put_aside(queue, rows[0], error)
            del self.tries[place]

    def given_up(
        self, queue: PartitionQueue, rows: Sequence[StoredRecord], error: Exception
    ) -> None:
        """Note that a batch failed, for its own sake or another one's."""
        if self.trace is not None:
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
            letters, most = self.groups.get(target), self.max_dead_letter_bytes
            if letters is not None and letters.limit is not None:
                most = max(min(most, letters.limit - _HEADERS_BYTES), 0)
            letter = refused(
                row,
                topic=topic,
                partition=number,
                dead_letter_topic=target,
                max_bytes=most,
                message=error.message,
                error_class=error.error_class,
            )
        placed = self.outbox.refuse(topic, number, row.sequence, letter)
        distribute(self.groups, placed)
        self.statistics.dead_letters += letter is not None
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


def distribute(groups: Mapping[str, Group], placed: Iterable[Placed]) -> None:
    """Hand rows that were just committed to their partitions."""
    for topic, number, rows in placed:
        group = groups.get(topic)
        # One that isn't open reads its rows from the outbox later.
        if group is not None and (queue := group.queues.get(number)):
            queue.committed(rows)


# -- Epoch after epoch --------------------------------------------------------


class Epoch(msgspec.Struct):
    """What is sent to, until something fails."""

    group: Group
    facts: TopicFacts
    # What is written before each value.
    prefix: bytes
    # Its partitions that have a leader, and the others.
    queues: Sequence[PartitionQueue]
    missing: Sequence[int]
    # Why nothing new is sent; None while the epoch lasts.
    ended_by: Exception | None = None

    def end(self, reason: Exception) -> None:
        """Send nothing new; what ended it first is the reason."""
        if self.ended_by is None:
            self.ended_by = reason
            for queue in self.queues:
                queue.wake.set()


class Delivery(Protocol):
    """How rows are sent: see `idempotent` and `transactional`."""

    async def open(self) -> None:
        """Have producers; transactional ones fence all older ones."""

    async def settle(self, log: Log, numbers: Sequence[int]) -> None:
        """Wait until nothing of an older producer can land in partitions any more."""

    async def send(self, epoch: Epoch) -> None:
        """Send until draining is done, or the epoch ends, which any failure does."""

    async def close(self) -> None:
        """End the producers at once."""


async def serve(
    group: Group, delivery: Delivery, ends_start: Callable[[float, BridgeError], bool]
) -> None:
    """
    Send a topic's rows, epoch after epoch, until the relay drains.

    `ends_start` says whether an error ends a start that began then.
    """
    begun = time.monotonic()
    # How many epochs in a row were short.
    short = 0
    while True:
        began = time.monotonic()
        try:
            epoch = await _open(group, delivery, partial(ends_start, begun))
            # This start has worked.
            begun = float("-inf")
            await _run(epoch, delivery)
        except EpochEndedError as ended:
            short += 1
            _log.info("partitions.reopen", topic=group.topic, reason=str(ended))
        except (KafkaError, ConfigError, OutboxFullError) as error:
            short += 1
            group.outage.failed("kafka.unavailable", error)
            if ends_start(begun, error):
                raise
        except (ClientError, TimeoutError) as error:
            # The partition's failure was reported. Looking for what is refused for
            # certain needs no pause.
            is_certain = isinstance(error, BatchRefusedError) and error.is_certain
            short = 0 if is_certain else short + 1
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
        if group.is_draining.is_set() and not group.has_started:
            return
        if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
            short = min(short, 1)
        await _pause(group, short)


async def _pause(group: Group, short: int) -> None:
    """Wait before the next epoch, after so many that were short."""
    # At once after the first: most failures end with the producer.
    if short <= 1:
        return
    seconds = RETRY_BACKOFF_SECONDS * (1 << min(short - 2, 8))
    seconds = min(seconds, _LONGEST_PAUSE_SECONDS)
    if group.is_draining.is_set():
        await asyncio.sleep(seconds)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await group.is_draining.wait()


async def _open(
    group: Group, delivery: Delivery, ends_start: Callable[[BridgeError], bool]
) -> Epoch:
    """Read what the log has, and continue behind it."""
    topic, outbox = group.topic, group.outbox
    facts = await group.watch.facts(topic)
    unfit = group.watch.unfit(topic)
    if unfit is not None and ends_start(unfit):
        raise unfit
    prefix = b""
    if group.wire_format is not None:
        prefix = await group.wire_format.prefix(topic)
    known = {state.partition: state for state in outbox.states(topic)}
    # The producer first: it shows whether this user may write as configured, and a
    # transactional one fences whatever wrote before.
    password = _password(group.settings)
    if group.password not in {None, password}:
        _log.info("credentials.renewed", what="password")
    group.password = password
    await delivery.open()
    _report_partitions(group, facts, known)
    outbox.open_topic(topic, facts.partitions, facts.topic_id)
    states = {state.partition: state for state in outbox.states(topic)}
    async with open_log(group.settings, topic) as log:
        leaders = log.leaders()
        led = {one: states[one] for one in range(facts.partitions) if one in leaders}
        missing = [one for one in range(facts.partitions) if one not in leaders]
        if not led:
            raise KafkaUnreachableError(
                f"Kafka gives no leader for {topic}; see that its brokers are up"
            )
        await delivery.settle(log, [one for one, state in led.items() if state.waiting])
        if facts.topic_id is not None and await log.topic_id() != facts.topic_id:
            raise EpochEndedError("the topic was recreated meanwhile")
        tails = await read_tails(log, outbox.id, led)
        is_compacted = "compact" in (facts.configs or {}).get("cleanup.policy", "")
        for number, tail in tails.items():
            if not tail.confirms(led[number], is_compacted=is_compacted):
                tails[number] = await rewind(log, outbox, led[number], tail)
    shown = {
        number: (tail.last_sequence, tail.bounds.end_offset, tail.found.keys())
        for number, tail in tails.items()
    }
    outbox.continue_behind(topic, shown)
    share = int(facts.max_message_bytes * _BATCH_SHARE)
    queues = [
        PartitionQueue(
            outbox,
            state,
            tails[state.partition].found,
            min(MAX_BATCH_BYTES, share),
            group.memory,
            group.statistics.resumed,
            leaders[state.partition],
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
    _log.info("topic.open", topic=topic, partitions=len(led), waiting=waiting)
    if missing:
        _log.warning("topic.without_leader", topic=topic, partitions=missing)
    return Epoch(group, facts, prefix, queues, missing)


def _report_partitions(
    group: Group, facts: TopicFacts, known: Mapping[int, PartitionState]
) -> None:
    """Log what has changed about a topic since it was opened last."""
    former = next((state.topic_id for state in known.values()), None)
    if None not in {former, facts.topic_id} and former != facts.topic_id:
        _log.warning("topic.recreated", topic=facts.name)
    elif 0 < len(known) < facts.partitions:
        _log.warning(
            "topic.partitions_added",
            topic=facts.name,
            partitions=facts.partitions,
            before=len(known),
        )
    for number, state in known.items():
        if number < facts.partitions:
            continue
        group.outage.recovered((facts.name, number))
        if state.waiting:
            _log.error(
                "partition.gone",
                topic=facts.name,
                partition=number,
                partitions=facts.partitions,
                rows_kept=state.waiting,
            )


async def _run(epoch: Epoch, delivery: Delivery) -> None:
    """Send until something ends the epoch, or draining is done."""
    group = epoch.group
    sending = asyncio.create_task(delivery.send(epoch))
    over = asyncio.create_task(_until_over(epoch))
    tasks = {sending, over}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if over.done():
            epoch.end(over.result())
            await asyncio.wait({sending}, timeout=_ANSWERS_SECONDS)
            if not sending.done():
                raise over.result()
        await sending
        # All others are drained: what has no leader may get one in time.
        if any(
            state.waiting and state.partition in epoch.missing
            for state in group.outbox.states(group.topic)
        ):
            raise await over
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _until_over(epoch: Epoch) -> EpochEndedError:
    """Wait until the log has to be looked at again, though nothing has failed."""
    watch, settings = epoch.group.watch, epoch.group.settings
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        # A client of aiokafka keeps its password for life.
        if _password(settings) != epoch.group.password:
            return EpochEndedError("the password has changed")
        if watch.shows_another(epoch.facts):
            return EpochEndedError("the topic has changed")
        if epoch.missing and await _have_leaders(epoch):
            return EpochEndedError("a partition has a leader again")


async def _have_leaders(epoch: Epoch) -> bool:
    """Whether a partition has a leader that had none."""
    try:
        async with open_log(epoch.group.settings, epoch.group.topic) as log:
            return bool(log.leaders().keys() & epoch.missing)
    except (ConfigError, KafkaError) as error:
        # Sending reports what doesn't work.
        _log.debug("leaders.not_seen", error=repr(error))
        return False


def _password(settings: KafkaSettings) -> str | None:
    password = settings.sasl_password
    return None if password is None else password.reveal()
