"""How a start ends that never worked, and what keeps it going."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
import trio

from bridge.errors import ConfigError, KafkaRefusedError, KafkaUnreachableError
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    check_topic,
    read_back,
    rig,
    settings_for,
    until,
)
from tests.kit.broker import KafkaBroker
from tests.kit.process import free_ports


def nowhere() -> str:
    """An address at which nothing listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


async def test_an_unreachable_kafka_ends_a_start_with_nothing_to_keep(
    tmp_path: Path,
) -> None:
    """After the start timeout the error names the address and the setting."""
    settings = KafkaSettings(bootstrap_servers=nowhere(), start_timeout_seconds=0.5)
    async with rig(settings, [["jobs"], ["jobs.dlq"]], tmp_path) as running:
        with trio.fail_after(DEADLINE_SECONDS):
            await running.ended.wait()
        (error,) = running.errors
        assert isinstance(error, KafkaUnreachableError)
        assert settings.bootstrap_servers in str(error)
        assert "BRIDGE_KAFKA_BOOTSTRAP_SERVERS" in str(error)


async def test_draining_ends_a_relay_that_never_reached_kafka(tmp_path: Path) -> None:
    """With rows waiting for an absent Kafka, drain returns and the rows are kept."""
    settings = KafkaSettings(bootstrap_servers=nowhere(), start_timeout_seconds=0.5)
    async with rig(settings, ["jobs"], tmp_path) as running:
        running.offer("jobs", range(5))
        await running.committed(5)
        await until(lambda: running.relay.statistics.last_error is not None)
        with trio.fail_after(DEADLINE_SECONDS):
            await running.drain()
        assert running.errors == []
        assert running.outbox.statistics.rows == 5


async def test_a_missing_topic_is_waited_for_while_rows_wait(
    kafka: KafkaBroker, topic: Topic, tmp_path: Path
) -> None:
    """Rows are worth more than a quick end: they go when the topic is created."""
    absent = f"{topic.name}-later"
    async with rig(
        settings_for(topic), [absent], tmp_path, relay_waits=True
    ) as running:
        running.offer(absent, range(10))
        await running.committed(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            await until(lambda: running.relay.statistics.last_error is not None)
            assert not running.relay.statistics.ever_connected
            await trio.to_thread.run_sync(kafka.create_topic, absent, 2)
            await running.all_sent(absent, 10)
            running.relay.abort()
    check_topic(await read_back(topic, absent), range(10))


async def test_a_topic_that_kafka_refuses_to_create_ends_the_start(
    topic: Topic, tmp_path: Path
) -> None:
    """The error has the broker's reason and the settings that it is about."""
    settings = settings_for(topic, create_topics=True, replication_factor=3)
    name = f"{topic.name}-wide"
    async with rig(settings, [name], tmp_path) as running:
        with trio.fail_after(DEADLINE_SECONDS):
            await running.ended.wait()
        (error,) = running.errors
        assert isinstance(error, KafkaRefusedError)
        assert name in str(error)
        assert "kafka.replication_factor (3)" in str(error)


async def test_a_name_that_no_topic_can_have_ends_the_start(
    topic: Topic, tmp_path: Path
) -> None:
    """Kafka's rule for names is told, not waited out."""
    async with rig(settings_for(topic), ["no topic"], tmp_path) as running:
        with trio.fail_after(DEADLINE_SECONDS):
            await running.ended.wait()
        (error,) = running.errors
        assert isinstance(error, KafkaRefusedError)
        assert "'no topic'" in str(error)


async def test_an_unreadable_certificate_ends_the_start_as_a_setting(
    topic: Topic, tmp_path: Path
) -> None:
    """The error is the setting's, not a group of errors from a thread."""
    settings = settings_for(
        topic, security_protocol="SSL", ssl_ca_file=str(tmp_path / "absent.pem")
    )
    async with rig(settings, [["a"], ["b"]], tmp_path / "outbox") as running:
        with trio.fail_after(DEADLINE_SECONDS):
            await running.ended.wait()
        (error,) = running.errors
        assert isinstance(error, ConfigError)
        assert "kafka.ssl_ca_file" in str(error)


async def test_a_resolver_that_hangs_holds_no_end_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a broker is being looked up when the relay is told to end."""
    looked, answers = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        looked.set()
        answers.wait(DEADLINE_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    settings = KafkaSettings(bootstrap_servers="kafka.invalid:9092")
    async with rig(settings, ["jobs"], tmp_path) as running:
        await until(looked.is_set)
        running.relay.abort()
        try:
            # A client that is being started gets a second or two.
            with trio.fail_after(10.0):
                await running.ended.wait()
        finally:
            answers.set()
