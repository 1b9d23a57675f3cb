"""One producer: why it doesn't start, what it sends, how it ends."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.events.record import StoredRecord
from bridge.kafka.answers import ClientError
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.producer import Producer
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.relay.relaying import ENVELOPE, settings_for
from tests.kit.producers import unclosed_producers


def rows(count: int, size_bytes: int = 10) -> list[StoredRecord]:
    """Rows of one partition."""
    value = b"x" * size_bytes
    return [
        StoredRecord(number, f"id-{number}", b"key", value, 0, ENVELOPE)
        for number in range(1, count + 1)
    ]


def make(settings: KafkaSettings) -> Producer:
    """A producer that hasn't been started."""
    return Producer(settings, HeaderWriter("outbox"))


def use(topic: Topic, work: Callable[[Producer], Awaitable[None]]) -> None:
    """Do something with a producer that has started."""

    async def run() -> None:
        producer = make(settings_for(topic))
        await producer.start()
        try:
            await work(producer)
        finally:
            await producer.close()
        await producer.close()

    asyncio.run(run())
    assert unclosed_producers() == []


def test_sends_what_fits_one_batch(topic: Topic) -> None:
    """The limit ends a batch, prefixes included; a first record goes in any case."""

    async def send(producer: Producer) -> None:
        sent = await producer.send(topic.name, 0, rows(10, 100), 350)
        assert (len(sent.rows), sent.size_bytes) == (3, 3 * 103)
        assert await producer.base_offset(sent) == 0
        sent = await producer.send(topic.name, 0, rows(2, 1_000), 350)
        assert len(sent.rows) == 1
        assert await producer.base_offset(sent) == 3
        limit = 3 * 103 + 2 * 5
        sent = await producer.send(topic.name, 0, rows(10, 100), limit, prefix=b"12345")
        assert len(sent.rows) == 2
        assert await producer.base_offset(sent) == 4
        assert producer.leader(topic.name, 0) is not None

    use(topic, send)


def test_a_partition_that_is_not_there_takes_nothing(topic: Topic) -> None:
    """It is an error like others, where aiokafka fails an assertion."""

    async def send(producer: Producer) -> None:
        with pytest.raises(ClientError, match=f"{topic.name}-7"):
            await producer.send(topic.name, 7, rows(1), 1_000)

    use(topic, send)


def test_a_close_that_is_cancelled_leaves_nothing_open(topic: Topic) -> None:
    """A topic's delivery that ends by itself may be cancelled by another one's."""

    async def close(producer: Producer) -> None:
        closing = asyncio.create_task(producer.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])

    use(topic, close)
