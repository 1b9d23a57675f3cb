"""
Transactions of this outbox that hang: ended for their coordinator, open in a log still.

A coordinator may take a transaction for ended though the markers of its end were never
written. Kafka 4.1 and later do so when the leaders of its partitions are away at that
moment, as when all brokers restart (KAFKA-20734; with 4.3.1 up to one in eight kills of
a lone broker under load). No timeout ends such a transaction, and no `read_committed`
consumer gets past it.

The marker of a later transaction ends all that its producer id has open in a partition:
an empty one with the same transactional id. It is committed, whatever was decided of
the other: a log that is held can't be read to its end, so nothing of it was sent again,
and some of its rows may be acknowledged.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the Kafka thread runs asyncio
from collections import Counter
from collections.abc import Sequence

import structlog

from bridge.errors import ConfigError, KafkaError, KafkaUnreachableError
from bridge.kafka.answers import ClientError
from bridge.kafka.headers import own_identity
from bridge.kafka.log import Bounds, open_log
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.partition import EpochEndedError
from bridge.kafka.requests import commit_empty


__all__ = ["HangingTransactions"]

_log = structlog.get_logger("bridge.kafka")

# How often open transactions are looked for; a reader of committed records waits for up
# to two looks.
LOOK_SECONDS = 10.0

# What stays after as many tries is foreign: the ids were others when it was written
# (`kafka.client_id`), or the broker has forgotten them after a week without use.
_TRIES = 5

# Partition, and the offset where a transaction begins.
_Place = tuple[int, int]


class HangingTransactions:
    """
    Finds and ends what a topic's transactions have left open.

    Args:
        group: The topic's delivery.
        ids: Its transactional ids.
    """

    def __init__(self, group: Group, ids: Sequence[str]) -> None:
        self._group = group
        self._ids = ids
        self._tries: Counter[_Place] = Counter()
        self._held: set[_Place] = set()
        self._look_at = 0.0

    @property
    def due_seconds(self) -> float:
        """How long it is until the next look."""
        return max(self._look_at - asyncio.get_running_loop().time(), 0.0)

    async def look(self) -> None:
        """
        Look for what hangs, if it is time for that; no transaction of ours is open.

        Raises:
            EpochEndedError: Something does: the next epoch ends it.
        """
        if self.due_seconds > 0:
            return
        self._look_at = asyncio.get_running_loop().time() + LOOK_SECONDS
        before, self._held = self._held, set()
        try:
            async with open_log(self._group.settings, self._group.topic) as log:
                self._held = set((await log.held()).items())
            # A marker is written within milliseconds of its commit.
            hangs = self._held & before and await self._ours()
        except (ConfigError, KafkaError) as error:
            # Whether that ends the epoch, sending finds out.
            _log.debug("transactions.not_seen", error=repr(error))
            return
        if hangs:
            raise EpochEndedError("a transaction of this bridge hangs")

    async def end(self) -> bool:
        """
        End what hangs, if anything does.

        To be called when the ids were just initialized: then no transaction of theirs
        is open rightly. Where something is ended they have to be initialized again.

        Returns:
            Whether something was ended.

        Raises:
            BridgeError: As `open_log` says, or one can't be ended now.
        """
        self._look_at = asyncio.get_running_loop().time() + LOOK_SECONDS
        self._held = set()
        topic, settings = self._group.topic, self._group.settings
        offsets = await self._ours()
        if not offsets:
            return False
        _log.warning("transaction.hangs", topic=topic, offsets=offsets)
        timeout_seconds = settings.transaction_timeout_seconds
        try:
            async with (
                open_log(settings, topic) as log,
                asyncio.timeout(timeout_seconds),
            ):
                for name in self._ids:
                    await commit_empty(
                        log.client, name, int(timeout_seconds * 1000), topic, offsets
                    )
        except (ClientError, TimeoutError) as error:
            raise KafkaUnreachableError(
                f"a transaction that hangs in {topic} can't be ended: {error!r}; the"
                " bridge tries again"
            ) from error
        self._tries.update(offsets.items())
        return True

    async def _ours(self) -> dict[int, int]:
        """
        Return where transactions of this outbox begin that hold the topic.

        Where no record is left, nothing says whose it is: it may be ours.
        """
        own = self._group.outbox.id.encode()
        async with open_log(self._group.settings, self._group.topic) as log:
            held = {
                partition: offset
                for partition, offset in (await log.held()).items()
                if self._tries[partition, offset] < _TRIES
            }
            ends = {one: Bounds(offset, offset + 1) for one, offset in held.items()}
            async for partition, records in log.records(dict(held), ends, aborted=True):
                for record in records:
                    is_first = record.offset == held.get(partition)
                    if is_first and own_identity(record.headers, own) is None:
                        del held[partition]
        return held
