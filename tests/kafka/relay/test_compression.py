"""Compressed batches arrive whole, and everything that reads them back can do so."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest
from aiokafka.record.memory_records import MemoryRecords  # noqa: TID251 - looked into
from msgspec import structs

from bridge.kafka.scan import scan
from bridge.outbox import Outbox
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.reading.test_scanner import Taken
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


# As they stand in a batch: https://kafka.apache.org/documentation/#recordbatch
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

_COUNT = 300


@pytest.fixture
def codecs(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count the batches that a consumer meets, by their codec."""
    seen: Counter[int] = Counter()

    class Watched:
        def __init__(self, data: bytes) -> None:
            self._records = MemoryRecords(data)

        def has_next(self) -> bool:
            return bool(self._records.has_next())

        def size_in_bytes(self) -> int:
            return int(self._records.size_in_bytes())

        def next_batch(self) -> Any:
            batch = self._records.next_batch()
            # A transaction's markers are the broker's.
            if not batch.is_control_batch:
                seen[batch.compression_type] += 1
            return batch

    monkeypatch.setattr("aiokafka.consumer.fetcher.MemoryRecords", Watched)
    return seen


async def _scanned(settings: KafkaSettings, topic: Topic, codecs: Counter[int]) -> int:
    """Count the records that a scan finds, and their batches alone."""
    codecs.clear()
    taken = Taken()
    await scan(settings, topic.name, taken.begin)
    return sum(map(len, taken.offsets.values()))


@pytest.mark.parametrize(
    ("codec", "delivery"),
    [
        *((codec, "idempotent") for codec in CODECS),
        ("lz4", "transactional"),
        ("zstd", "transactional"),
    ],
)
async def test_each_codec_is_used_and_read_back(
    topic: Topic,
    tmp_path: Path,
    codecs: Counter[int],
    *,
    codec: str,
    delivery: Literal["idempotent", "transactional"],
) -> None:
    """Each batch is compressed as set; another client reads every record of it."""
    settings = settings_for(topic, compression=codec)
    async with rig(settings, [topic.name], tmp_path, delivery=delivery) as running:
        await opened(running)
        running.offer(topic.name, range(_COUNT), size_bytes=1000)
        await running.all_sent(topic.name, _COUNT)
    records = await read_back(topic)
    check_topic(records, range(_COUNT))
    assert {len(one.value or b"") for one in records} == {1000}
    assert await _scanned(settings, topic, codecs) == _COUNT
    assert set(codecs) == {CODECS[codec]}


async def test_a_batch_is_bounded_before_it_is_compressed(
    topic: Topic, tmp_path: Path, codecs: Counter[int]
) -> None:
    """Readers unpack no more than `kafka.max_batch_bytes`, however small it was."""
    settings = settings_for(topic, compression="zstd", max_batch_bytes=20_000)
    async with rig(settings, [topic.name], tmp_path) as running:
        await opened(running)
        running.offer(topic.name, range(_COUNT), size_bytes=1000)
        await running.all_sent(topic.name, _COUNT)
    check_topic(await read_back(topic), range(_COUNT))
    assert await _scanned(settings, topic, codecs) == _COUNT
    assert codecs[CODECS["zstd"]] >= _COUNT * 1000 / 20_000


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_start_finds_what_stands_in_compressed_batches(
    topic: Topic, tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that died before it heard of its batches sends none of them again."""
    settings = settings_for(topic, compression=codec)
    async with rig(settings, [topic.name], tmp_path) as running:
        await opened(running)
        monkeypatch.setattr(Outbox, "acknowledge", lambda *_: None)
        running.offer(topic.name, range(60), size_bytes=500)
        await running.all_sent(topic.name, 60)
    monkeypatch.undo()
    async with rig(settings, [topic.name], tmp_path) as running:
        running.offer(topic.name, range(60, 70))
        await running.all_sent(topic.name, 70)
        assert running.relay.statistics.resumed == {topic.name: 60}
        assert running.relay.statistics.published == {topic.name: 10}
    check_topic(await read_back(topic), range(70))


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
        assert running.relay.statistics.refused == {topic.name: 2}
    assert numbers_of(await read_back(topic, topic.dead_letter)) == [100, 101]
    kept = sorted(numbers_of(await read_back(topic)))
    assert kept == [*range(100), *range(102, 200)]
