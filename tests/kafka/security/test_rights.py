"""The least rights, each of them missing from the start, or taken away later."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
import trio
from confluent_kafka.admin import AclOperation, ResourceType

from bridge.errors import ExitCode, KafkaRefusedError
from bridge.kafka.topic_checks import Verdict
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    Delivery,
    Rig,
    check_topic,
    feed,
    needs_of,
    opened,
    read_back,
    rig,
    settings_for,
    topics_of,
    until,
)
from tests.kafka.security.granting import documented, least
from tests.kafka.security.test_signing_in import topic_of
from tests.kit.guest import Guest, Right
from tests.kit.secure_kafka import SecureKafka


@pytest.fixture
def guest(secure: SecureKafka) -> Guest:
    """A user without any right."""
    return Guest(secure)


@pytest.fixture
def topic(secure: SecureKafka) -> Topic:
    """The bridge's three topics."""
    made = topic_of(secure, 2)
    secure.create_topic(made.dead_letter, 1)
    secure.create_topic(made.gaps, 1)
    return made


def settings_of(guest: Guest, topic: Topic, **changes: object) -> KafkaSettings:
    """The guest's settings, for a bridge that looks at its topics often."""
    chosen = {"topics_check_seconds": 0.2, **guest.settings(), **changes}
    return settings_for(topic, **chosen)


def findings(running: Rig, verdict: Verdict) -> dict[str, str]:
    """What was found so of topics: the remedy by topic."""
    return {
        name: " ".join(one.remedy or one.found for one in own if one.verdict is verdict)
        for name, own in running.relay.statistics.topic_findings.items()
        if any(one.verdict is verdict for one in own)
    }


_TOPIC, _WRITE = ResourceType.TOPIC, AclOperation.WRITE


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("delivery", "kind", "ending", "operation"),
    [
        *(
            ("idempotent", ResourceType.TOPIC, ending, operation)
            for ending in ("", ".dlq", ".gaps")
            for operation in (AclOperation.READ, AclOperation.WRITE)
        ),
        ("transactional", ResourceType.TRANSACTIONAL_ID, "", _WRITE),
    ],
)
async def test_a_start_without_one_of_them_ends_with_its_name(
    guest: Guest,
    topic: Topic,
    tmp_path: Path,
    *,
    delivery: Delivery,
    kind: ResourceType,
    ending: str,
    operation: AclOperation,
) -> None:
    """Exit code 4, with a sentence that says what to grant, on what."""
    rights = least(topic.name, delivery)
    name = f"{topic.name}{ending}"
    (lacking,) = [
        right
        for right in rights
        if (right.kind, right.operation) == (kind, operation)
        and (right.name == name or kind is not ResourceType.TOPIC)
    ]
    await trio.to_thread.run_sync(
        guest.allow, *(right for right in rights if right is not lacking)
    )
    settings = settings_of(guest, topic)
    async with rig(
        settings, topics_of(topic), tmp_path, delivery=delivery, needs=needs_of(topic)
    ) as running:
        with trio.fail_after(10):
            await running.ended.wait()
        (error,) = running.errors
    assert isinstance(error, KafkaRefusedError)
    assert error.exit_code is ExitCode.REFUSED_BY_KAFKA
    if kind is ResourceType.TOPIC:
        granted = f"Grant the user {operation.name.title()} on the topic {name}."
        assert granted in str(error)
    else:
        granted = f"on all transactional ids that begin with {lacking.name}"
        assert f"Write and Describe {granted}" in str(error)


@pytest.mark.timeout(90)
async def test_topics_are_created_with_the_right_to(
    secure: SecureKafka, guest: Guest, tmp_path: Path
) -> None:
    """Without Create the start ends with that word; with it the topics are made."""
    name = f"made-by-{guest.name}"
    topic = Topic(name, f"{name}.dlq", f"{name}.gaps", 1, secure.bootstrap_servers)
    rights = documented(name)
    (create,) = [one for one in rights if one.operation is AclOperation.CREATE]
    await trio.to_thread.run_sync(guest.allow, *least(name, "idempotent"))
    settings = settings_of(guest, topic, create_topics=True, partitions=1)
    needs = needs_of(topic)
    async with rig(settings, topics_of(topic), tmp_path, needs=needs) as running:
        with trio.fail_after(10):
            await running.ended.wait()
        (error,) = running.errors
    assert f"Create on the topic {name} (or on the cluster)" in str(error)
    await trio.to_thread.run_sync(guest.allow, create)
    async with rig(settings, topics_of(topic), tmp_path, needs=needs) as running:
        await opened(running, 3)
        running.offer(name, range(10))
        await running.all_sent(name, 10)
        assert running.errors == []
    check_topic(await read_back(topic), range(10))


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("delivery", "kind", "operations", "words"),
    [
        ("idempotent", _TOPIC, [_WRITE], "Grant the user Write on the topic {topic}."),
        ("idempotent", _TOPIC, [_WRITE, AclOperation.READ], "on the topic {topic}."),
        ("transactional", _TOPIC, [_WRITE], "Grant the user Write on the topic"),
        (
            "transactional",
            ResourceType.TRANSACTIONAL_ID,
            [_WRITE],
            "Grant the user Write and Describe on all transactional ids that begin",
        ),
    ],
)
async def test_a_right_that_is_taken_away_and_given_back_costs_nothing(
    guest: Guest,
    topic: Topic,
    tmp_path: Path,
    *,
    delivery: Delivery,
    kind: ResourceType,
    operations: list[AclOperation],
    words: str,
) -> None:
    """Health and log say what to grant, jobs wait, and arrive once and in order."""
    rights = least(topic.name, delivery)
    await trio.to_thread.run_sync(guest.allow, *rights)
    taken = [
        right
        for right in rights
        if right.kind is kind
        and right.operation in operations
        and (right.name == topic.name or kind is not ResourceType.TOPIC)
    ]
    assert len(taken) == len(operations)
    words = words.format(topic=topic.name)
    settings = settings_of(guest, topic)
    with structlog.testing.capture_logs() as lines:
        async with rig(
            settings,
            topics_of(topic),
            tmp_path,
            delivery=delivery,
            needs=needs_of(topic),
        ) as running:
            statistics = running.relay.statistics
            await opened(running, topic.partitions + 2)
            await feed(running, topic, 300)
            await running.all_sent(topic.name, 300)
            await trio.to_thread.run_sync(guest.forbid, *taken)
            await feed(running, topic, 300, first=300)
            await until(lambda: words in (statistics.last_error or ""))
            assert not statistics.connected
            if kind is ResourceType.TOPIC:
                await until(lambda: topic.name in findings(running, Verdict.MISSING))
                # Another topic is none the worse for it.
                running.offer(topic.dead_letter, range(50))
                await running.all_sent(topic.dead_letter, 50)
            await running.committed(600)
            assert running.sent(topic.name) < 600
            await trio.to_thread.run_sync(guest.allow, *taken)
            await running.all_sent(topic.name, 600)
            await until(lambda: statistics.connected)
            await until(lambda: not findings(running, Verdict.MISSING))
            assert running.errors == []
    told = [line for line in lines if words in str(line.get("error"))]
    assert told
    assert told[0]["log_level"] == "warning"
    assert any(line["event"] == "kafka.works_again" for line in lines)
    check_topic(await read_back(topic), range(600))


@pytest.mark.timeout(90)
async def test_what_a_user_may_not_see_is_unknown_until_he_may(
    guest: Guest, topic: Topic, tmp_path: Path
) -> None:
    """Without DescribeConfigs the bridge works; with it, it tells what is there."""
    await trio.to_thread.run_sync(guest.allow, *least(topic.name, "idempotent"))
    names = {topic.name, topic.dead_letter, topic.gaps}
    async with rig(
        settings_of(guest, topic), topics_of(topic), tmp_path, needs=needs_of(topic)
    ) as running:
        await opened(running)
        running.offer(topic.name, range(20))
        await running.all_sent(topic.name, 20)
        assert findings(running, Verdict.UNKNOWN).keys() == names
        see = Right(
            ResourceType.TOPIC, topic.name, AclOperation.DESCRIBE_CONFIGS, prefixed=True
        )
        await trio.to_thread.run_sync(guest.allow, see)
        await until(lambda: not findings(running, Verdict.UNKNOWN))
        told = running.relay.statistics.topic_findings[topic.name]
        assert "CreateTime" in {one.found for one in told}
        assert running.errors == []
    check_topic(await read_back(topic), range(20))
