"""The relay against a real Kafka: everything arrives once and in order."""

from __future__ import annotations

import asyncio  # noqa: TID251 - a producer of the bridge's runs on it
from pathlib import Path

import trio
from bridge.kafka.producer.producer import Producer

from bridge.events.record import StoredRecord
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.relay.relay import Relay
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    check_topic,
    numbers_of,
    read_back,
    record,
    rig,
    settings_for,
    until,
)


async def test_events_arrive_once_and_in_order(topic: Topic, tmp_path: Path) -> None:
    """Every record is there once, in order per key, with dense sequences."""
    count = 5_000
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        for first in range(0, count, 50):
            running.offer(topic.name, range(first, first + 50))
            await trio.lowlevel.checkpoint()
        await running.all_sent(topic.name, count)
        statistics = running.relay.statistics
        assert statistics.published == {topic.name: count}
        assert statistics.lanes == topic.partitions
        assert statistics.connected
        assert sum(statistics.publish_duration.counts) >= topic.partitions
        await until(lambda: running.outbox.statistics.rows == 0)
        with trio.fail_after(DEADLINE_SECONDS):
            await running.drain()
        assert running.errors == []
    check_topic(await read_back(topic), range(count))


async def test_a_killed_relay_goes_on_where_it_was(
    topic: Topic, tmp_path: Path
) -> None:
    """Relays that end in the midst of their work leave no hole and no duplicate."""
    count = 0
    for kill_at in (1, 400, 900, 1_500):
        async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
            for _ in range(20):
                running.offer(topic.name, range(count, count + 100))
                count += 100
            await until(lambda r=running, k=kill_at: r.sent(topic.name) >= k)
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        await until(lambda: running.outbox.statistics.rows == 0)
        with trio.fail_after(DEADLINE_SECONDS):
            await running.drain()
    check_topic(await read_back(topic), range(count))


async def test_records_that_kafka_has_already_are_not_sent_again(
    topic: Topic, tmp_path: Path
) -> None:
    """Rows whose ce_id stands in the log are acknowledged at their offsets."""
    settings = settings_for(topic)
    async with rig(settings, [[topic.name]], tmp_path) as running:
        running.offer(topic.name, range(30))
        await running.all_sent(topic.name, 30)
        # An acknowledgement that never reaches the disk: a crash between the two.
        running.outbox.acknowledge = lambda *_: None  # type: ignore[method-assign]
        running.offer(topic.name, range(30, 90))
        await running.all_sent(topic.name, 90)
    async with rig(settings, [[topic.name]], tmp_path) as running:
        assert running.outbox.statistics.rows_at_start == 60
        running.offer(topic.name, range(90, 100))
        await running.all_sent(topic.name, 70)
        assert running.relay.statistics.resumed == {topic.name: 60}
        assert running.relay.statistics.published == {topic.name: 10}
    check_topic(await read_back(topic), range(100))


async def test_records_that_somebody_wrote_late_are_found_between_others(
    topic: Topic, tmp_path: Path
) -> None:
    """Rows that stand in the log ahead of their turn are skipped at their turn."""
    settings = settings_for(topic)
    async with rig(settings, [[topic.name]], tmp_path) as running:
        await until(lambda: running.relay.statistics.lanes == topic.partitions)
        running.relay.abort()
        await running.ended.wait()
        # The lanes are open, and nobody sends.
        running.offer(topic.name, range(90))
        await running.committed(90)
        for partition in range(topic.partitions):
            reading = running.outbox.read(topic.name, partition, 0, 100, 2**20)
            rows = await trio.to_thread.run_sync(reading.result)
            await trio.to_thread.run_sync(
                asyncio.run,
                write_late(settings, running.outbox.id, topic, partition, rows[3:6]),
            )
    async with rig(settings, [[topic.name]], tmp_path) as running:
        await running.all_sent(topic.name, 90)
        statistics = running.relay.statistics
        assert statistics.resumed == {topic.name: 3 * topic.partitions}
        await until(lambda: running.outbox.statistics.rows == 0)
    records = await read_back(topic)
    assert sorted(numbers_of(records)) == list(range(90))
    assert len({one.headers["ce_id"] for one in records}) == 90


async def write_late(
    settings: KafkaSettings,
    outbox_id: str,
    topic: Topic,
    partition: int,
    rows: list[StoredRecord],
) -> None:
    """Write rows as a producer that was given up may still do."""
    producer = Producer(settings, HeaderWriter(outbox_id))
    await producer.start()
    try:
        sent = await producer.send(topic.name, partition, rows, 2**20)
        assert sent.count == len(rows)
        await sent.base_offset()
    finally:
        await producer.close()


async def test_groups_of_topics_are_carried_side_by_side(
    topic: Topic, tmp_path: Path
) -> None:
    """Dead letters, with and without a key, go to their topic beside the jobs."""
    groups = [[topic.name], [topic.dead_letter]]
    async with rig(settings_for(topic), groups, tmp_path) as running:
        running.offer(topic.name, range(10))
        letters = [record(topic.dead_letter, number) for number in range(5)]
        running.outbox.offer(letters)
        await running.all_sent(topic.name, 10)
        await running.all_sent(topic.dead_letter, 5)
    check_topic(await read_back(topic), range(10))
    check_topic(await read_back(topic, topic.dead_letter), range(5))


async def test_topics_of_earlier_settings_are_emptied(
    topic: Topic, tmp_path: Path
) -> None:
    """Rows for a topic that isn't set any more still go where they were meant to."""
    async with rig(
        settings_for(topic), [[topic.name]], tmp_path, relay_waits=True
    ) as running:
        running.offer(topic.dead_letter, range(7))
        await running.committed(7)
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        await running.all_sent(topic.dead_letter, 7)
    check_topic(await read_back(topic, topic.dead_letter), range(7))


async def test_drain_waits_for_what_was_committed(topic: Topic, tmp_path: Path) -> None:
    """`run` returns after `drain` only when the last row is acknowledged."""
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        await until(lambda: running.relay.statistics.lanes == topic.partitions)
        running.offer(topic.name, range(2_000))
        await running.committed(2_000)
        with trio.fail_after(DEADLINE_SECONDS):
            await running.drain()
        assert running.sent(topic.name) == 2_000
        assert running.relay.statistics.last_beat == 0.0


async def test_drain_and_abort_work_before_the_loop_runs(
    topic: Topic, tmp_path: Path
) -> None:
    """A relay that is told to end before it began ends."""
    for order in (Relay.drain, Relay.abort):
        async with rig(
            settings_for(topic), [[topic.name]], tmp_path, relay_waits=True
        ) as running:
            order(running.relay)
            with trio.fail_after(DEADLINE_SECONDS):
                await running.relay.run()


async def test_cancelling_the_relay_ends_its_thread(
    topic: Topic, tmp_path: Path
) -> None:
    """A cancelled `run` leaves no thread that works."""
    async with rig(
        settings_for(topic), [[topic.name]], tmp_path, relay_waits=True
    ) as running:
        with trio.move_on_after(0.5) as scope:
            await running.relay.run()
        assert scope.cancelled_caught
        await until(lambda: running.relay.statistics.last_beat == 0.0)
