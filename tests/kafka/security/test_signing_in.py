"""Each way to sign in lets events through, and reading needs one permission."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trio
from confluent_kafka.admin import AclOperation, ResourceType

from bridge.errors import KafkaRefusedError
from bridge.kafka.reader import Edge, TopicReader
from bridge.kafka.scan import ScannedRecord, scan
from bridge.settings import KafkaSettings, Secret
from tests.conftest import Topic
from tests.kafka.reading.readers import produce, read
from tests.kafka.relay.relaying import (
    Delivery,
    check_topic,
    opened,
    read_back,
    rig,
    settings_for,
)
from tests.kit.guest import Guest, Right
from tests.kit.secure_kafka import SecureKafka


def topic_of(secure: SecureKafka, partitions: int = 1) -> Topic:
    """Make a topic that is read back over the listener without any guard."""
    name = f"jobs-{uuid.uuid4().hex[:12]}"
    secure.create_topic(name, partitions)
    servers = secure.bootstrap_servers
    return Topic(name, f"{name}.dlq", f"{name}.gaps", partitions, servers)


async def carry(
    settings: KafkaSettings,
    topic: Topic,
    folder: Path,
    delivery: Delivery = "idempotent",
) -> None:
    """Bring events to Kafka and read them back."""
    async with rig(settings, [topic.name], folder, delivery=delivery) as running:
        await opened(running, topic.partitions)
        running.offer(topic.name, range(30))
        await running.all_sent(topic.name, 30)
        assert running.errors == []
    check_topic(await read_back(topic), range(30))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("listener", "mechanism", "delivery"),
    [
        ("PASSWORDS", "PLAIN", "idempotent"),
        ("PASSWORDS", "SCRAM-SHA-256", "idempotent"),
        ("PASSWORDS", "SCRAM-SHA-512", "idempotent"),
        ("OPENLY", "PLAIN", "idempotent"),
        ("MUTUAL", None, "idempotent"),
        ("TOKENS", "OAUTHBEARER", "idempotent"),
        # Both transactional producers and the coordinator's connections.
        ("TOKENS", "OAUTHBEARER", "transactional"),
    ],
)
async def test_events_reach_a_broker_that_demands_it(
    secure: SecureKafka,
    tmp_path: Path,
    listener: str,
    mechanism: str | None,
    delivery: Delivery,
) -> None:
    """Producer, log reader and admin sign in alike; a locked key is opened."""
    topic = topic_of(secure)
    chosen = secure.settings(listener, mechanism)
    if listener == "MUTUAL":
        locked = secure.authority.identity("locked", "bridge.example").locked("sesame")
        chosen["ssl_key_file"] = str(locked.key)
        chosen["ssl_cert_file"] = str(locked.certificate)
        chosen["ssl_key_password"] = Secret("sesame")
    await carry(settings_for(topic, **chosen), topic, tmp_path, delivery)


@pytest.mark.timeout(120)
async def test_one_token_serves_all_clients_and_asks_for_what_is_set(
    secure: SecureKafka, tmp_path: Path
) -> None:
    """Scope and audience go to the endpoint, and one token is fetched for all."""
    provider = secure.provider
    provider.reset()
    topic = topic_of(secure)
    settings = settings_for(
        topic,
        **{
            **secure.settings("TOKENS"),
            "sasl_oauth_scope": "kafka write",
            "sasl_oauth_audience": "kafka",
            "sasl_oauth_extensions": "logicalCluster=lkc-1,identityPoolId=pool-2",
        },
    )
    await carry(settings, topic, tmp_path)
    assert provider.requests == [
        {
            "grant_type": "client_credentials",
            "scope": "kafka write",
            "audience": "kafka",
        }
    ]


_COUNT = 20


async def by_reader(settings: KafkaSettings, topic: Topic) -> int:
    """Read as `bridge tail` and `bridge dlq` do."""
    async with TopicReader(settings, [topic.name], start=Edge.BEGINNING) as source:
        return len(await read(source, _COUNT))


async def by_scan(settings: KafkaSettings, topic: Topic) -> int:
    """Read as `bridge verify` does."""
    count = 0

    def take(_number: int, records: Sequence[ScannedRecord], _gone: int) -> None:
        nonlocal count
        count += len(records)

    await scan(settings, topic.name, lambda *_: take)
    return count


Way = Callable[[KafkaSettings, Topic], Awaitable[int]]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("way", [by_reader, by_scan])
async def test_reading_needs_one_right_and_no_group(
    secure: SecureKafka, way: Way
) -> None:
    """Without any the topic can't be seen, with Describe not read; Read is enough."""
    guest = await trio.to_thread.run_sync(Guest, secure)
    topic = topic_of(secure, 2)
    await trio.to_thread.run_sync(produce, topic, _COUNT)
    settings = KafkaSettings(**guest.settings())  # type: ignore[arg-type]
    steps = (
        (None, "grant the user Read on it"),
        (AclOperation.DESCRIBE, f"Grant the user Read on the topic {topic.name}"),
    )
    for operation, words in steps:
        if operation is not None:
            right = Right(ResourceType.TOPIC, topic.name, operation)
            await trio.to_thread.run_sync(guest.allow, right)
        with pytest.raises(KafkaRefusedError) as caught:
            with trio.fail_after(20):
                await way(settings, topic)
        assert words in str(caught.value)
    right = Right(ResourceType.TOPIC, topic.name, AclOperation.READ)
    await trio.to_thread.run_sync(guest.allow, right)
    assert await way(settings, topic) == _COUNT
