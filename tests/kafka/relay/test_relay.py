"""The relay against a real Kafka, in both modes: everything arrives once, in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer  # noqa: TID251 - its arguments

from bridge.outbox import Outbox
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    check_topic,
    opened,
    read_back,
    rig,
    send_nothing,
    sending,
    settings_for,
)


async def test_topics_are_sent_side_by_side_also_those_of_earlier_settings(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows for a topic that isn't set any more go where they were meant to."""
    topics = [topic.name, topic.dead_letter]
    async with rig(settings_for(topic), topics, tmp_path) as running:
        await opened(running, 4)
        running.offer(topic.name, range(10))
        running.offer(topic.dead_letter, range(5))
        await running.nothing_waits()
        send_nothing(monkeypatch)
        running.offer(topic.dead_letter, range(5, 12))
        await running.committed(22)
    monkeypatch.undo()
    async with rig(settings_for(topic), [topic.name], tmp_path) as running:
        await running.all_sent(topic.dead_letter, 7)
    check_topic(await read_back(topic), range(10))
    check_topic(await read_back(topic, topic.dead_letter), range(12))


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_each_codec_is_used_and_read_back(
    topic: Topic, tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client reads every record, and so does the next start of the bridge."""
    asked: list[object] = []
    make = AIOKafkaProducer.__init__

    def made(producer: AIOKafkaProducer, **options: object) -> None:
        asked.append(options["compression_type"])
        make(producer, **options)

    monkeypatch.setattr(AIOKafkaProducer, "__init__", made)
    settings = settings_for(topic, compression=codec)
    async with sending(topic, tmp_path, settings=settings) as running:
        # A process that dies before it writes down what was acknowledged.
        monkeypatch.setattr(Outbox, "acknowledge", lambda *_: None)
        running.offer(topic.name, range(60), size_bytes=1000)
        await running.all_sent(topic.name, 60)
    monkeypatch.undo()
    async with sending(topic, tmp_path, settings=settings) as running:
        running.offer(topic.name, range(60, 70))
        await running.all_sent(topic.name, 70)
        assert running.relay.statistics.resumed == {topic.name: 60}
    check_topic(await read_back(topic), range(70))
    assert asked == [None if codec == "none" else codec]
