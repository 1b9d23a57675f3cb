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
from bridge.kafka.group import Group
from bridge.kafka.lane import Lane
from bridge.kafka.log import LogTail, ScanFrom, scan
from bridge.kafka.partitioner import partitioner
from bridge.kafka.topics import TopicFacts, look_up
from bridge.record import LaneState


__all__ = ["open_lanes"]

_log = structlog.get_logger("bridge.kafka")

# An unreachable Kafka is asked again after so long; it isn't worth a setting,
# since nothing is lost meanwhile.
_RETRY_SECONDS = 2.0

_Starts = Mapping[int, ScanFrom]


async def open_lanes(
    group: Group, lanes: dict[tuple[str, int], Lane], draining: asyncio.Event
) -> list[Lane]:
    """
    Open a group's lanes as soon as Kafka lets it.

    Args:
        group: The topics and what their lanes share.
        lanes: Where the outbox's news find a lane; those opened are added.
        draining: Set when there is no more time to wait for Kafka.

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
            return await _open(group, lanes)
        except (ConfigError, KafkaError) as error:
            group.outage.failed("kafka.waits", error)
            if await _ends_start(group, error, time.monotonic() - begun):
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
    if await answer(group.outbox.waiting_topics()):
        return False
    timeout = group.settings.start_timeout_seconds
    if isinstance(error, KafkaUnreachableError):
        states = await answer(group.outbox.lane_states())
        return not states and waited_seconds >= timeout
    # Another group may work already; a start is over all the same only when
    # its time is.
    return not group.statistics.ever_connected or waited_seconds < timeout


async def _open(group: Group, lanes: dict[tuple[str, int], Lane]) -> list[Lane]:
    facts = await look_up(group.settings, group.topics)
    # The producer first: it shows whether the user may write idempotently.
    async with group.producers.lend():
        pass
    states = [
        state
        for state in await answer(group.outbox.lane_states())
        if state.topic in facts
    ]
    if any(state.last_sequence > state.acknowledged_sequence for state in states):
        # A batch of the process before this one may still be on its way.
        await asyncio.sleep(group.settings.resume_quiet_seconds)
    read = []
    for topic in facts.values():
        known = _known_lanes(topic, states)
        starts = _starts(topic, known)
        tails = await scan(group.settings, group.outbox.id, topic.name, starts)
        read.append((topic, known, starts, tails))
    # From here on nothing can fail and be tried again: the outbox never has
    # rows for a lane that isn't the one to send them.
    opened: list[Lane] = []
    for topic, known, starts, tails in read:
        opened += await _hand_over(group, lanes, topic, known, starts, tails)
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


def _starts(topic: TopicFacts, known: Mapping[int, LaneState]) -> _Starts:
    starts = {number: ScanFrom(None, 0) for number in range(topic.partitions)}
    for number, state in known.items():
        starts[number] = ScanFrom(state.resume_offset, state.acknowledged_sequence)
    return starts


async def _hand_over(  # noqa: PLR0913, PLR0917 - what was read of one topic
    group: Group,
    lanes: dict[tuple[str, int], Lane],
    topic: TopicFacts,
    known: Mapping[int, LaneState],
    starts: _Starts,
    tails: Mapping[int, LogTail],
) -> list[Lane]:
    """Make a topic's lanes, then let the outbox give them rows."""
    opened = []
    for number, tail in tails.items():
        state, start = known.get(number), starts[number]
        lane = Lane(
            group,
            topic,
            number,
            acknowledged_sequence=start.acknowledged_sequence,
            last_sequence=0 if state is None else state.last_sequence,
            resume_offset=tail.end_offset if start.offset is None else start.offset,
            found=tail.offsets,
        )
        lanes[lane.key] = lane
        opened.append(lane)
    ends = {
        number: (tail.last_sequence, tail.end_offset) for number, tail in tails.items()
    }
    await answer(
        group.outbox.open_topic(topic.name, partitioner(topic.partitions), ends)
    )
    return opened
