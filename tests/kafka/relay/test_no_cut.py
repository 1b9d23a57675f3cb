"""Logs that look as if they had lost something, and haven't."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
import trio

from bridge.outbox.partitioner import partitioner
from tests.conftest import Topic
from tests.kafka.relay.faults import Forgery, forge_answers
from tests.kafka.relay.relaying import (
    Rig,
    alter,
    delete_until,
    feed,
    numbers_of,
    read_back,
    send_nothing,
    sending,
    settings_for,
    speed_up_cleaner,
    until,
    write_foreign,
)
from tests.kit import reader
from tests.kit.broker import KafkaBroker


@contextmanager
def nothing_is_called_lost() -> Iterator[list[str]]:
    """Give the events that are logged; no log may be called truncated."""
    events: list[str] = []
    with structlog.testing.capture_logs() as lines:
        yield events
    events += [line["event"] for line in lines]
    assert "partition.log_truncated" not in events


async def looked_again(
    running: Rig, topic: Topic, monkeypatch: pytest.MonkeyPatch, numbers: range
) -> None:
    """Let each partition's next batch fail, so that the log is read; send events."""
    for partition in range(topic.partitions):
        forge_answers(
            monkeypatch, Forgery(topic.name, partition, 45, times=1, appended=False)
        )
    sent, failed = running.sent(topic.name), running.relay.statistics.producer_recycles
    await feed(running, topic, len(numbers), first=numbers[0])
    await running.all_sent(topic.name, sent + len(numbers))
    assert running.relay.statistics.producer_recycles > failed


def ours(records: Sequence[reader.Record]) -> list[reader.Record]:
    """Those that a bridge wrote; none of them may be marked."""
    found = [one for one in records if "bridge_outbox" in one.headers]
    assert not any("bridge_anomaly" in one.headers for one in found)
    return found


def first_sequences(records: Sequence[reader.Record]) -> dict[int, int]:
    """Each partition's first sequence; what follows must be dense."""
    firsts: dict[int, int] = {}
    last: dict[int, int] = {}
    for one in records:
        sequence = int(one.headers["bridge_sequence"])
        firsts.setdefault(one.partition, sequence)
        assert sequence == last.get(one.partition, sequence - 1) + 1
        last[one.partition] = sequence
    return firsts


def lasts(topic: Topic, numbers: range) -> dict[int, int]:
    """How many of the events went to each partition."""
    where = partitioner(topic.partitions)
    counts = dict.fromkeys(range(topic.partitions), 0)
    for number in numbers:
        counts[where(b"job-%d" % (number % 20))] += 1
    return counts


@pytest.mark.parametrize("share", [0.5, 1.0])
async def test_a_head_that_was_deleted_is_no_cut(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Up to the middle or the very end: what was delivered stays delivered."""
    settings = settings_for(topic)
    with nothing_is_called_lost():
        async with sending(topic, tmp_path, settings=settings) as running:
            running.offer(topic.name, range(120))
            await running.all_sent(topic.name, 120)
            for partition, count in lasts(topic, range(120)).items():
                await trio.to_thread.run_sync(
                    delete_until, topic, partition, int(count * share)
                )
            await looked_again(running, topic, monkeypatch, range(120, 200))
            for partition, count in lasts(topic, range(200)).items():
                await trio.to_thread.run_sync(
                    delete_until, topic, partition, int(count * share)
                )
            await running.drain()
        async with sending(topic, tmp_path, settings=settings) as running:
            await feed(running, topic, 100, first=200)
            await running.all_sent(topic.name, 100)
            assert running.relay.statistics.resumed == {}
    firsts = first_sequences(ours(await read_back(topic)))
    assert firsts == {
        partition: int(count * share) + 1
        for partition, count in lasts(topic, range(200)).items()
    }


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.timeout(90)
async def test_a_topic_recreated_under_a_running_bridge_is_no_cut(
    kafka: KafkaBroker,
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    others: bool,
) -> None:
    """Events flow to the new topic; nothing of the old one is sent again."""
    settings = settings_for(topic, start_timeout_seconds=3.0)
    with nothing_is_called_lost() as events:
        async with sending(topic, tmp_path, settings=settings) as running:
            running.offer(topic.name, range(120))
            await running.all_sent(topic.name, 120)
            await running.nothing_waits()
            await trio.to_thread.run_sync(kafka.delete_topics, topic.name)
            await trio.to_thread.run_sync(
                kafka.create_topic, topic.name, topic.partitions
            )
            for partition in range(topic.partitions) if others else ():
                # Beyond the offsets that the lanes have come to.
                await trio.to_thread.run_sync(write_foreign, topic, partition, 150)
            await feed(running, topic, 80, first=120)
            await running.all_sent(topic.name, 200)
            await looked_again(running, topic, monkeypatch, range(200, 240))
            await until(lambda: running.relay.statistics.partitions == topic.partitions)
            await running.nothing_waits()
            assert running.counted("resent") == {}
            assert running.errors == []
    assert events.count("topic.recreated") >= 1
    records = ours(await read_back(topic))
    assert sorted(numbers_of(records)) == list(range(120, 240))
    assert first_sequences(records) == {
        partition: count + 1 for partition, count in lasts(topic, range(120)).items()
    }


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.timeout(90)
async def test_a_topic_recreated_while_no_bridge_ran_is_no_cut(
    kafka: KafkaBroker,
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    others: bool,
) -> None:
    """Rows that waited go to the new topic; sequences go on where they were."""
    settings = settings_for(topic)
    async with sending(topic, tmp_path, settings=settings) as running:
        running.offer(topic.name, range(120))
        await running.nothing_waits()
        send_nothing(monkeypatch)
        running.offer(topic.name, range(120, 160))
        await running.committed(160)
    monkeypatch.undo()
    await trio.to_thread.run_sync(kafka.delete_topics, topic.name)
    await trio.to_thread.run_sync(kafka.create_topic, topic.name, topic.partitions)
    for partition in range(topic.partitions) if others else ():
        await trio.to_thread.run_sync(write_foreign, topic, partition, 150)
    with nothing_is_called_lost() as events:
        for numbers in (range(160, 200), range(200, 240)):
            async with sending(topic, tmp_path, settings=settings) as running:
                await feed(running, topic, 40, first=numbers[0])
                await running.nothing_waits()
                assert running.counted("resent") == {}
                assert running.relay.statistics.resumed == {}
    assert events.count("topic.recreated") == 1
    records = ours(await read_back(topic))
    assert sorted(numbers_of(records)) == list(range(120, 240))
    assert first_sequences(records) == {
        partition: count + 1 for partition, count in lasts(topic, range(120)).items()
    }


@pytest.mark.timeout(120)
async def test_compaction_is_no_cut(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lane's last record was taken by a later one of the same key."""
    await trio.to_thread.run_sync(speed_up_cleaner, topic)
    alter(
        topic,
        cleanup_policy="compact",
        segment_ms="50",
        min_cleanable_dirty_ratio="0.0",
        max_compaction_lag_ms="100",
    )
    where = partitioner(topic.partitions)
    keys = [b"job-%d" % number for number in range(20)]

    def overwrite() -> None:
        for key in [*keys, *keys]:
            write_foreign(topic, where(key), 1, key=key)

    async def compacted() -> None:
        """Overwrite all our records and wait until nothing of them is left."""
        with trio.fail_after(60):
            while any("ce_id" in one.headers for one in await read_back(topic)):
                await trio.to_thread.run_sync(overwrite)
                await trio.sleep(0.5)

    settings = settings_for(topic)
    with nothing_is_called_lost():
        async with sending(topic, tmp_path, settings=settings) as running:
            await feed(running, topic, 100)
            await running.all_sent(topic.name, 100)
            await compacted()
            await looked_again(running, topic, monkeypatch, range(100, 160))
            await compacted()
            await running.drain()
        async with sending(topic, tmp_path, settings=settings) as running:
            await feed(running, topic, 60, first=160)
            await running.all_sent(topic.name, 60)
            assert running.counted("resent") == {}
            assert running.relay.statistics.resumed == {}
