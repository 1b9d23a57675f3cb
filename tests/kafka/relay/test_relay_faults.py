"""Brokers and topics that go away while the relay works, and come back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import structlog
import trio

from bridge.outbox import Outbox
from bridge.outbox.values import Placed
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DELIVERIES,
    Delivery,
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    send_nothing,
    sending,
    settings_for,
    until,
)
from tests.kit.broker import KafkaBroker
from tests.kit.kafka import KafkaServer


# -- Brokers -----------------------------------------------------------------


@pytest.mark.timeout(90)
@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_a_broker_killed_under_load_loses_and_doubles_nothing(
    own_kafka: KafkaServer, topic: Topic, tmp_path: Path, delivery: Delivery
) -> None:
    """What was on its way when the broker died arrives once, and in order."""
    count = 2_000
    async with sending(topic, tmp_path, delivery=delivery) as running:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed, running, topic, count)
            await trio.sleep(0.7)
            await trio.to_thread.run_sync(own_kafka.kill)
        assert running.sent(topic.name) < count
        await trio.to_thread.run_sync(own_kafka.start)
        await running.all_sent(topic.name, count)
        assert running.errors == []
    check_topic(await read_back(topic), range(count))


# -- Topics ------------------------------------------------------------------


@pytest.mark.timeout(90)
async def test_a_topic_with_fewer_partitions_opens_all_the_same(
    kafka: KafkaBroker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows whose partition is gone don't hold up the others."""
    settings = settings_for(topic, start_timeout_seconds=3.0)
    async with sending(topic, tmp_path, settings=settings) as running:
        running.offer(topic.name, range(60))
        await running.all_sent(topic.name, 60)
        # Rows that the outbox holds for every partition.
        send_nothing(monkeypatch)
        running.offer(topic.name, range(60, 120))
        await running.committed(120)
    monkeypatch.undo()
    await trio.to_thread.run_sync(kafka.delete_topics, topic.name)
    await trio.to_thread.run_sync(kafka.create_topic, topic.name, 1)
    with structlog.testing.capture_logs() as lines:
        async with rig(settings, [topic.name], tmp_path) as running:
            await opened(running, 1)
            running.offer(topic.name, range(120, 150))
            await until(lambda: running.sent(topic.name) >= 30)
            assert running.relay.statistics.partitions == 1
    gone = [line for line in lines if line["event"] == "partition.gone"]
    assert {line["partition"] for line in gone} == {1, 2}
    assert all(line["rows_kept"] > 0 for line in gone)


_STALL_SECONDS = 30.0


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_a_commit_that_stalls_loses_nothing_and_blocks_no_reading(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delivery: Delivery
) -> None:
    """Longer than a request and a transaction may take, with batches on their way."""
    commit, stalls = Outbox.commit, [_STALL_SECONDS]

    def stall(outbox: Outbox) -> list[Placed]:
        if stalls and outbox.statistics.committed > 500:
            time.sleep(stalls.pop())
        return commit(outbox)

    async with sending(topic, tmp_path, delivery=delivery) as running:
        monkeypatch.setattr(Outbox, "commit", stall)
        longest, number, silent = 0.0, 0, 0.0
        began = trio.current_time()
        while trio.current_time() < began + _STALL_SECONDS + 5:
            before = trio.current_time()
            running.offer(topic.name, range(number, number + 10))
            number += 10
            await trio.sleep(0.01)
            longest = max(longest, trio.current_time() - before)
            beat = running.relay.statistics.last_beat
            silent = max(silent, time.monotonic() - beat)
        assert stalls == []
        # The session would have read on; health sees that the other thread doesn't.
        assert longest < 2
        assert silent > _STALL_SECONDS - 5
        await running.all_sent(topic.name, number)
        await until(lambda: running.relay.statistics.connected)
        assert running.outbox.statistics.dropped == {"overflow": 0, "outbox_full": 0}
        assert running.errors == []
    check_topic(await read_back(topic), range(number))
