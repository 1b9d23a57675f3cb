"""
Asking leaders for offsets: where partitions begin, end, or stood at a time.

Owns that one question; what is read from there is the asker's.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import aiokafka.errors as aiokafka_errors  # noqa: TID251 - this room's library
from aiokafka.client import AIOKafkaClient  # noqa: TID251 - as above
from aiokafka.protocol.offset import OffsetRequest  # noqa: TID251 - as above
from aiokafka.structs import TopicPartition  # noqa: TID251 - as above


__all__ = [
    "CONSUMER",
    "DEBUGGER",
    "EARLIEST",
    "LATEST",
    "ask_offsets",
    "held_offsets",
]

# Moments that the protocol gives a meaning of their own.
EARLIEST: Final = -2
LATEST: Final = -1

# Who asks, as `replica_id` has it: a consumer is told of what is replicated, a
# debugger also of what the leader alone has appended so far.
CONSUMER: Final = -1
DEBUGGER: Final = -2

_RETRY_SECONDS = 0.2


async def ask_offsets(  # noqa: PLR0913, PLR0917 - the parts of one question
    client: AIOKafkaClient,
    topic: str,
    partitions: Iterable[int],
    moment: int,
    committed_only: bool,  # noqa: FBT001 - one of Kafka's two isolation levels
    asker: int = CONSUMER,
) -> dict[int, int]:
    """
    Ask until every partition's leader has answered; the caller has the deadline.

    Args:
        client: A client that knows the topic.
        topic: The topic.
        partitions: Which of its partitions.
        moment: `EARLIEST`, `LATEST` or milliseconds since the epoch.
        committed_only: Whether the latest offset is that behind the last record
            whose transaction has ended.
        asker: `CONSUMER` or `DEBUGGER`.

    Returns:
        Offsets by partition; -1 where nothing is as young as the moment.

    Raises:
        aiokafka.errors.KafkaError: A broker refuses.
    """
    wanted, offsets = set(partitions), dict[int, int]()
    while True:
        if topic in client.cluster.unauthorized_topics:
            # Nobody tells such a user who leads it.
            raise aiokafka_errors.TopicAuthorizationFailedError(topic)
        by_leader = defaultdict(list)
        for partition in wanted - offsets.keys():
            lane = TopicPartition(topic, partition)
            by_leader[client.cluster.leader_for_partition(lane)].append(partition)
        for leader, lanes in by_leader.items():
            if leader is None or leader < 0:
                continue
            request = OffsetRequest(
                asker,
                int(committed_only),
                [(topic, [(lane, moment) for lane in lanes])],
            )
            try:
                offsets |= _read(await client.send(leader, request))
            except aiokafka_errors.KafkaError as error:
                if not error.retriable:
                    raise
        if offsets.keys() >= wanted:
            return offsets
        client.force_metadata_update()
        await asyncio.sleep(_RETRY_SECONDS)


async def held_offsets(client: AIOKafkaClient, topic: str) -> dict[int, int]:
    """
    Ask where open transactions keep records from readers of committed ones.

    Args:
        client: A client.
        topic: The topic.

    Returns:
        By partition that is held, the offset where the first of them begins.

    Raises:
        aiokafka.errors.KafkaError: A broker refuses.
    """
    await client.add_topic(topic)
    partitions = client.cluster.partitions_for_topic(topic) or ()
    # In this order: what is appended meanwhile isn't taken for held.
    ends = await ask_offsets(client, topic, partitions, LATEST, committed_only=False)
    stable = await ask_offsets(client, topic, partitions, LATEST, committed_only=True)
    return {
        partition: stable[partition]
        for partition in partitions
        if stable[partition] < ends[partition]
    }


def _read(response: object) -> dict[int, int]:
    """Take the offsets out of an answer; those that failed are asked again."""
    found = {}
    for topic, parts in response.topics:  # type: ignore[attr-defined]
        for partition, code, _moment, offset, *_ in parts:
            error = aiokafka_errors.for_code(code)
            if error is aiokafka_errors.NoError:
                found[partition] = offset
            elif not error.retriable:
                raise error(topic)
    return found
