"""Own transactions that their coordinator takes for ended, and that are open still.

A broker that starts again makes them by chance (KAFKA-20734, see `hanging`); here a
partition is left out of what the coordinator is told, which makes them for certain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import trio

from bridge.outbox import Outbox
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    Rig,
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    settings_for,
)
from tests.kafka.relay.transactions import (
    foreign_transaction,
    unmentioned,
    unverified,
    wait_held_back,
)
from tests.servers.kafka import KafkaServer


@pytest.fixture
def credulous_kafka(own_kafka: KafkaServer) -> Iterator[KafkaServer]:
    """The suite's Kafka, which believes producers that a partition was added."""
    with unverified(own_kafka.bootstrap_servers):
        yield own_kafka


async def hang(running: Rig, topic: Topic, first: int) -> None:
    """Send rows of which those of partition 1 stay in an open transaction."""
    with unmentioned(topic, 1):
        # One transaction, or the next one with the same id would end it.
        running.offer(topic.name, range(first, first + 30))
        await running.all_sent(topic.name, first + 30)
    await trio.to_thread.run_sync(wait_held_back, topic, [1])


@pytest.mark.usefixtures("credulous_kafka")
@pytest.mark.parametrize("is_acknowledged", [True, False])
async def test_a_start_ends_what_hangs(
    topic: Topic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_acknowledged: bool,
) -> None:
    """Its rows are committed where they stand, whether or not that was known."""
    settings = settings_for(topic)
    async with rig(
        settings, [[topic.name]], tmp_path, delivery="transactional"
    ) as running:
        await opened(running, topic)
        await feed(running, topic, 100)
        await running.all_sent(topic.name, 100)
        if not is_acknowledged:
            monkeypatch.setattr(Outbox, "acknowledge", lambda *_, **__: None)
        await hang(running, topic, 100)
    monkeypatch.undo()
    with structlog.testing.capture_logs() as lines:
        async with rig(
            settings, [[topic.name]], tmp_path, delivery="transactional"
        ) as running:
            await opened(running, topic)
            await feed(running, topic, 100, first=130)
            await running.drain()
    (line,) = [one for one in lines if one["event"] == "transaction.hangs"]
    assert list(line["offsets"]) == [1]
    assert not [one for one in lines if one["event"] == "kafka.waits"]
    check_topic(await read_back(topic), range(230))


@pytest.mark.timeout(90)
async def test_a_bridge_that_runs_ends_what_hangs(
    credulous_kafka: KafkaServer, topic: Topic, tmp_path: Path
) -> None:
    """It shows with the first commit to the broker that has started again."""
    async with rig(
        settings_for(topic), [[topic.name]], tmp_path, delivery="transactional"
    ) as running:
        await opened(running, topic)
        await feed(running, topic, 100)
        await running.all_sent(topic.name, 100)
        await hang(running, topic, 100)
        await trio.to_thread.run_sync(credulous_kafka.kill)
        await trio.to_thread.run_sync(credulous_kafka.start)
        with structlog.testing.capture_logs() as lines:
            await feed(running, topic, 100, first=130)
            await running.all_sent(topic.name, 230)
            await running.drain()
        assert running.errors == []
    (line,) = [one for one in lines if one["event"] == "transaction.hangs"]
    assert list(line["offsets"]) == [1]
    check_topic(await read_back(topic), range(230))


async def test_what_others_have_open_is_left_alone(
    topic: Topic, tmp_path: Path
) -> None:
    """It may be open rightly."""
    everywhere = range(topic.partitions)
    with (
        structlog.testing.capture_logs() as lines,
        foreign_transaction(topic, everywhere) as foreign,
    ):
        async with rig(
            settings_for(topic), [[topic.name]], tmp_path, delivery="transactional"
        ) as running:
            await opened(running, topic)
            await feed(running, topic, 100)
            await running.all_sent(topic.name, 100)
        await trio.to_thread.run_sync(wait_held_back, topic, everywhere)
        await trio.to_thread.run_sync(foreign.commit_transaction)
    assert not [one for one in lines if one["event"] == "transaction.hangs"]
