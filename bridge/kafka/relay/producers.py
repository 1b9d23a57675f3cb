"""
The producer that a group of lanes shares, and its replacement.

A lane that failed gives its producer up; the other lanes finish what they have
on their way with it and take the new one for their next batch.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections import Counter
from types import TracebackType

from bridge.kafka.headers import HeaderWriter
from bridge.kafka.producer.ending import end_all
from bridge.kafka.producer.producer import Producer
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.settings import KafkaSettings


__all__ = ["Producers"]


class Producers:
    """
    Lends the current producer, makes it where there is none.

    Args:
        settings: How to reach Kafka.
        writer: Writes the headers.
        statistics: Where recycles are counted.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        writer: HeaderWriter,
        statistics: RelayStatistics,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._statistics = statistics
        self._making = asyncio.Lock()
        self._current: Producer | None = None
        self._users: Counter[Producer] = Counter()

    def lend(self) -> Loan:
        """
        Lend the current producer for one batch, from its making to its end.

        Entering raises `KafkaUnreachableError` if a new one is needed and can't be
        made now, and `KafkaRefusedError` if a new one is refused.
        """
        return Loan(self)

    async def take(self) -> Producer:
        """Give the current producer, of which there is another user now."""
        producer = self._current
        if producer is None or producer.broken:
            producer = await self._make()
        self._users[producer] += 1
        return producer

    async def give_back(self, producer: Producer) -> None:
        """Let a producer have one user less."""
        self._users[producer] -= 1
        if producer is not self._current and not self._users[producer]:
            await self._end(producer)

    def give_up(self, producer: Producer) -> None:
        """Let nobody have this producer any more; its last user ends it."""
        if producer is self._current:
            self._current = None
            self._statistics.producer_recycles += 1

    async def close(self) -> None:
        """End all producers; batches on their way fail."""
        producers = {*self._users, self._current}
        self._current = None
        self._users.clear()
        await end_all(producer.close() for producer in producers if producer)

    async def _make(self) -> Producer:
        async with self._making:
            current = self._current
            if current is not None and current.broken:
                self.give_up(current)
                if not self._users[current]:
                    await self._end(current)
            if self._current is None:
                producer = Producer(self._settings, self._writer)
                await producer.start()
                self._current = producer
            return self._current

    async def _end(self, producer: Producer) -> None:
        self._users.pop(producer, None)
        await producer.close()


class Loan:
    """
    What `Producers.lend` gives; every batch needs one, and a generator costs more.

    Args:
        producers: Who lends.
    """

    __slots__ = ("_producer", "_producers")

    _producer: Producer

    def __init__(self, producers: Producers) -> None:
        self._producers = producers

    async def __aenter__(self) -> Producer:
        self._producer = await self._producers.take()
        return self._producer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._producers.give_back(self._producer)
