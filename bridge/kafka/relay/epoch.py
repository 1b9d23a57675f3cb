"""
An epoch: open a producer, read the log's tail, send until anything fails, close.

One loop serves the start, every failure, a recreated topic, added partitions and a
truncated log, in both delivery modes. `idempotent` and `transactional` are what sends.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the Kafka thread runs asyncio
import time
from collections.abc import Callable, Mapping, Sequence
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
from bridge.kafka.answers import BatchRefusedError, ClientError
from bridge.kafka.log import Log, open_log
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.partition import EpochEndedError, PartitionQueue
from bridge.kafka.relay.statistics import add
from bridge.kafka.relay.tails import Tail, last_confirmed, scan
from bridge.kafka.topics import TopicFacts
from bridge.outbox.values import PartitionState


__all__ = ["Delivery", "Epoch", "serve"]

_log = structlog.get_logger("bridge.kafka")

# The longest wait between two epochs while Kafka can't be used: what a partition may
# lose of the time after an outage.
_LONGEST_PAUSE_SECONDS = 10.0

# Partitions without a leader are looked for so often.
_LEADER_SECONDS = 1.0


class Epoch(msgspec.Struct):
    """
    What is sent to, until something fails.

    Attributes:
        group: The topic's delivery.
        facts: What the topic is like.
        prefix: What is written before each value.
        queues: Its partitions that have a leader.
        missing: Those that have none.
        wake: Set when one of them has rows.
        ended_by: Why nothing new is sent; None while the epoch lasts.
    """

    group: Group
    facts: TopicFacts
    prefix: bytes
    queues: Sequence[PartitionQueue]
    missing: Sequence[int]
    wake: asyncio.Event
    ended_by: Exception | None = None

    def end(self, reason: Exception) -> None:
        """Send nothing new; what ended it first is the reason."""
        if self.ended_by is None:
            self.ended_by = reason
            for queue in self.queues:
                queue.wake.set()


class Delivery(Protocol):
    """How rows are sent: see `idempotent` and `transactional`."""

    @property
    def shares_wake(self) -> bool:
        """Whether one event says that any partition has rows."""

    async def open(self) -> None:
        """
        Have producers; transactional ones fence all older ones.

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
        Send until draining is done, or the epoch ends, which any failure does.

        Raises:
            EpochEndedError: The log has to be looked at again.
            BridgeError, ClientError, TimeoutError: Something failed.
        """

    async def close(self) -> None:
        """End the producers at once."""


async def serve(
    group: Group, delivery: Delivery, ends_start: Callable[[float, BridgeError], bool]
) -> None:
    """
    Send a topic's rows, epoch after epoch, until the relay drains.

    Args:
        group: The topic's delivery.
        delivery: How rows are sent.
        ends_start: Whether a start that began then is ended by an error: only one that
            never worked.

    Raises:
        BridgeError: `ends_start` says so.
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
        if group.is_draining.is_set() and not group.statistics.ever_connected:
            return
        if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
            short = min(short, 1)
        await _pause(group, short)


async def _pause(group: Group, short: int) -> None:
    """Wait before the next epoch, after so many that were short."""
    # At once after the first: most failures end with the producer.
    if short <= 1:
        return
    seconds = group.settings.retry_backoff_seconds * (1 << min(short - 2, 8))
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
    facts = (await group.watch.facts([topic]))[topic]
    unfit = group.watch.unfit([topic])
    if unfit is not None and ends_start(unfit):
        raise unfit
    prefix = b""
    if group.wire_format is not None:
        prefix = await group.wire_format.prefix(topic)
    before = outbox.partition_count(topic)
    known = {state.partition: state for state in outbox.states(topic)}
    # The producer first: it shows whether this user may write as configured, and a
    # transactional one fences whatever wrote before.
    await delivery.open()
    _report_partitions(group, facts, before, known)
    outbox.open_topic(topic, facts.partitions, facts.topic_id)
    states = {state.partition: state for state in outbox.states(topic)}
    wake = asyncio.Event()
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
    return Epoch(group, facts, prefix, queues, missing, wake)


def _report_partitions(
    group: Group,
    facts: TopicFacts,
    before: int,
    known: Mapping[int, PartitionState],
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


async def _settle(
    group: Group, facts: TopicFacts, log: Log, state: PartitionState, tail: Tail
) -> Tail:
    """Have rows sent again that a truncated log lost; gives what counts as there."""
    policy = (facts.configs or {}).get("cleanup.policy", "")
    if tail.confirms(state, is_compacted="compact" in policy):
        return tail
    topic, number = group.topic, state.partition
    end = tail.bounds.end_offset
    confirmed, highest = await last_confirmed(
        log, group.outbox, topic, number, tail.bounds
    )
    if confirmed is None or confirmed >= state.acknowledged_sequence:
        # What was lost is no longer kept. What the log has is not sent again, nor is it
        # passed over by the next epoch.
        confirmed, last, left = state.acknowledged_sequence, 0, tail
        resume = min(tail.found.values(), default=end)
    else:
        # Rows that were written where lost ones were, before that was noticed, are sent
        # again as well, in order and marked.
        last = max(state.acknowledged_sequence, tail.last_sequence, highest)
        left, resume = Tail(tail.bounds), end
    waiting = group.outbox.rewind(topic, number, confirmed, resume, last)
    if waiting:
        add(group.statistics.resent, topic, waiting)
    _log.error(
        "partition.log_truncated",
        topic=topic,
        partition=number,
        log_end=end,
        acknowledged_offset=state.resume_offset,
        sent_again=waiting,
        first_sequence=confirmed + 1,
        last_sequence=max(state.acknowledged_sequence, last),
    )
    return left


async def _run(epoch: Epoch, delivery: Delivery) -> None:
    """Send until something ends the epoch, or draining is done."""
    group = epoch.group
    changed = asyncio.create_task(group.watch.until_changed({group.topic: epoch.facts}))
    led = asyncio.create_task(_until_led(epoch))
    sending = asyncio.create_task(delivery.send(epoch))
    tasks = {changed, led, sending}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if changed.done():
            epoch.end(EpochEndedError("the topic has changed"))
        if led.done():
            epoch.end(EpochEndedError("a partition has a leader again"))
        await sending
        # All others are drained: what has no leader may get one in time.
        if any(
            state.waiting and state.partition in epoch.missing
            for state in group.outbox.states(group.topic)
        ):
            await led
            raise EpochEndedError("a partition has a leader again")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _until_led(epoch: Epoch) -> None:
    """Wait until a partition has a leader that had none."""
    group = epoch.group
    if not epoch.missing:
        # No deadline: ends with the epoch.
        await asyncio.Event().wait()
    while True:
        await asyncio.sleep(_LEADER_SECONDS)
        try:
            async with open_log(group.settings, group.topic) as log:
                while not log.leaders().keys() & epoch.missing:
                    await asyncio.sleep(_LEADER_SECONDS)
                    await log.look_again()
                return
        except (ConfigError, KafkaError) as error:
            # Sending reports what doesn't work.
            _log.debug("leaders.not_seen", error=repr(error))
