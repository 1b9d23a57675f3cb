"""Records that the broker refuses for good leave their partition, and no others do."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridge.events.record import Record
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DELIVERIES,
    ENVELOPE,
    Delivery,
    Rig,
    alter,
    check_topic,
    feed,
    numbers_of,
    opened,
    read_back,
    rig,
    settings_for,
)
from tests.kit import reader


def run(topic: Topic, folder: Path, **options: Any) -> AbstractAsyncContextManager[Rig]:
    """Run a relay with dead letters."""
    settings = options.pop("settings", settings_for(topic))
    topics = [topic.name, topic.dead_letter]
    return rig(settings, topics, folder, dead_letter_topic=topic.dead_letter, **options)


async def gone(running: Rig, count: int) -> None:
    """Wait until so many records are on disk and none of them waits any more."""
    await running.committed(count)
    await running.nothing_waits()


def place_of(letter: reader.Record) -> tuple[int, int]:
    """Read from a dead letter which place it leaves empty."""
    headers = letter.headers
    return (
        int(headers["bridge_refused_partition"]),
        int(headers["bridge_refused_sequence"]),
    )


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_a_record_that_is_too_large_goes_to_the_dead_letters(
    topic: Topic, tmp_path: Path, delivery: Delivery
) -> None:
    """It leaves a marker of its place; what came before and after arrives in order."""
    alter(topic, max_message_bytes="20000")
    with structlog.testing.capture_logs() as lines:
        async with run(topic, tmp_path, delivery=delivery) as running:
            await opened(running)
            await feed(running, topic, 200)
            running.offer(topic.name, [200, 201], size_bytes=50_000)
            await feed(running, topic, 200, first=202)
            await gone(running, 402)
            statistics = running.relay.statistics
            assert running.counted("refused") == {topic.name: 2}
            assert statistics.published[topic.dead_letter] == 2
            assert running.outbox.statistics.unsendable == 0
            counts = running.outbox.statistics.topics[topic.name]
            assert (counts.acknowledged, counts.refused) == (400, 2)
    letters = await read_back(topic, topic.dead_letter)
    assert numbers_of(letters) == [200, 201]
    for letter, number in zip(letters, (200, 201), strict=True):
        headers = letter.headers
        assert letter.key == b"job-%d" % (number % 20)
        assert len(letter.value or b"") == 50_000
        assert headers["bridge_reason"] == b"refused_by_broker"
        assert headers["bridge_refused_topic"] == topic.name.encode()
        assert headers["bridge_refused_ce_id"] != headers["ce_id"]
        assert b"MessageSizeTooLarge" in headers["__connect.errors.exception.message"]
    told = [line for line in lines if line["event"] == "record.refused"]
    assert [line["destination"] for line in told] == [topic.dead_letter] * 2
    assert {line["size_bytes"] for line in told} == {50_005}
    assert {line["ce_id"].encode() for line in told} == {
        letter.headers["bridge_refused_ce_id"] for letter in letters
    }
    expected = [*range(200), *range(202, 402)]
    check_topic(await read_back(topic), expected, map(place_of, letters))


async def test_a_smaller_limit_of_the_dead_letters_cuts_the_value(
    topic: Topic, tmp_path: Path
) -> None:
    """What is too large for both topics keeps its first part among the dead letters."""
    alter(topic, max_message_bytes="20000")
    alter(topic, topic.dead_letter, max_message_bytes="30000")
    async with run(topic, tmp_path) as running:
        await opened(running, 4)
        running.offer(topic.name, [1], size_bytes=50_000)
        await gone(running, 1)
        assert running.outbox.statistics.unsendable == 0
    (letter,) = await read_back(topic, topic.dead_letter)
    assert letter.headers["bridge_truncated"] == b"true"
    assert letter.headers["bridge_original_size"] == b"50000"
    assert 20_000 < len(letter.value or b"") < 30_000


async def test_a_record_without_key_on_a_compacted_topic_is_put_aside(
    topic: Topic, tmp_path: Path
) -> None:
    """INVALID_RECORD, which the client doesn't know by itself, is a refusal."""
    alter(topic, cleanup_policy="compact")
    keyless = Record(topic.name, None, b"10 ", time.time_ns() // 1000, ENVELOPE)
    async with run(topic, tmp_path) as running:
        await opened(running)
        running.offer(topic.name, range(10))
        running.outbox.offer([keyless])
        running.offer(topic.name, range(11, 60))
        await gone(running, 60)
        assert running.counted("refused") == {topic.name: 1}
    (letter,) = await read_back(topic, topic.dead_letter)
    assert letter.key is None
    expected = [*range(10), *range(11, 60)]
    check_topic(await read_back(topic), expected, [place_of(letter)])
