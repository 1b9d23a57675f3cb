"""What the bridge asks and does beside aiokafka's consumer."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
from collections.abc import Coroutine
from typing import Any

import psutil
import pytest
from aiokafka import TopicPartition, errors  # noqa: TID251 - looked at

from bridge.kafka import connection, requests
from bridge.kafka.connection import connected, consuming, partitions_of
from bridge.kafka.log import open_log
from bridge.kafka.requests import (
    DEBUGGER,
    EARLIEST,
    LATEST,
    Metadata,
    TopicFacts,
    ask_offsets,
    describe_topics,
    may_be_compacted,
)
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.reading.readers import DEADLINE_SECONDS, produce, settings_of
from tests.kafka.relay.faults import intercept
from tests.kit.broker import KafkaBroker
from tests.kit.kafka import KafkaServer
from tests.kit.writer import Sent, open_transaction


_UNKNOWN_TOPIC = 3


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run in a loop of its own, for a limited time."""
    asyncio.run(asyncio.wait_for(work, DEADLINE_SECONDS))


def test_leaders_tell_every_end_of_a_log(topic: Topic) -> None:
    """Begin, a moment, both ends and the leader's own; and what is held by whom."""
    produce(topic, 9)

    async def ask() -> None:
        async with connected(settings_of(topic)) as client:
            partitions = await partitions_of(settings_of(topic), client, [topic.name])

            async def told(moment: int, **choices: Any) -> list[int]:
                found = await ask_offsets(client, partitions, moment, **choices)
                return [found[partition] for partition in partitions]

            assert await told(EARLIEST) == [0, 0, 0]
            assert await told(LATEST) == [3, 4, 3]
            assert await told(LATEST, committed_only=True) == [3, 3, 3]
            assert await told(LATEST, asker=DEBUGGER) == [3, 4, 3]
            assert await told(1 << 50) == [-1, -1, -1]
        async with open_log(settings_of(topic), topic.name) as log:
            assert await log.held() == {1: 3}

    held = [Sent(b"open", partition=1)]
    with open_transaction(topic.bootstrap_servers, topic.name, held):
        run(ask())


def test_a_policy_says_whether_a_topic_may_have_holes(
    topic: Topic, kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compaction alone makes them; where the policy can't be read, it may."""
    compacted = f"{topic.name}-compacted"
    kafka.create_topic(compacted, 1, {"cleanup.policy": "compact,delete"})

    async def ask() -> None:
        async with connected(settings_of(topic)) as client:
            assert not await may_be_compacted(client, topic.name)
            assert await may_be_compacted(client, compacted)
            assert await may_be_compacted(client, "a name that no topic can have")
            monkeypatch.setattr(requests, "_POLICY", "not.a.policy")
            assert await may_be_compacted(client, topic.name)

    run(ask())


def test_a_consumer_ends_while_a_fetch_waits_for_its_retry(
    topic: Topic, own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aiokafka's own stop would end with that fetch, its connections open."""
    monkeypatch.setattr(connection, "RETRY_BACKOFF_SECONDS", 20.0)
    settings = KafkaSettings(bootstrap_servers=topic.bootstrap_servers)
    process = psutil.Process()

    async def read() -> None:
        tasks, before = asyncio.all_tasks(), len(process.net_connections())
        async with consuming(settings, "read_committed") as consumer:
            partition = TopicPartition(topic.name, 0)
            consumer.assign([partition])
            consumer.seek(partition, 0)
            while not consumer.last_poll_timestamp(partition):
                await consumer.getmany(timeout_ms=100)
            own_kafka.kill()
            await asyncio.sleep(0.5)
        assert asyncio.all_tasks() == tasks
        assert len(process.net_connections()) <= before

    run(read())


def describe(topic: Topic, *names: str) -> dict[str, TopicFacts]:
    """Ask the suite's broker for topics."""

    async def ask() -> dict[str, TopicFacts]:
        async with connected(settings_of(topic)) as client:
            return await describe_topics(client, names)

    return asyncio.run(ask())


def test_ids_and_permissions_come_with_a_topics_metadata(topic: Topic) -> None:
    """Each topic has an id of its own; a broker without ACLs allows every operation."""
    found = describe(topic, topic.name, topic.gaps, "no-such-topic")
    ids = {found[name].topic_id for name in (topic.name, topic.gaps)}
    assert None not in ids
    assert len(ids) == 2
    assert found[topic.name].leaders.keys() == set(range(topic.partitions))
    assert found[topic.name].replicas == 1
    assert found[topic.name].lacks({3: "Read", 4: "Write"}) == ()
    absent = found["no-such-topic"]
    assert (absent.error_code, absent.topic_id) == (_UNKNOWN_TOPIC, None)


def test_a_broker_older_than_ids_is_asked_as_aiokafka_does(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partitions are the same; neither id nor permissions are known."""
    new = describe(topic, topic.name)[topic.name]

    async def know_nothing(_: object) -> object:
        raise errors.IncompatibleBrokerVersion

    intercept(monkeypatch, Metadata, know_nothing)
    old = describe(topic, topic.name)[topic.name]
    assert old == TopicFacts(topic.name, new.leaders, new.replicas)
    assert old.lacks({3: "Read"}) is None
