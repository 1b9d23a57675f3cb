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

from bridge.errors import KafkaRefusedError
from bridge.kafka.topic_finding import Verdict
from bridge.kafka.topic_needs import TopicNeeds, TopicRole
from tests.conftest import Topic
from tests.kafka.relaying import (
    Rig,
    check_topic,
    feed,
    opened,
    read_back,
    rig,
    settings_for,
    until,
)
from tests.servers.guarded import GuardedKafka


def needs_of(topic: Topic) -> dict[str, TopicNeeds]:
    """What the topics are for."""
    return {
        topic.name: TopicNeeds(TopicRole.EVENTS, 1_000_000),
        topic.dead_letter: TopicNeeds(TopicRole.DEAD_LETTERS, 1_000_000),
    }


def unknown(running: Rig) -> list[str]:
    """What couldn't be judged of any topic."""
    findings = running.relay.statistics.topic_findings
    return [
        one.what
        for own in findings.values()
        for one in own
        if one.verdict is Verdict.UNKNOWN
    ]


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


@pytest.mark.timeout(180)
async def test_what_a_user_may_not_read_is_unknown_until_he_may(
    guarded: GuardedKafka, tmp_path: Path
) -> None:
    """Without DescribeConfigs the bridge works; with it, it tells what is there."""
    name = "seen"
    topic = Topic(name, f"{name}.dlq", f"{name}.gaps", 1, guarded.bootstrap_servers)
    guarded.create_topic(topic.name, 1, {"max.message.bytes": "1500000"})
    guarded.create_topic(topic.dead_letter, 1, {"max.message.bytes": "1500000"})
    guarded.allow(ResourceType.TOPIC, name, *(AclOperation.READ, AclOperation.WRITE))
    settings = settings_for(topic, topics_check_seconds=0.2, **guarded.credentials)
    groups = [[topic.name], [topic.dead_letter]]

    async with rig(settings, groups, tmp_path, needs=needs_of(topic)) as running:
        await opened(running, topic)
        running.offer(topic.name, range(20))
        await running.all_sent(topic.name, 20)
        assert unknown(running) == ["configuration", "configuration"]
        await trio.to_thread.run_sync(
            guarded.allow, ResourceType.TOPIC, name, AclOperation.DESCRIBE_CONFIGS
        )
        await until(lambda: not unknown(running))
        told = running.relay.statistics.topic_findings[topic.name]
        assert "1500000" in {one.found for one in told}
        assert running.errors == []
    check_topic(await read_back(topic), range(20))


@pytest.mark.timeout(180)
async def test_a_start_without_any_right_names_all_topics(
    guarded: GuardedKafka, tmp_path: Path
) -> None:
    """Kafka hides what a user may not see: the error says that as well."""
    name = "hidden"
    topic = Topic(name, f"{name}.dlq", f"{name}.gaps", 1, guarded.bootstrap_servers)
    guarded.create_topic(topic.name, 1)
    guarded.create_topic(topic.dead_letter, 1)
    settings = settings_for(topic, **guarded.credentials)
    groups = [[topic.name], [topic.dead_letter]]
    async with rig(settings, groups, tmp_path, needs=needs_of(topic)) as running:
        with trio.fail_after(30):
            await running.ended.wait()
        (error,) = running.errors
        assert isinstance(error, KafkaRefusedError)
        for one in (topic.name, topic.dead_letter):
            assert one in str(error)
            (finding,) = running.relay.statistics.topic_findings[one]
            assert finding.verdict is Verdict.MISSING
