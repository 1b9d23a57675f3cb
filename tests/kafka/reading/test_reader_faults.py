"""The reader on brokers, topics and clients that go away, on a real Kafka."""

from __future__ import annotations

import uuid

import pytest
import trio

from bridge.errors import KafkaRefusedError
from bridge.kafka import reader
from bridge.kafka.reader import TopicReader
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.reading.readers import (
    DEADLINE_SECONDS,
    numbers,
    produce,
    read,
    settings_of,
)
from tests.kit.broker import KafkaBroker
from tests.kit.kafka import KafkaServer


pytestmark = pytest.mark.usefixtures("no_thread_is_left")


async def test_goes_on_after_a_broker_restart(
    topic: Topic, own_kafka: KafkaServer
) -> None:
    """The reader says that the broker is silent, and reads on when it is back."""
    async with TopicReader(settings_of(topic), [topic.name]) as source:
        await trio.to_thread.run_sync(lambda: produce(topic, 3))
        await read(source, 3)
        await trio.to_thread.run_sync(own_kafka.stop)
        with trio.fail_after(DEADLINE_SECONDS):
            while source.silent_since_seconds is None:
                assert await source.receive_run() == []
        await trio.to_thread.run_sync(own_kafka.start)
        await trio.to_thread.run_sync(lambda: produce(topic, 3, first=10))
        assert numbers(await read(source, 3)) == [10, 11, 12]
        assert source.silent_since_seconds is None


async def test_a_reader_is_used_inside_its_block_alone() -> None:
    """Asking a reader that was never opened is a mistake that is told."""
    with pytest.raises(RuntimeError, match="async with"):
        await TopicReader(KafkaSettings(), ["jobs"]).receive_run()


async def test_a_topic_that_goes_away_is_an_error(
    topic: Topic, kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic deleted while it is read ends the reading with a sentence."""
    monkeypatch.setattr(reader, "METADATA_AGE_SECONDS", 0.3)
    monkeypatch.setattr(reader, "TOPIC_GONE_SECONDS", 1.0)
    name = f"gone-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(name)
    async with TopicReader(settings_of(topic), [name]) as source:
        await trio.to_thread.run_sync(lambda: kafka.delete_topics(name))
        with (
            trio.fail_after(DEADLINE_SECONDS),
            pytest.raises(KafkaRefusedError, match=name),
        ):
            await read(source, 1)


async def test_goes_on_in_a_log_that_became_shorter(
    topic: Topic, kafka: KafkaBroker
) -> None:
    """A position behind the end goes to the end, one before the log to its begin."""
    produce(topic, 30)
    async with TopicReader(settings_of(topic), [topic.name]) as source:

        def replace() -> None:
            kafka.delete_topics(topic.name)
            kafka.create_topic(topic.name, topic.partitions)

        await trio.to_thread.run_sync(replace)
        with trio.fail_after(DEADLINE_SECONDS):
            while any(source.positions.values()):
                await source.receive_run()
        await trio.to_thread.run_sync(lambda: produce(topic, 3, first=50))
        assert numbers(await read(source, 3)) == [50, 51, 52]
