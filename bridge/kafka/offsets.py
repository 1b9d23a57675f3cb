"""
Offsets, open transactions and cleanup policies, asked over a client of our own.

Why aiokafka's consumer, producer and admin client don't do: the list in `requests`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import aiokafka.errors as aiokafka_errors  # noqa: TID251 - this room's library
from aiokafka import AIOKafkaClient, TopicPartition  # noqa: TID251 - as above
from aiokafka.client import ConnectionGroup, CoordinationType  # noqa: TID251 - as above
from aiokafka.protocol.admin import DescribeConfigsRequest  # noqa: TID251 - as above
from aiokafka.protocol.offset import OffsetRequest  # noqa: TID251 - as above
from aiokafka.protocol.transaction import (  # noqa: TID251 - as above
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)


__all__ = [
    "CONSUMER",
    "DEBUGGER",
    "EARLIEST",
    "LATEST",
    "ask_offsets",
    "commit_empty",
    "held_offsets",
    "may_be_compacted",
]

# Moments that the protocol gives a meaning of their own.
EARLIEST: Final = -2
LATEST: Final = -1

# Who asks, as `replica_id` has it: a consumer is told of what is replicated, a
# debugger also of what the leader alone has appended so far.
CONSUMER: Final = -1
DEBUGGER: Final = -2

_RETRY_SECONDS = 0.2

_TOPIC_RESOURCE = 2
_POLICY = "cleanup.policy"


async def ask_offsets(  # noqa: PLR0913 - choices of the protocol, each by name
    client: AIOKafkaClient,
    lanes: Iterable[TopicPartition],
    moment: int,
    *,
    committed_only: bool = False,
    asker: int = CONSUMER,
    needs_leaders: bool = False,
) -> dict[TopicPartition, int]:
    """
    Ask until every partition's leader has answered; the caller has the deadline.

    With `needs_leaders` a partition that has none is an error, and isn't waited for.

    The client knows the topics. A moment is `EARLIEST`, `LATEST` or milliseconds since
    the epoch; -1 is the answer where nothing is as young as that. With `committed_only`
    the latest offset is that behind the last record whose transaction has ended.
    """
    wanted, offsets = set(lanes), dict[TopicPartition, int]()
    while True:
        by_leader = _by_leader(client, wanted - offsets.keys(), needs_leaders)
        for leader, asked in by_leader.items():
            topics = defaultdict(list)
            for lane in asked:
                topics[lane.topic].append((lane.partition, moment))
            request = OffsetRequest(asker, int(committed_only), list(topics.items()))
            try:
                offsets |= _offsets(await client.send(leader, request))
            except aiokafka_errors.KafkaError as error:
                if not error.retriable:
                    raise
        if offsets.keys() >= wanted:
            return offsets
        client.force_metadata_update()
        await asyncio.sleep(_RETRY_SECONDS)


def _by_leader(
    client: AIOKafkaClient,
    lanes: Iterable[TopicPartition],
    needs_leaders: bool,  # noqa: FBT001 - as the caller was given it
) -> dict[int, list[TopicPartition]]:
    """Give the partitions that each node leads, as far as known."""
    by_leader: dict[int, list[TopicPartition]] = defaultdict(list)
    for lane in lanes:
        if lane.topic in client.cluster.unauthorized_topics:
            # Nobody tells such a user who leads it.
            raise aiokafka_errors.TopicAuthorizationFailedError(lane.topic)
        leader = client.cluster.leader_for_partition(lane)
        if leader == -1 and needs_leaders:
            raise aiokafka_errors.LeaderNotAvailableError(lane)
        if leader is not None and leader >= 0:
            by_leader[leader].append(lane)
    return by_leader


def _offsets(response: object) -> dict[TopicPartition, int]:
    """Take the offsets out of an answer; those that failed are asked again."""
    found = {}
    for topic, parts in response.topics:  # type: ignore[attr-defined]
        for partition, code, _moment, offset, *_ in parts:
            error = aiokafka_errors.for_code(code)
            if error is aiokafka_errors.NoError:
                found[TopicPartition(topic, partition)] = offset
            elif not error.retriable:
                raise error(topic)
    return found


async def held_offsets(client: AIOKafkaClient, topic: str) -> dict[int, int]:
    """
    Ask where open transactions hold readers of committed records, by partition.

    Partitions without a leader are left out.
    """
    await client.add_topic(topic)
    numbers = client.cluster.available_partitions_for_topic(topic) or ()
    lanes = [TopicPartition(topic, number) for number in numbers]
    # In this order: what is appended meanwhile isn't taken for held.
    ends = await ask_offsets(client, lanes, LATEST, needs_leaders=True)
    stable = await ask_offsets(
        client, lanes, LATEST, committed_only=True, needs_leaders=True
    )
    return {lane.partition: stable[lane] for lane in lanes if stable[lane] < ends[lane]}


async def may_be_compacted(client: AIOKafkaClient, topic: str) -> bool:
    """Ask whether a topic's policy says so, or may not be read (DescribeConfigs)."""
    node = client.get_random_node()
    request = DescribeConfigsRequest([(_TOPIC_RESOURCE, topic, [_POLICY])])
    try:
        answer = await client.send(node, request)
    except (aiokafka_errors.KafkaError, NotImplementedError):
        return True
    for code, _message, _type, _name, entries in answer.resources:
        policies = {entry[0]: entry[1] for entry in entries}
        if code == 0 and policies.get(_POLICY):
            return "compact" in policies[_POLICY]
    return True


async def commit_empty(
    client: AIOKafkaClient,
    transactional_id: str,
    timeout_ms: int,
    topic: str,
    partitions: Iterable[int],
) -> None:
    """
    Commit a transaction that names partitions and holds nothing in them.

    Initializing the id fences every producer that has it. What can't be done yet is
    repeated; the caller has the deadline.

    Raises:
        aiokafka.errors.KafkaError: A broker refuses.
    """
    node = await client.coordinator_lookup(
        CoordinationType.TRANSACTION, transactional_id
    )
    begun = await _repeated(
        client, node, InitProducerIdRequest(transactional_id, timeout_ms)
    )
    producer = begun.producer_id, begun.producer_epoch
    topics = [(topic, list(partitions))]
    await _repeated(
        client, node, AddPartitionsToTxnRequest(transactional_id, *producer, topics)
    )
    await _repeated(client, node, EndTxnRequest(transactional_id, *producer, True))


async def _repeated(client: AIOKafkaClient, node: int, request: Any) -> Any:
    """Send a request until the coordinator has done it."""
    while True:
        answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        if hasattr(answer, "error_code"):
            codes = [answer.error_code]
        else:
            codes = [code for _, parts in answer.errors for _, code in parts]
        failed = [error for code in codes if (error := _error(code)) is not None]
        if not failed:
            return answer
        # CONCURRENT_TRANSACTIONS: markers of the one before are being written.
        if not all(
            error.retriable or error is aiokafka_errors.ConcurrentTransactions
            for error in failed
        ):
            raise failed[0]
        await asyncio.sleep(_RETRY_SECONDS)


def _error(code: int) -> type[aiokafka_errors.KafkaError] | None:
    error: type[aiokafka_errors.KafkaError] = aiokafka_errors.for_code(code)
    return None if error is aiokafka_errors.NoError else error
