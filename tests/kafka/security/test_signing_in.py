"""Each way to sign in lets events through; what is wrong is named within seconds."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from confluent_kafka.admin import AclOperation, ResourceType

from bridge.errors import (
    BridgeError,
    ExitCode,
    KafkaRefusedError,
    KafkaUnreachableError,
)
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
from tests.kafka.security.granting import diagnosed
from tests.kit.guest import Guest, Right
from tests.kit.process import free_ports
from tests.kit.secure_kafka import PASSWORD, SecureKafka


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


_CANARY = "canary-that-must-stay-secret"

Changes = Callable[[SecureKafka], dict[str, Any]]


def always(**changes: Any) -> Changes:
    """Changes that don't depend on the broker."""
    return lambda _: changes


# The others are planted for `bridge check`, by the same diagnosis.
_FAULTS: dict[str, tuple[str, str | None, Changes, tuple[str, ...]]] = {
    "wrong password, SCRAM": (
        "PASSWORDS",
        "SCRAM-SHA-256",
        always(sasl_password=Secret(_CANARY)),
        ("'bridge'", "SCRAM-SHA-256", "kafka.sasl_password"),
    ),
    "SASL wanted": (
        "SCRAM",
        None,
        always(
            security_protocol="SSL",
            sasl_mechanism=None,
            sasl_username=None,
            sasl_password=None,
        ),
        ("SCRAM-SHA-512", "BRIDGE_KAFKA_SECURITY_PROTOCOL) to SASL_SSL"),
    ),
    "wrong host name": (
        "SCRAM",
        None,
        # It isn't in the broker's certificate.
        lambda secure: {"bootstrap_servers": f"127.0.0.1:{secure.port_of('SCRAM')}"},
        ("127.0.0.1", "kafka.bootstrap_servers", "advertised.listeners"),
    ),
    "token endpoint of another authority": (
        "TOKENS",
        None,
        lambda secure: {"sasl_oauth_ca_file": str(secure.stranger.file)},
        ("token endpoint", "kafka.sasl_oauth_ca_file"),
    ),
    "token endpoint that is something else": (
        "TOKENS",
        None,
        lambda secure: {"sasl_oauth_token_url": secure.provider.login_url},
        ("without an access token", "kafka.sasl_oauth_token_url"),
    ),
}


def of(
    secure: SecureKafka, listener: str, mechanism: str | None, changes: dict[str, Any]
) -> dict[str, Any]:
    """Settings with which it would work, and what is wrong with them."""
    return {**secure.settings(listener, mechanism), **changes}


@pytest.mark.timeout(90)
@pytest.mark.parametrize("fault", _FAULTS)
async def test_a_start_that_never_worked_ends_with_the_setting_to_look_at(
    secure: SecureKafka, tmp_path: Path, fault: str
) -> None:
    """Exit code 4 within seconds; the sentence names the setting, and no secret."""
    secure.provider.reset()
    listener, mechanism, changes, words = _FAULTS[fault]
    topic = topic_of(secure)
    settings = settings_for(topic, **of(secure, listener, mechanism, changes(secure)))
    begun = time.monotonic()
    async with rig(settings, [topic.name], tmp_path) as running:
        with trio.fail_after(20):
            await running.ended.wait()
        (error,) = running.errors
    assert time.monotonic() - begun < 10
    assert isinstance(error, KafkaRefusedError)
    assert error.exit_code is ExitCode.REFUSED_BY_KAFKA
    for word in words:
        assert word in str(error), (word, str(error))
    assert _silent(error)


# An address where no server listens, or what the endpoint responds.
_AWAY = f"https://localhost:{free_ports(1)[0]}/token"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        # It is waited for as long as for the brokers: its restart ends no start.
        (None, KafkaUnreachableError, ("can't be asked", "sasl_oauth_token_url")),
        ((503, b"canary-of-a-page"), KafkaUnreachableError, ("HTTP 503", "asks again")),
        ((429, b"{}"), KafkaUnreachableError, ("HTTP 429", "asks again")),
        (
            (400, b'{"error": "invalid_scope"}'),
            KafkaRefusedError,
            ("invalid_scope", "sasl_oauth_scope"),
        ),
        (
            (400, b'{"error": "unauthorized_client"}'),
            KafkaRefusedError,
            ("may use the grant",),
        ),
        (
            (404, b"canary-of-a-page"),
            KafkaRefusedError,
            ("HTTP 404", "kafka.sasl_oauth_token_url"),
        ),
        ((302, b""), KafkaRefusedError, ("HTTP 302",)),
        (
            (200, b'{"access_token": "canary of two words"}'),
            KafkaRefusedError,
            ("without an access",),
        ),
        ((200, b"[" * 100_000), KafkaRefusedError, ("without an access",)),
    ],
)
def test_a_token_endpoint_that_is_away_or_refuses_is_reported_without_its_message(
    secure: SecureKafka,
    answer: tuple[int, bytes] | None,
    kind: type[BridgeError],
    words: tuple[str, ...],
) -> None:
    """Of the body only the words of RFC 6749 are repeated."""
    changes = {} if answer else {"sasl_oauth_token_url": _AWAY}
    secure.provider.reset()
    secure.provider.answer = answer
    try:
        error = diagnosed(KafkaSettings(**of(secure, "TOKENS", None, changes)))
    finally:
        secure.provider.reset()
    assert isinstance(error, kind)
    for word in words:
        assert word in str(error)
    assert _silent(error)


def _silent(error: BridgeError) -> bool:
    """Whether neither an error nor what it came from shows a secret."""
    cause: BaseException | None = error
    while cause is not None:
        for secret in ("canary", PASSWORD, "correct-horse"):
            assert secret not in str(cause)
            assert secret not in repr(cause)
        cause = cause.__cause__ or cause.__context__
    return True
