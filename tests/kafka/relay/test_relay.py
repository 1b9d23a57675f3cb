"""The relay against a real Kafka: order, refused records, and what it counts."""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiokafka import AIOKafkaProducer  # noqa: TID251 - its arguments

from bridge.events.record import Record, StoredRecord
from bridge.kafka.relay.outage import Outage
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.outbox import Outbox
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
    send_nothing,
    sending,
    settings_for,
)
from tests.kit import reader


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


NOW_US = 1_763_985_600_000_000


@pytest.fixture
def statistics(monkeypatch: pytest.MonkeyPatch) -> RelayStatistics:
    """Statistics at a fixed moment."""
    monkeypatch.setattr(time, "time_ns", lambda: NOW_US * 1000)
    return RelayStatistics()


def _rows(*ages_seconds: float) -> list[StoredRecord]:
    return [
        StoredRecord(
            sequence, f"id-{sequence}", b"k", b"v", NOW_US - int(age * 1e6), ENVELOPE
        )
        for sequence, age in enumerate(ages_seconds, 1)
    ]


@pytest.mark.parametrize(
    ("ages", "resent", "buckets", "seconds"),
    [
        # Records of one read count together, those of others by their own time.
        ([7200, 3, 3, 3, 0.004], 0, {21_600.0: 1, 5.0: 3, 0.005: 1}, 7209.004),
        # A row that a log has lost took its time once; it is published twice.
        ([50, 50, 3], 2, {5.0: 1}, 3),
        # Of a clock that was set back: a record of the future took no time.
        ([-60], 0, {0.001: 1}, 0),
    ],
)
def test_each_record_is_as_old_as_its_reading(
    statistics: RelayStatistics,
    ages: Sequence[float],
    resent: int,
    buckets: dict[float, int],
    seconds: float,
) -> None:
    """It is counted once, by the time from its reading to its acknowledgement."""
    statistics.delivered("jobs", _rows(*ages), resent)
    durations = statistics.delivery_durations["jobs"]
    counts = zip((*durations.bounds, float("inf")), durations.counts, strict=True)
    assert {bound: count for bound, count in counts if count} == buckets
    assert durations.sum == pytest.approx(seconds)
    assert statistics.published == {"jobs": len(ages)}


def test_lag_is_the_longest_of_a_minute(statistics: RelayStatistics) -> None:
    """A late beat shows for a minute of beats, and no longer."""
    assert statistics.lag_seconds == 0
    statistics.beat(1.0, 2.5)
    for second in range(59):
        statistics.beat(2.0 + second, -0.001)
        assert statistics.lag_seconds == 2.5
    statistics.beat(61.0, 0.001)
    assert statistics.lag_seconds == 0.001
    assert statistics.last_beat == 61.0


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture(name="lines")
def _lines() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_an_hour_of_twelve_failing_partitions_is_a_line_a_minute(
    lines: list[MutableMapping[str, Any]],
) -> None:
    """Partitions that fail alike are logged once a minute, and the end."""
    clock = Clock()
    outage = Outage("jobs", None, clock)
    partitions = [("jobs", number) for number in range(12)]
    for _ in range(360):
        for partition in partitions:
            outage.failed("kafka.unavailable", OSError("refused"), partition)
        clock.now += 10
    for partition in partitions:
        outage.worked(partition)
    assert len(lines) == 61
    assert lines[0] == {
        "event": "kafka.unavailable",
        "log_level": "warning",
        "topic": "jobs",
        "partition": 0,
        "error": "OSError: refused",
    }
    assert lines[-1] == {
        "event": "kafka.recovered",
        "log_level": "info",
        "topic": "jobs",
        "after_seconds": 3_600.0,
    }


def test_silence_shows_while_something_waits() -> None:
    """It isn't connected after five seconds without a response."""
    clock, statistics = Clock(), RelayStatistics()
    outage = Outage("jobs", statistics, clock)
    outage.worked()
    clock.now += 3_600
    outage.look()
    assert statistics.connected  # nothing was sent
    outage.sending(("jobs", 0))
    outage.sending(("jobs", 1))
    clock.now += 5
    outage.worked(("jobs", 1))
    clock.now += 5
    outage.look()
    assert statistics.connected  # another partition was answered five seconds ago
    clock.now += 1
    outage.look()
    assert health(statistics) == (False, "TimeoutError: no acknowledgement for 6 s")
    assert statistics.ever_connected
    outage.worked(("jobs", 0))
    assert health(statistics) == (True, None)
    clock.now += 60
    outage.look()
    assert statistics.connected


def health(statistics: RelayStatistics) -> tuple[bool, str | None]:
    """What health shows of Kafka."""
    return statistics.connected, statistics.last_error
