"""What commands read needs one right, no group, and says which is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from confluent_kafka.admin import AclOperation, ResourceType

from bridge.errors import KafkaRefusedError
from bridge.kafka.reader import Edge, TopicReader
from bridge.kafka.scan import ScannedRecord, scan
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.reading.readers import produce, read
from tests.kafka.security.test_signing_in import topic_of
from tests.kit.guest import Guest, Right
from tests.kit.secure_kafka import SecureKafka


_COUNT = 20


async def by_reader(settings: KafkaSettings, topic: Topic) -> int:
    """Read as `bridge tail` and `bridge dlq` do."""
    async with TopicReader(settings, [topic.name], start=Edge.BEGINNING) as source:
        return len(await read(source, _COUNT))


async def by_scan(settings: KafkaSettings, topic: Topic) -> int:
    """Read as `bridge verify` does."""
    count = 0

    def take(_number: int, records: Sequence[ScannedRecord], _gone: int) -> None:
        nonlocal count
        count += len(records)

    await scan(settings, topic.name, lambda *_: take)
    return count


Way = Callable[[KafkaSettings, Topic], Awaitable[int]]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("way", [by_reader, by_scan])
async def test_reading_needs_one_right_and_no_group(
    secure: SecureKafka, way: Way
) -> None:
    """Without any the topic can't be seen, with Describe not read; Read is enough."""
    guest = await trio.to_thread.run_sync(Guest, secure)
    topic = topic_of(secure, 2)
    await trio.to_thread.run_sync(produce, topic, _COUNT)
    settings = KafkaSettings(**guest.settings())  # type: ignore[arg-type]
    steps = (
        (None, "grant the user Read on it"),
        (AclOperation.DESCRIBE, f"Grant the user Read on the topic {topic.name}."),
    )
    for operation, words in steps:
        if operation is not None:
            right = Right(ResourceType.TOPIC, topic.name, operation)
            await trio.to_thread.run_sync(guest.allow, right)
        with pytest.raises(KafkaRefusedError) as caught:
            with trio.fail_after(20):
                await way(settings, topic)
        assert words in str(caught.value)
    right = Right(ResourceType.TOPIC, topic.name, AclOperation.READ)
    await trio.to_thread.run_sync(guest.allow, right)
    assert await way(settings, topic) == _COUNT
