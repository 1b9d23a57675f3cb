"""Rights that are taken away from a working bridge, and given back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import structlog
import trio
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._resource import ResourceType

from tests.conftest import Topic
from tests.kafka.relaying import (
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    settings_for,
    until,
)
from tests.servers.guarded import GuardedKafka


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedKafka]:
    """A broker that asks who comes, for this file."""
    with GuardedKafka() as server:
        yield server


@pytest.mark.timeout(180)
@pytest.mark.parametrize("delivery", ["idempotent", "transactional"])
async def test_a_right_that_is_taken_away_and_given_back_costs_nothing(
    guarded: GuardedKafka,
    tmp_path: Path,
    delivery: Literal["idempotent", "transactional"],
) -> None:
    """Jobs wait for the right to write; dead letters go on meanwhile."""
    name = f"jobs-{delivery}"
    topic = Topic(name, f"dlq-{name}", f"gaps-{name}", 3, guarded.bootstrap_servers)
    guarded.create_topic(topic.name, topic.partitions)
    guarded.create_topic(topic.dead_letter, 1)
    everything = (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE)
    for one in (topic.name, topic.dead_letter):
        guarded.allow(ResourceType.TOPIC, one, *everything)
    guarded.allow(
        ResourceType.TRANSACTIONAL_ID,
        "dryapi-kafka-bridge.",
        AclOperation.WRITE,
        AclOperation.DESCRIBE,
    )
    settings = settings_for(topic, **guarded.credentials)
    groups = [[topic.name], [topic.dead_letter]]
    with structlog.testing.capture_logs() as lines:
        async with rig(settings, groups, tmp_path, delivery=delivery) as running:
            await opened(running, topic)
            await feed(running, topic, 300)
            await running.all_sent(topic.name, 300)
            await trio.to_thread.run_sync(
                guarded.forbid, ResourceType.TOPIC, topic.name, AclOperation.WRITE
            )
            await feed(running, topic, 300, first=300)
            await until(lambda: any(line["event"] == "lane.failed" for line in lines))
            running.offer(topic.dead_letter, range(50))
            await running.all_sent(topic.dead_letter, 50)
            assert running.sent(topic.name) < 600
            await trio.to_thread.run_sync(
                guarded.allow, ResourceType.TOPIC, topic.name, AclOperation.WRITE
            )
            await running.all_sent(topic.name, 600)
            assert running.errors == []
    told = next(line for line in lines if line["event"] == "lane.failed")
    assert "TopicAuthorizationFailed" in told["error"]
    check_topic(await read_back(topic), range(600))
