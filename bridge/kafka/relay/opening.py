"""
Opening a group's lanes: its topics looked up, their logs' ends read.

Until Kafka was reached this is tried again and again; whether a start that
fails ends the process is decided here too.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections.abc import Mapping, Sequence

import structlog

from bridge.errors import BridgeError, ConfigError, KafkaError, KafkaUnreachableError
from bridge.kafka.asking import answer
from bridge.kafka.partitioner import partitioner
from bridge.kafka.relay.delivery import Delivery
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.lane import Lane
from bridge.kafka.relay.log import open_log
from bridge.kafka.relay.resuming import TopicReplacedError, let_land, settle
from bridge.kafka.relay.tails import ScanFrom, scan
from bridge.kafka.topics import TopicFacts
from bridge.outbox.records import LaneState


__all__ = ["open_lanes"]

_log = structlog.get_logger("bridge.kafka")

# An unreachable Kafka is asked again after so long; it isn't worth a setting,
# since nothing is lost meanwhile.
_RETRY_SECONDS = 2.0


async def open_lanes(
    group: Group,
    delivery: Delivery,
    lanes: dict[tuple[str, int], Lane],
    draining: asyncio.Event,
    *,
    is_start: bool,
) -> list[Lane]:
    """
    Open a group's lanes as soon as Kafka lets it.

    Args:
        group: The topics and what their lanes share.
        delivery: What will carry them.
        lanes: Where the outbox's news find a lane; those opened are added.
        draining: Set when there is no more time to wait for Kafka.
        is_start: Whether a refusal may end the process: not once it has worked.

    Returns:
        The lanes; none if draining began before Kafka was reached.

    Raises:
        KafkaUnreachableError: Kafka was never reached, by no process with this
            outbox, within the start timeout, and there is nothing to keep.
        KafkaRefusedError: Kafka refuses at a start, and there is nothing to keep.
        ConfigError: A certificate or key can't be used, likewise.
    """
    begun = time.monotonic()
    while not draining.is_set():
        try:
            facts = await group.watch.facts(group.topics)
            unfit = group.watch.unfit(group.topics) if is_start else None
            if unfit is not None and await _ends_start(
                group, unfit, time.monotonic() - begun
            ):
                raise unfit
            return await _open(group, delivery, lanes, facts)
        except TopicReplacedError:
            # Between two questions: what was looked up is of the former topic.
            pass
        except (ConfigError, KafkaError) as error:
            group.outage.failed("kafka.waits", error)
            waited_seconds = time.monotonic() - begun
            if is_start and await _ends_start(group, error, waited_seconds):
                raise
        try:
            async with asyncio.timeout(_RETRY_SECONDS):
                await draining.wait()
        except TimeoutError:
            pass
    return []


async def _ends_start(group: Group, error: BridgeError, waited_seconds: float) -> bool:
    """
    Whether an error ends the process: only a start that never worked.

    Rows that wait are worth more than a quick end: the session is kept and
    Kafka asked again. An outbox that has been to Kafka before was set right
    once, so that only a refusal tells of a mistake.
    """
    if await answer(group.outbox.waiting_topics()) - {group.gap_topic}:
        return False
    timeout = group.settings.start_timeout_seconds
    if isinstance(error, KafkaUnreachableError):
        states = await answer(group.outbox.lane_states())
        return not states and waited_seconds >= timeout
    # Another group may work already; a start is over all the same only when
    # its time is.
    return not group.statistics.ever_connected or waited_seconds < timeout


async def _open(
    group: Group,
    delivery: Delivery,
    lanes: dict[tuple[str, int], Lane],
    facts: Mapping[str, TopicFacts],
) -> list[Lane]:
    if group.framing is not None:
        for name in facts:
            group.prefixes[name] = await group.framing.prefix(name)
    # The producer first: it shows whether the user may write as configured, and a
    # transactional one fences whoever wrote before.
    await delivery.prepare()
    states = [
        state
        for state in await answer(group.outbox.lane_states())
        if state.topic in facts
    ]
    opened: list[Lane] = []
    for topic in facts.values():
        known = _known_lanes(topic, states)
        former = _former_partitions(topic, states)
        opened += await _open_topic(group, delivery, lanes, topic, known, former)
    group.statistics.lanes += len(opened)
    group.outage.worked()
    _log.info(
        "topics.open",
        topics={name: facts[name].partitions for name in group.topics},
        waiting=sum(lane.waiting for lane in opened),
    )
    return opened


def _known_lanes(
    topic: TopicFacts, states: Sequence[LaneState]
) -> dict[int, LaneState]:
    """Give the lanes that the outbox knows, without those whose partition is gone."""
    known = {}
    for state in states:
        if state.topic != topic.name:
            continue
        if state.partition < topic.partitions:
            known[state.partition] = state
        elif state.last_sequence > state.acknowledged_sequence:
            _log.error(
                "lane.partition_gone",
                topic=topic.name,
                partition=state.partition,
                partitions=topic.partitions,
                rows_kept=state.last_sequence - state.acknowledged_sequence,
            )
    return known


def _former_partitions(topic: TopicFacts, states: Sequence[LaneState]) -> int:
    """
    Tell how many partitions a topic had when it was opened last; 0 if it never was.

    Lanes of partitions that were gone by then have the id of the topic before it.
    """
    ids = {
        state.partition: state.topic_id for state in states if state.topic == topic.name
    }
    return sum(one in {ids[0], None} for one in ids.values()) if 0 in ids else 0


def _was_made_anew(topic: TopicFacts, state: LaneState) -> bool:
    ids = (topic.topic_id, state.topic_id)
    return None not in ids and ids[0] != ids[1]


def _starts(topic: TopicFacts, known: Mapping[int, LaneState]) -> dict[int, ScanFrom]:
    starts = {number: ScanFrom(None, 0) for number in range(topic.partitions)}
    offset: int | None
    ce_id: str | None
    for number, state in known.items():
        if _was_made_anew(topic, state):
            # Made anew: offsets begin again. A producer that didn't notice may
            # have written to the new topic already.
            offset, ce_id = 0, None
        else:
            offset, ce_id = state.resume_offset, state.resume_ce_id
        starts[number] = ScanFrom(
            offset,
            state.acknowledged_sequence,
            ce_id,
            state.highest_sequence,
            state.last_sequence,
        )
    return starts


async def _open_topic(  # noqa: PLR0913, PLR0917 - what Kafka and the outbox know of it
    group: Group,
    delivery: Delivery,
    lanes: dict[tuple[str, int], Lane],
    topic: TopicFacts,
    known: Mapping[int, LaneState],
    former: int,
) -> list[Lane]:
    """Read the logs of a topic, make its lanes, let the outbox give them rows."""
    starts = _starts(topic, known)
    if any(_was_made_anew(topic, state) for state in known.values()):
        _log.warning("topic.made_anew", topic=topic.name)
    elif 0 < former < topic.partitions:
        _log.warning(
            "topic.partitions_added",
            topic=topic.name,
            partitions=topic.partitions,
            before=former,
        )
    waiting = [
        number
        for number, state in known.items()
        if state.last_sequence > state.acknowledged_sequence
    ]
    async with open_log(group.settings, topic.name) as log:
        if waiting:
            # A batch of the process before this one may still be on its way.
            await let_land(log, waiting, group.settings.resume_quiet_seconds)
        tails = await scan(log, group.outbox.id, starts)
        opened = {}
        for number, tail in tails.items():
            lane = Lane(
                group,
                topic,
                number,
                known=known.get(number),
                start=starts[number],
                end_offset=tail.end_offset,
                wake=delivery.wake,
            )
            closed = lanes.get(lane.key)
            if closed is not None:
                # It was told of rows while it was closed.
                closed.forget()
            lanes[lane.key] = opened[number] = lane
        ends = {
            number: (tail.last_sequence, tail.end_offset)
            for number, tail in tails.items()
        }
        unplaced = {
            number: tail.unplaced for number, tail in tails.items() if tail.unplaced
        }
        # From here on the outbox may have rows for these lanes.
        await answer(
            group.outbox.open_topic(
                topic.name,
                partitioner(topic.partitions),
                ends,
                topic.topic_id,
                unplaced,
                former_partition_of=partitioner(former)
                if former not in {0, topic.partitions}
                else None,
            )
        )
        for number, tail in tails.items():
            await settle(group, opened[number], log, starts[number], tail)
    group.limits[topic.name] = topic.max_message_bytes
    # Rows that were told to lanes of an earlier opening.
    for state in await answer(group.outbox.lane_states()):
        if state.topic == topic.name and state.partition in opened:
            opened[state.partition].claimed(state.last_sequence)
    return list(opened.values())
