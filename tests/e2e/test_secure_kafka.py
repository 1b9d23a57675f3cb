"""The bridge as a process and a Kafka that demands who comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from confluent_kafka.admin import AclOperation, ResourceType

from bridge.settings import Secret
from tests.conftest import Topic
from tests.e2e.jobs import job
from tests.e2e.scene import Account, Scene
from tests.kafka.security.granting import least
from tests.kafka.security.test_signing_in import topic_of
from tests.kit.guest import Guest
from tests.kit.publisher import Soketi
from tests.kit.secure_kafka import PASSWORD, SecureKafka


@pytest.fixture
def topic(secure: SecureKafka) -> Topic:
    """A topic of the broker that demands it."""
    made = topic_of(secure)
    secure.create_topic(made.dead_letter, 1)
    secure.create_topic(made.gaps, 1)
    return made


@pytest.fixture
def scene(
    tmp_path: Path, secure: SecureKafka, topic: Topic, soketi: Soketi
) -> Iterator[Scene]:
    """An account and bridges, which show neither its token nor any other secret."""
    made = Scene(tmp_path, Account.new(), secure, topic, soketi)
    yield made
    made.close()
    assert made.ended
    for log in tmp_path.glob("bridge-*/log"):
        text = log.read_text()
        for secret in (PASSWORD, secure.provider.client_secret, "canary"):
            assert secret not in text


def named(settings: Mapping[str, object], folder: Path) -> dict[str, Any]:
    """Give Kafka's settings as the process takes them, secrets in files."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Secret):
            file = folder / name
            file.write_text(value.reveal())
            found[f"kafka_{name}_file"] = file
        else:
            found[f"kafka_{name}"] = value
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("delivery", "kind", "refusal", "grant"),
    [
        (
            "idempotent",
            ResourceType.TOPIC,
            "--operation Write --topic",
            "Grant the user Write on the topic",
        ),
        (
            "transactional",
            ResourceType.TRANSACTIONAL_ID,
            "Grant the user Write and Describe on all transactional ids that begin",
            "Grant the user Write and Describe on all transactional ids that begin",
        ),
    ],
)
async def test_the_least_rights_are_enough_and_one_taken_away_is_told(
    scene: Scene,
    dryapi: str,
    secure: SecureKafka,
    tmp_path: Path,
    *,
    delivery: str,
    kind: ResourceType,
    refusal: str,
    grant: str,
) -> None:
    """Health, metrics and log say what to grant; given back, all events arrive."""
    guest = await trio.to_thread.run_sync(Guest, secure)
    topic = scene.topic.name
    rights = least(topic, delivery)
    (write,) = [
        right
        for right in rights
        if (right.kind, right.operation) == (kind, AclOperation.WRITE)
        and (right.name == topic or kind is not ResourceType.TOPIC)
    ]
    missing = int(kind is ResourceType.TOPIC)
    settings = named(guest.settings(), tmp_path)
    bridge = scene.bridge(
        dryapi, delivery=delivery, kafka_metadata_max_age_seconds=0.5, **settings
    )
    others = [right for right in rights if right is not write]
    await trio.to_thread.run_sync(guest.allow, *others)
    bridge.start()
    assert refusal in await bridge.wait_refusal(4)
    await trio.to_thread.run_sync(guest.allow, write)
    await bridge.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(3) for _ in range(5)])
        await bridge.wait_metrics(lambda now: now.published == load.count)
        await trio.to_thread.run_sync(guest.forbid, write)
        await load.run_together([job(3) for _ in range(5)])
        told = await bridge.wait_answer(
            "/readyz", lambda now: grant in now.check("kafka-now")["detail"]
        )
        # Ready all the same: the outbox is there for it.
        assert told.status == 200
        during = await bridge.wait_metrics(
            lambda now: (
                now.read == load.count
                and now.total("bridge_kafka_connected") == 0
                and now.total("bridge_topic_findings", topic=topic, verdict="error")
                == missing
            )
        )
        assert during.published < load.count
        await trio.to_thread.run_sync(guest.allow, write)
    await bridge.wait_metrics(
        lambda now: now.published == load.count and now.waiting == 0
    )
    await scene.end(all_counted=True)
    events = ("partition.failed", "transaction.failed", "kafka.unavailable")
    lines = [line for event in events for line in bridge.logged(event)]
    assert any(grant in line["error"] for line in lines)
    assert bridge.logged("kafka.recovered")
