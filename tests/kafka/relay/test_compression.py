"""Compressed batches arrive whole, and what reads them back finds their records."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer  # noqa: TID251 - what it is told
from msgspec import structs

from bridge.outbox import Outbox
from tests.conftest import Topic
from tests.kafka.relay.orders import alter
from tests.kafka.relay.relaying import (
    check_topic,
    numbers_of,
    opened,
    read_back,
    record,
    rig,
    settings_for,
)


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
    settings = settings_for(topic, compression=codec, max_batch_bytes=20_000)
    async with rig(settings, [topic.name], tmp_path) as running:
        await opened(running)
        # A process that dies before it writes down what was acknowledged.
        monkeypatch.setattr(Outbox, "acknowledge", lambda *_: None)
        running.offer(topic.name, range(60), size_bytes=1000)
        await running.all_sent(topic.name, 60)
    monkeypatch.undo()
    async with rig(settings, [topic.name], tmp_path) as running:
        await opened(running)
        running.offer(topic.name, range(60, 70))
        await running.all_sent(topic.name, 70)
        assert running.relay.statistics.resumed == {topic.name: 60}
    check_topic(await read_back(topic), range(70))
    assert asked == [None if codec == "none" else codec]


async def test_a_refused_record_is_found_in_a_compressed_batch(
    topic: Topic, tmp_path: Path
) -> None:
    """A topic's limit is of what comes out of the codec; only what exceeds it goes."""
    alter(topic, max_message_bytes="20000")
    chance = random.Random(1)
    noise = [
        structs.replace(one, value=one.value + chance.randbytes(30_000))
        for one in (record(topic.name, number) for number in (100, 101))
    ]
    async with rig(
        settings_for(topic, compression="zstd"),
        [topic.name, topic.dead_letter],
        tmp_path,
        dead_letter_topic=topic.dead_letter,
    ) as running:
        await opened(running)
        # What compresses well may be larger than the limit.
        running.offer(topic.name, range(100), size_bytes=30_000)
        running.outbox.offer(noise)
        running.offer(topic.name, range(102, 200), size_bytes=100)
        await running.committed(200)
        await running.nothing_waits()
        assert running.counted("refused") == {topic.name: 2}
    assert numbers_of(await read_back(topic, topic.dead_letter)) == [100, 101]
    kept = sorted(numbers_of(await read_back(topic)))
    assert kept == [*range(100), *range(102, 200)]
