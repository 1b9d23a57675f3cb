"""Records that the broker refuses for good leave their lane, and nothing else does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import structlog
import trio

from bridge.events.record import Record
from bridge.outbox.partitioner import partitioner
from tests.conftest import Topic
from tests.kafka.relay.faults import Forgery, forge_answers
from tests.kafka.relay.orders import alter
from tests.kafka.relay.relaying import (
    ENVELOPE,
    Rig,
    feed,
    numbers_of,
    opened,
    read_back,
    record,
    rig,
    settings_for,
    until,
)
from tests.kit import reader


def groups(topic: Topic) -> list[list[str]]:
    """The topic and its dead letters, with producers of their own."""
    return [[topic.name], [topic.dead_letter]]


async def gone(running: Rig, count: int) -> None:
    """Wait until so many records are on disk and none of them waits any more."""
    await running.committed(count)
    await until(lambda: running.outbox.statistics.rows == 0)


def check_without(
    records: Sequence[reader.Record],
    expected: Iterable[int],
    refused: Iterable[tuple[int, int]],
) -> None:
    """
    Assert that each event is there once and in order, and what is missing.

    Args:
        records: What stands on the topic.
        expected: The events that must be there.
        refused: Partition and sequence of each hole that there must be.
    """
    assert Counter(numbers_of(records)) == Counter(expected)
    numbers: dict[bytes | None, list[int]] = {}
    for one, number in zip(records, numbers_of(records), strict=True):
        numbers.setdefault(one.key, []).append(number)
    assert all(each == sorted(each) for each in numbers.values())
    holes = set(refused)
    for partition in {one.partition for one in records}:
        found = [
            int(one.headers["bridge_sequence"])
            for one in records
            if one.partition == partition
        ]
        last = max([*found, *(number for place, number in holes if place == partition)])
        assert found == [
            number for number in range(1, last + 1) if (partition, number) not in holes
        ]


def place_of(letter: reader.Record) -> tuple[int, int]:
    """Read from a dead letter which place it leaves empty."""
    headers = letter.headers
    return (
        int(headers["bridge_refused_partition"]),
        int(headers["bridge_refused_sequence"]),
    )


async def test_a_record_that_is_too_large_goes_to_the_dead_letters(
    topic: Topic, tmp_path: Path
) -> None:
    """It leaves a marker of its place; what came before and after arrives in order."""
    alter(topic, max_message_bytes="20000")
    with structlog.testing.capture_logs() as lines:
        async with rig(
            settings_for(topic),
            groups(topic),
            tmp_path,
            dead_letter_topic=topic.dead_letter,
        ) as running:
            await opened(running, topic)
            await feed(running, topic, 200)
            running.offer(topic.name, [200, 201], size_bytes=50_000)
            await feed(running, topic, 200, first=202)
            await gone(running, 402)
            statistics = running.relay.statistics
            assert statistics.refused == {topic.name: 2}
            assert statistics.published[topic.dead_letter] == 2
            assert running.outbox.statistics.quarantined == 0
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
    assert [line["goes_to"] for line in told] == [topic.dead_letter] * 2
    assert {line["size_bytes"] for line in told} == {50_005}
    assert {line["ce_id"].encode() for line in told} == {
        letter.headers["bridge_refused_ce_id"] for letter in letters
    }
    expected = [*range(200), *range(202, 402)]
    check_without(await read_back(topic), expected, map(place_of, letters))


async def test_what_the_dead_letters_refuse_too_goes_to_quarantine(
    topic: Topic, tmp_path: Path
) -> None:
    """Neither topic takes the record: it stays in the file, and both lanes go on."""
    alter(topic, max_message_bytes="20000")
    with structlog.testing.capture_logs() as lines:
        async with rig(
            settings_for(topic),
            groups(topic),
            tmp_path,
            dead_letter_topic=topic.dead_letter,
        ) as running:
            await opened(running, topic)
            await until(lambda: running.relay.statistics.lanes == 4)
            # After the lanes were opened, so that nobody cuts the dead letter.
            alter(topic, topic.dead_letter, max_message_bytes="20000")
            running.offer(topic.name, range(20))
            running.offer(topic.name, [20], size_bytes=50_000)
            running.offer(topic.name, range(21, 100))
            running.offer(topic.dead_letter, range(10))
            await until(lambda: running.outbox.statistics.quarantined == 1)
            running.offer(topic.dead_letter, range(10, 20))
            await gone(running, 120)
            refused = {topic.name: 1, topic.dead_letter: 1}
            await until(lambda: running.relay.statistics.refused == refused)
    told = [line for line in lines if line["event"] == "record.refused"]
    assert [line["goes_to"] for line in told] == [topic.dead_letter, "quarantine"]
    hole = (told[0]["partition"], told[0]["sequence"])
    records = await read_back(topic)
    check_without(records, [*range(20), *range(21, 100)], [hole])
    letters = await read_back(topic, topic.dead_letter)
    assert sorted(numbers_of(letters)) == list(range(20))
    # It lies in the file for good.
    async with rig(settings_for(topic), groups(topic), tmp_path) as running:
        await opened(running, topic)
        assert running.outbox.statistics.quarantined == 1


async def test_a_smaller_limit_of_the_dead_letters_cuts_the_value(
    topic: Topic, tmp_path: Path
) -> None:
    """What is too large for both topics keeps its first part among the dead letters."""
    alter(topic, max_message_bytes="20000")
    alter(topic, topic.dead_letter, max_message_bytes="30000")
    async with rig(
        settings_for(topic),
        groups(topic),
        tmp_path,
        dead_letter_topic=topic.dead_letter,
    ) as running:
        await opened(running, topic)
        await until(lambda: running.relay.statistics.lanes == 4)
        running.offer(topic.name, [1], size_bytes=50_000)
        await gone(running, 1)
        assert running.outbox.statistics.quarantined == 0
    (letter,) = await read_back(topic, topic.dead_letter)
    assert letter.headers["bridge_truncated"] == b"true"
    assert letter.headers["bridge_original_size"] == b"50000"
    assert 20_000 < len(letter.value or b"") < 30_000


async def test_a_refused_record_is_cut_as_the_setting_says(
    topic: Topic, tmp_path: Path
) -> None:
    """`limits.dead_letter_bytes` holds for what the broker refuses as well."""
    alter(topic, max_message_bytes="20000")
    async with rig(
        settings_for(topic),
        groups(topic),
        tmp_path,
        dead_letter_topic=topic.dead_letter,
        max_dead_letter_bytes=3000,
    ) as running:
        running.offer(topic.name, [1], size_bytes=50_000)
        await gone(running, 1)
    (letter,) = await read_back(topic, topic.dead_letter)
    assert letter.value == b"1 ".ljust(3000, b"x")
    assert letter.headers["bridge_original_size"] == b"50000"


async def test_a_refused_record_is_found_by_halving(
    topic: Topic, tmp_path: Path
) -> None:
    """One record with an impossible time in a batch of hundreds is singled out."""
    # Ten years back from now; the others' times are within them. Retention would
    # take rows of that age while the test runs.
    alter(
        topic,
        message_timestamp_before_max_ms=str(10 * 365 * 86_400_000),
        retention_ms="-1",
    )
    good = [
        Record(topic.name, b"job", b"%d" % number, 1_700_000_000_000_000, ENVELOPE)
        for number in range(300)
    ]
    bad = Record(topic.name, b"job", b"200", 1, ENVELOPE)
    # Nobody waits where the broker has answered: the backoff alone would take 40 s.
    settings = settings_for(topic, retry_backoff_seconds=1.0)
    async with rig(
        settings,
        groups(topic),
        tmp_path,
        relay_waits=True,
        dead_letter_topic=topic.dead_letter,
    ) as running:
        running.outbox.offer([*good[:200], bad, *good[201:]])
        await running.committed(300)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            await running.all_sent(topic.name, 100)
            began = trio.current_time()
            await gone(running, 300)
            assert trio.current_time() - began < 20
            # 300 rows are halved at most nine times until one is left.
            assert running.relay.statistics.producer_recycles <= 12
            # The dead letter has the same time, but its topic takes it.
            assert running.relay.statistics.refused == {topic.name: 1}
            running.relay.abort()
    (letter,) = await read_back(topic, topic.dead_letter)
    assert letter.value == b"200"
    assert letter.timestamp == 0
    hole = (partitioner(topic.partitions)(b"job"), 201)
    assert place_of(letter) == hole
    records = await read_back(topic)
    check_without(records, [n for n in range(300) if n != 200], [hole])


async def test_a_record_without_key_on_a_compacted_topic_is_put_aside(
    topic: Topic, tmp_path: Path
) -> None:
    """INVALID_RECORD, which the client doesn't know by itself, is a refusal."""
    alter(topic, cleanup_policy="compact")
    keyless = Record(topic.name, None, b"10 ", time.time_ns() // 1000, ENVELOPE)
    async with rig(
        settings_for(topic),
        groups(topic),
        tmp_path,
        dead_letter_topic=topic.dead_letter,
    ) as running:
        await opened(running, topic)
        running.offer(topic.name, range(10))
        running.outbox.offer([keyless])
        running.offer(topic.name, range(11, 60))
        await gone(running, 60)
        assert running.relay.statistics.refused == {topic.name: 1}
    (letter,) = await read_back(topic, topic.dead_letter)
    assert letter.key is None
    expected = [*range(10), *range(11, 60)]
    check_without(await read_back(topic), expected, [place_of(letter)])


async def test_a_batch_that_was_damaged_on_its_way_is_sent_again(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CORRUPT_MESSAGE once says nothing of the record: nothing is put aside."""
    forgery = Forgery(topic.name, 1, 2, times=1, appended=False)
    async with rig(
        settings_for(topic),
        groups(topic),
        tmp_path,
        dead_letter_topic=topic.dead_letter,
    ) as running:
        await opened(running, topic)
        await feed(running, topic, 100)
        forge_answers(monkeypatch, forgery)
        await feed(running, topic, 500, first=100)
        await running.all_sent(topic.name, 600)
        assert forgery.forged == 1
        assert running.relay.statistics.refused == {}
    check_without(await read_back(topic), range(600), [])


async def test_a_record_that_is_refused_but_in_the_log_is_not_put_aside(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is the truth, whatever the broker answered twice for one record."""
    where = partitioner(topic.partitions)(b"job-1")
    forge_answers(monkeypatch, Forgery(topic.name, where, 10, times=2, appended=True))
    async with rig(
        settings_for(topic),
        groups(topic),
        tmp_path,
        dead_letter_topic=topic.dead_letter,
    ) as running:
        await opened(running, topic)
        running.outbox.offer([record(topic.name, 1)])
        await running.all_sent(topic.name, 1)
        running.outbox.offer([record(topic.name, 21)])
        await running.all_sent(topic.name, 2)
        assert running.relay.statistics.resumed == {topic.name: 2}
        assert running.relay.statistics.refused == {}
    check_without(await read_back(topic), [1, 21], [])


async def test_a_fault_of_the_broker_itself_is_no_refusal(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UNKNOWN_SERVER_ERROR is tried again until it has passed; no record is blamed."""
    forgery = Forgery(topic.name, 1, -1, times=4, appended=False)
    with structlog.testing.capture_logs() as lines:
        async with rig(
            settings_for(topic),
            groups(topic),
            tmp_path,
            dead_letter_topic=topic.dead_letter,
        ) as running:
            await opened(running, topic)
            await feed(running, topic, 100)
            forge_answers(monkeypatch, forgery)
            await feed(running, topic, 300, first=100)
            await running.all_sent(topic.name, 400)
            assert forgery.forged == 4
            assert running.relay.statistics.refused == {}
    assert len([line for line in lines if line["event"] == "lane.failed"]) == 1
    check_without(await read_back(topic), range(400), [])
