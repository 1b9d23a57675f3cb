"""
Transactions of this outbox that hang: ended as their coordinator has it, and open in
a log still.

A coordinator may take a transaction for ended though the markers of its end were
never written. Kafka 4.1 and later do so when the leaders of its partitions are away
at that moment, as when all brokers start again (KAFKA-20734; with 4.3.1 up to one in
eight kills of a lone broker under load). No timeout ends such a transaction, and no
`read_committed` consumer gets past it.

Whoever has its transactional id can end it, since the marker of a later transaction
ends all that its producer id has open in a partition. It is committed, whatever was
decided of it: a log that is held can't be read to its end, so that nothing of it was
sent again, and some of its rows may be acknowledged. Those that aren't are found in
the log then, as rows are whose answer was lost. If it is aborted all the same, by the
end of another transaction with its id, the log shows that: see `cut`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections import Counter
from collections.abc import Collection

import structlog

from bridge.errors import KafkaUnreachableError
from bridge.kafka.headers import own_identity
from bridge.kafka.log import Bounds, open_log
from bridge.kafka.producer.answers import ClientError
from bridge.kafka.producer.producer import Producer
from bridge.kafka.relay.group import Group


__all__ = ["HangingTransactions"]

_log = structlog.get_logger("bridge.kafka")

# How often it is looked for transactions that stay open. Two questions to each leader
# take a millisecond; whoever waits for a committed record waits for up to two looks.
LOOK_SECONDS = 10.0

# A leader that takes longer is asked again at the next look: transactions wait for it.
_ANSWER_SECONDS = 1.0

# What stays after as many tries is another's: the ids were others when it was written
# (`kafka.client_id`), or the broker has forgotten them for a week without use.
TRIES = 5

# Topic, partition, and the offset where a transaction begins.
_Place = tuple[str, int, int]


class HangingTransactions:
    """
    Finds and ends what a group's transactions have left open.

    Args:
        group: What the lanes share.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._tries: Counter[_Place] = Counter()
        self._held: set[_Place] = set()
        self._look_at = 0.0

    @property
    def due_seconds(self) -> float:
        """How long it is until the next look."""
        return max(self._look_at - asyncio.get_running_loop().time(), 0.0)

    async def look(self, producer: Producer) -> None:
        """
        Look for what hangs, if it is time for that; none of ours may be open rightly.

        Args:
            producer: Which asks.

        Raises:
            BridgeError: Something does; or Kafka can't be read, as `open_log` says.
        """
        if self.due_seconds > 0:
            return
        before = self._held
        self._looked()
        for topic in self._group.topics:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    held = await producer.held(topic)
            except (ClientError, TimeoutError):
                # Whoever sends tells of it.
                continue
            places = {(topic, *place) for place in held.items()}
            self._held |= places
            # A marker is written within milliseconds of its commit.
            if places & before and (offsets := await self._ours(topic)):
                raise KafkaUnreachableError(
                    f"a transaction of this bridge hangs in {topic}, and is ended: its"
                    " first offset by partition is"
                    f" {', '.join(f'{key}: {value}' for key, value in offsets.items())}"
                )

    async def end(self, producers: Collection[Producer]) -> None:
        """
        End what hangs, if anything does.

        Args:
            producers: One for each transactional id, just initialised: after that none
                of their transactions is open rightly.

        Raises:
            BridgeError: As `open_log` says, or one can't be ended now.
        """
        self._looked()
        for topic in self._group.topics:
            if offsets := await self._ours(topic):
                _log.warning("transaction.hangs", topic=topic, offsets=offsets)
                await self._end(topic, offsets, producers)

    def _looked(self) -> None:
        self._look_at = asyncio.get_running_loop().time() + LOOK_SECONDS
        self._held = set()

    async def _end(
        self, topic: str, offsets: dict[int, int], producers: Collection[Producer]
    ) -> None:
        try:
            async with asyncio.timeout(
                self._group.settings.transaction_timeout_seconds
            ):
                for producer in producers:
                    await producer.commit_empty(topic, offsets)
        except (ClientError, TimeoutError) as error:
            raise KafkaUnreachableError(
                f"a transaction that hangs in {topic} can't be ended: {error!r}; the"
                " bridge tries again"
            ) from error
        self._tries.update((topic, *place) for place in offsets.items())

    async def _ours(self, topic: str) -> dict[int, int]:
        """
        Give where transactions of this outbox begin that hold a topic, by partition.

        Where no record is left, nobody can tell whose it is: it may be ours.
        """
        own = self._group.outbox.id.encode()
        async with open_log(self._group.settings, topic) as log:
            held = {
                partition: offset
                for partition, offset in (await log.held()).items()
                if self._tries[topic, partition, offset] < TRIES
            }
            ends = {key: Bounds(offset, offset + 1) for key, offset in held.items()}
            async for partition, records in log.records(dict(held), ends, aborted=True):
                for record in records:
                    is_first = record.offset == held.get(partition)
                    if is_first and own_identity(record.headers, own) is None:
                        del held[partition]
        return held
