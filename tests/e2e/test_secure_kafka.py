"""The bridge as a process and a Kafka that demands who comes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from confluent_kafka.admin import AclOperation

from bridge.settings import Secret
from tests.conftest import Topic
from tests.e2e.jobs import job
from tests.e2e.scene import Account, Scene
from tests.kafka.security.granting import least
from tests.kafka.security.test_signing_in import topic_of
from tests.kit.guest import Guest
from tests.kit.publisher import Soketi
from tests.kit.secure_kafka import PASSWORD, ROTATING_USER, SecureKafka


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
    ("listener", "changes", "words"),
    [
        (
            "SCRAM",
            {"sasl_password": Secret("canary-that-is-wrong")},
            ("refuses to let 'bridge' in", "BRIDGE_KAFKA_SASL_PASSWORD_FILE"),
        ),
        ("EXPIRED", {}, ("has expired", "renew it there")),
        (
            "TOKENS",
            {"sasl_oauth_client_secret": Secret("canary-that-is-wrong")},
            ("HTTP 401", "BRIDGE_KAFKA_SASL_OAUTH_CLIENT_SECRET"),
        ),
    ],
)
async def test_a_first_start_that_is_not_let_in_ends(
    scene: Scene,
    dryapi: str,
    secure: SecureKafka,
    tmp_path: Path,
    *,
    listener: str,
    changes: dict[str, object],
    words: tuple[str, ...],
) -> None:
    """Exit code 4 within seconds, and one sentence that names the setting."""
    settings = {**secure.settings(listener), **changes}
    # The fixture looks for secrets in what it says.
    bridge = scene.bridge(dryapi, **named(settings, tmp_path), log_level="debug")
    bridge.start()
    with trio.fail_after(15):
        sentence = await bridge.wait_refusal(4)
    for word in words:
        assert word in sentence
    await scene.end(gaps=None, open_gaps=None, waiting=None)


@pytest.mark.slow
async def test_a_missing_extra_is_a_sentence(
    scene: Scene, dryapi: str, secure: SecureKafka, tmp_path: Path
) -> None:
    """Without the signer of AWS the process ends with 2 and says what to install."""
    hidden = tmp_path / "hidden" / "aws_msk_iam_sasl_signer"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not installed')")
    paths = filter(None, (str(hidden.parent), os.environ.get("PYTHONPATH")))
    bridge = scene.bridge(
        dryapi,
        wrapper=["env", f"PYTHONPATH={os.pathsep.join(paths)}"],
        kafka_bootstrap_servers=secure.servers("TOKENS"),
        kafka_security_protocol="SASL_SSL",
        kafka_ssl_ca_file=secure.authority.file,
        kafka_sasl_mechanism="AWS_MSK_IAM",
        kafka_sasl_aws_region="eu-west-1",
    )
    bridge.start()
    assert "dryapi-kafka-bridge[msk]" in await bridge.wait_refusal(2)
    await scene.end(gaps=())


@pytest.mark.slow
async def test_a_password_that_is_exchanged_is_told_and_followed(
    scene: Scene, dryapi: str, secure: SecureKafka, tmp_path: Path
) -> None:
    """Health says what is wrong while events gather; the file set right, all arrive."""
    await trio.to_thread.run_sync(secure.set_certificate, secure.authority)
    await trio.to_thread.run_sync(secure.set_password, ROTATING_USER, PASSWORD)
    settings = named(secure.settings("ROTATING"), tmp_path)
    bridge = scene.bridge(dryapi, **settings)
    await bridge.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(3) for _ in range(5)])
        await bridge.wait_metrics(lambda now: now.published == load.count)
        await trio.to_thread.run_sync(
            secure.set_password, ROTATING_USER, "canary-of-the-next"
        )
        # The connections of before go on until the broker ends them.
        await trio.sleep(2)
        await load.run_together([job(3) for _ in range(5)])
        told = await bridge.wait_answer(
            "/readyz",
            lambda now: "kafka.sasl_password" in now.check("kafka-now")["detail"],
        )
        # Ready all the same: the outbox is there for it.
        assert told.status == 200
        during = await bridge.wait_metrics(lambda now: now.read == load.count)
        assert during.total("bridge_kafka_connected") == 0
        assert during.published < load.count
        # At once, as Kubernetes exchanges a file.
        file = settings["kafka_sasl_password_file"]
        fresh = file.with_suffix(".fresh")
        fresh.write_bytes(b"canary-of-the-next")
        fresh.replace(file)
    await bridge.wait_metrics(lambda now: now.published == load.count)
    await scene.end()
    assert "BRIDGE_KAFKA_SASL_PASSWORD" in bridge.logged("kafka.refuses")[0]["error"]
    assert bridge.logged("kafka.works_again")
    assert bridge.logged("credentials.renewed")


@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["idempotent", "transactional"])
async def test_the_least_rights_are_enough_and_one_taken_away_is_told(
    scene: Scene, dryapi: str, secure: SecureKafka, tmp_path: Path, delivery: str
) -> None:
    """Health, metrics and log say what to grant; given back, all events arrive."""
    guest = await trio.to_thread.run_sync(Guest, secure)
    topic = scene.topic.name
    rights = least(topic, delivery)
    await trio.to_thread.run_sync(guest.allow, *rights)
    (write,) = [
        right
        for right in rights
        if (right.name, right.operation) == (topic, AclOperation.WRITE)
    ]
    grant = "Grant the user Write on the topic"
    settings = named(guest.settings(), tmp_path)
    bridge = scene.bridge(
        dryapi, delivery=delivery, kafka_topics_check_seconds=0.5, **settings
    )
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
                and now.total("bridge_topic_findings", topic=topic, verdict="missing")
                == 1
            )
        )
        assert during.published < load.count
        await trio.to_thread.run_sync(guest.allow, write)
    await bridge.wait_metrics(lambda now: now.published == load.count)
    await scene.end()
    events = ("partition.failed", "transaction.failed", "kafka.unavailable")
    lines = [line for event in events for line in bridge.logged(event)]
    assert any(grant in line["error"] for line in lines)
    assert bridge.logged("kafka.works_again")
