"""From settings to a client's arguments, and requests beside aiokafka's consumer."""

from __future__ import annotations

import asyncio  # noqa: TID251 - runs the room's coroutines
import os
import re
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiokafka.errors as aiokafka_errors  # noqa: TID251 - what it translates
import psutil
import pytest
import trustme
from aiokafka import TopicPartition, errors  # noqa: TID251 - looked at

from bridge.errors import (
    ConfigError,
    KafkaError,
    KafkaRefusedError,
    KafkaUnreachableError,
)
from bridge.kafka import connection, requests
from bridge.kafka.connection import (
    client_arguments,
    connected,
    consuming,
    partitions_of,
    read_error,
)
from bridge.kafka.log import open_log
from bridge.kafka.probe import failed_start
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
from bridge.kafka.security import tls_context
from bridge.settings import KafkaSettings, Secret
from tests.conftest import Topic
from tests.kafka.reading.readers import DEADLINE_SECONDS, produce, settings_of
from tests.kafka.relay.faults import intercept
from tests.kit.authorities import Authority
from tests.kit.broker import KafkaBroker
from tests.kit.kafka import KafkaServer
from tests.kit.writer import Sent, open_transaction


_PASSWORD = "swordfish-7"  # a made-up secret that must not be seen


def test_a_key_that_does_not_fit_names_both_settings(tmp_path: Path) -> None:
    """A certificate with another's key is refused with the two settings' names."""
    authority = trustme.CA()
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.issue_cert("a.example").cert_chain_pems[0].write_to_path(certificate)
    authority.issue_cert("b.example").private_key_pem.write_to_path(key)
    settings = KafkaSettings(
        security_protocol="SSL",
        ssl_cert_file=str(certificate),
        ssl_key_file=str(key),
    )
    with pytest.raises(ConfigError, match=r"kafka\.ssl_cert_file") as caught:
        client_arguments(settings)
    assert "kafka.ssl_key_file" in str(caught.value)


@pytest.mark.parametrize("password", [None, Secret("wrong")])
def test_a_locked_key_without_its_password_is_an_error(
    tmp_path: Path, password: Secret | None
) -> None:
    """OpenSSL would ask at the terminal, and wait there for ever."""
    identity = Authority(tmp_path, "authority").identity("one", "a.example")
    locked = identity.locked("right")
    settings = KafkaSettings(
        security_protocol="SSL",
        ssl_cert_file=str(locked.certificate),
        ssl_key_file=str(locked.key),
        ssl_key_password=password,
    )
    with pytest.raises(ConfigError, match=r"kafka\.ssl_key_password"):
        client_arguments(settings)


def diagnose(settings: KafkaSettings) -> KafkaError:
    """Run the diagnosis in a loop of its own."""
    return asyncio.run(failed_start(settings, timeout_seconds=2.0))


def test_each_address_has_its_reason() -> None:
    """With several brokers all are tried, and the sentence says why each failed."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    servers = f"127.0.0.1:{port},no-such-host.invalid:9092"
    error = diagnose(KafkaSettings(bootstrap_servers=servers))
    assert isinstance(error, KafkaUnreachableError)
    assert servers in str(error)
    assert f"127.0.0.1:{port}: Connection refused" in str(error)
    assert re.search(r"no-such-host\.invalid:9092: \S", str(error))


def test_a_broker_that_is_back_meanwhile_is_reported(kafka: KafkaBroker) -> None:
    """When the second probe succeeds, the error says so instead of a cause."""
    error = diagnose(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers))
    assert isinstance(error, KafkaUnreachableError)
    assert "answers now, but did not at the start" in str(error)


@pytest.mark.parametrize(
    ("raised", "kind", "word"),
    [
        (
            aiokafka_errors.TopicAuthorizationFailedError("jobs"),
            KafkaRefusedError,
            "Grant the user Read on the topic jobs",
        ),
        (TimeoutError(), KafkaUnreachableError, "nothing within"),
        (aiokafka_errors.CorruptRecordException("x"), KafkaError, "CorruptRecord"),
    ],
)
def test_each_failure_while_reading_has_its_sentence(
    raised: Exception, kind: type[KafkaError], word: str
) -> None:
    """What aiokafka raises becomes the bridge's error with what to look at."""
    error = read_error(KafkaSettings(), ["jobs"], raised)
    assert type(error) is kind
    assert word in str(error)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("setting", ["ssl_ca_file", "ssl_cert_file", "ssl_key_file"])
def test_a_fifo_is_an_error_and_not_waited_for(tmp_path: Path, setting: str) -> None:
    """OpenSSL would wait for a writer, and the relay with it."""
    authority = trustme.CA()
    issued = authority.issue_cert("bridge.test")
    files = {
        name: tmp_path / name
        for name in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")
    }
    authority.cert_pem.write_to_path(files["ssl_ca_file"])
    issued.cert_chain_pems[0].write_to_path(files["ssl_cert_file"])
    issued.private_key_pem.write_to_path(files["ssl_key_file"])
    settings = KafkaSettings(
        **{name: str(path) for name, path in files.items()},  # type: ignore[arg-type]
    )
    tls_context(settings)
    files[setting].unlink()
    os.mkfifo(files[setting])
    with pytest.raises(ConfigError, match="is not a regular file"):
        tls_context(settings)


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
