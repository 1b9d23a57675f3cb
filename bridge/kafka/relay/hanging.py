"""
Transactions of this outbox that hang: ended as their coordinator has it, and open in
a log still.

A coordinator may take a transaction for ended though the markers of its end were
never written. Kafka 4.1 and later do so when the leaders of its partitions are away
at that moment, as when all brokers start again (KAFKA-20734; with 4.3.1 one in eight
kills of a single broker under load). No timeout ends such a transaction, and no
`read_committed` consumer gets past it.

Whoever has its transactional id can end it, since the marker of a later transaction
ends all that its producer id has open in a partition. It is committed, whatever was
decided of it: a log that is held can't be read to its end, so that nothing of it was
sent again, and some of its rows may be acknowledged. Those that aren't are found in
the log then, as rows are whose answer was lost.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Collection

import structlog

from bridge.errors import KafkaUnreachableError
from bridge.kafka.headers import own_identity
from bridge.kafka.producer.answers import ClientError
from bridge.kafka.producer.producer import Producer
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.log import Bounds, Log, open_log


__all__ = ["end_hanging"]

_log = structlog.get_logger("bridge.kafka")


async def end_hanging(
    group: Group, topic: str, producers: Collection[Producer]
) -> None:
    """
    End this outbox's transactions that hang in a topic, if there are any.

    Args:
        group: What the topic's lanes share.
        topic: The topic.
        producers: One for each transactional id of theirs, just initialised: after
            that none of their transactions is open rightly.

    Raises:
        BridgeError: As `open_log` says, or one can't be ended now.
    """
    async with open_log(group.settings, topic) as log:
        offsets = await _hanging(log, group.outbox.id)
    if not offsets:
        return
    _log.warning("transaction.hangs", topic=topic, offsets=offsets)
    try:
        async with asyncio.timeout(group.settings.transaction_timeout_seconds):
            for producer in producers:
                await producer.commit_empty(topic, offsets)
    except (ClientError, TimeoutError) as error:
        raise KafkaUnreachableError(
            f"a transaction that hangs in {topic} can't be ended: {error!r}; the bridge"
            " tries again"
        ) from error


async def _hanging(log: Log, outbox_id: str) -> dict[int, int]:
    """Give the offsets of an outbox's records that open transactions begin with."""
    held = await log.held()
    firsts = {number: Bounds(offset, offset + 1) for number, offset in held.items()}
    own = outbox_id.encode()
    return {
        number: held[number]
        async for number, records in log.records(held, firsts, aborted=True)
        for record in records
        if record.offset == held[number] and own_identity(record.headers, own)
    }
