"""Passwords and certificates that are exchanged while events flow.

The listener `ROTATING` ends each connection after a second and a half, so that a client
that doesn't follow its files is locked out soon.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
import trio

from bridge.kafka import tokens
from bridge.kafka.relay import outage
from bridge.settings import KafkaSettings, Secret
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    Rig,
    check_topic,
    opened,
    read_back,
    rig,
    sending,
    settings_for,
    until,
)
from tests.kafka.security.test_signing_in import topic_of
from tests.kit.authorities import Identity
from tests.kit.secure_kafka import PASSWORD, ROTATING_USER, SecureKafka


# Longer than the exchange takes on a machine that is busy otherwise.
_LIFE_SECONDS = 8.0


def put(file: Path, content: bytes) -> None:
    """Exchange a file at once, as Kubernetes does."""
    fresh = file.with_suffix(".fresh")
    fresh.write_bytes(content)
    os.replace(fresh, file)  # noqa: PTH105 - blocking, and quick


class Mounted:
    """The files of a bridge that signs in at `ROTATING`, as they were mounted."""

    def __init__(self, secure: SecureKafka, folder: Path) -> None:
        secure.set_password(ROTATING_USER, PASSWORD)
        secure.set_certificate(secure.authority)
        self._secure = secure
        self.password = folder / "password"
        self.trust = folder / "trust.pem"
        self.certificate = folder / "tls.crt"
        self.key = folder / "tls.key"
        put(self.password, PASSWORD.encode())
        put(self.trust, secure.authority.certificate)
        own = self.identity()
        put(self.certificate, own.certificate.read_bytes())
        put(self.key, own.key.read_bytes())

    def identity(self, life_seconds: float = 3_600) -> Identity:
        """Make a certificate for the bridge, which the broker takes."""
        name = f"mounted-{uuid.uuid4().hex}"
        days = life_seconds / 86_400
        return self._secure.authority.identity(name, "bridge.example", days=days)

    def settings(self, topic: Topic, **changes: object) -> KafkaSettings:
        """Settings that name the files."""
        chosen: dict[str, Any] = {
            **self._secure.settings("ROTATING"),
            "sasl_password": Secret.from_file(self.password),
            "ssl_ca_file": str(self.trust),
            "ssl_cert_file": str(self.certificate),
            "ssl_key_file": str(self.key),
            **changes,
        }
        return settings_for(topic, **chosen)


@pytest.fixture
def mounted(secure: SecureKafka, tmp_path: Path) -> Mounted:
    """The files, set back."""
    return Mounted(secure, tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a silence looked into at once, instead of after some seconds."""
    monkeypatch.setattr(outage, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(outage, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(outage, "DIAGNOSE_SECONDS", 0.5)
    monkeypatch.setattr(tokens, "PAUSE_SECONDS", 0.5)


async def in_thread(work: object, *arguments: object) -> None:
    """Do what blocks without holding up the load."""
    assert callable(work)
    await trio.to_thread.run_sync(work, *arguments)


async def changed_under_load(running: Rig, topic: Topic, *changes: object) -> int:
    """Feed events, make each change after a second, and give their number."""
    count = 0

    async def keep_feeding() -> None:
        nonlocal count
        while True:
            running.offer(topic.name, range(count, count + 10))
            count += 10
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_feeding)
        for change in changes:
            await trio.sleep(1)
            await in_thread(change)
        # No connection of before outlives this.
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    return count


@pytest.mark.timeout(120)
@pytest.mark.parametrize("delivery", ["idempotent", "transactional"])
async def test_a_password_exchanged_under_load_costs_nothing(
    secure: SecureKafka,
    mounted: Mounted,
    tmp_path: Path,
    delivery: Literal["idempotent", "transactional"],
) -> None:
    """At the broker first, in the file a second later: all arrives once, in order."""
    topic = topic_of(secure, 2)
    folder = tmp_path / "outbox"
    with structlog.testing.capture_logs() as lines:
        async with rig(
            mounted.settings(topic), [topic.name], folder, delivery=delivery
        ) as running:
            await opened(running, topic.partitions)
            count = await changed_under_load(
                running,
                topic,
                lambda: secure.set_password(ROTATING_USER, "canary-of-the-next"),
                lambda: put(mounted.password, b"canary-of-the-next\n"),
            )
            await running.all_sent(topic.name, count)
            assert running.errors == []
    check_topic(await read_back(topic), range(count))
    (renewed,) = [line for line in lines if line["event"] == "credentials.renewed"]
    assert renewed["what"] == "password"
    assert "canary" not in str(lines)


@pytest.mark.timeout(120)
async def test_a_certificate_that_runs_out_under_load_is_exchanged_in_time(
    secure: SecureKafka, mounted: Mounted, tmp_path: Path
) -> None:
    """The bridge's own, one file after the other, before the broker refuses it."""
    topic = topic_of(secure, 2)
    folder = tmp_path / "outbox"
    ends_at = time.time() + _LIFE_SECONDS
    short, long = mounted.identity(_LIFE_SECONDS), mounted.identity()
    put(mounted.certificate, short.certificate.read_bytes())
    put(mounted.key, short.key.read_bytes())

    def exchange_key() -> None:
        put(mounted.key, long.key.read_bytes())
        assert time.time() < ends_at, "the machine is too slow for this test"

    with structlog.testing.capture_logs() as lines:
        async with sending(topic, folder, settings=mounted.settings(topic)) as running:
            count = await changed_under_load(
                running,
                topic,
                lambda: put(mounted.certificate, long.certificate.read_bytes()),
                exchange_key,
            )
            # No connection of before outlives this.
            await trio.sleep(max(ends_at + 2 - time.time(), 0))
            running.offer(topic.name, range(count, count + 100))
            await running.all_sent(topic.name, count + 100)
            assert running.relay.statistics.producer_recycles == 0
            assert running.errors == []
    check_topic(await read_back(topic), range(count + 100))
    told = [line["event"] for line in lines if line["event"].startswith("credentials")]
    # Whether the two files were looked at in between is chance.
    assert told[-1] == "credentials.renewed"


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("impatient")
async def test_a_broker_that_is_no_longer_trusted_is_reported_while_events_gather(
    secure: SecureKafka, mounted: Mounted, tmp_path: Path
) -> None:
    """Its certificate is another authority's; exchanged, all arrive."""
    topic = topic_of(secure)
    folder = tmp_path / "outbox"
    async with sending(topic, folder, settings=mounted.settings(topic)) as running:
        statistics = running.relay.statistics
        words = "kafka.ssl_ca_file (BRIDGE_KAFKA_SSL_CA_FILE)"
        try:
            await in_thread(secure.set_certificate, secure.stranger)
            # The connection of before goes on until the broker ends it.
            await trio.sleep(2)
            running.offer(topic.name, range(100))
            await until(lambda: words in str(statistics.last_error))
            assert not statistics.connected
            await running.committed(100)
            assert running.sent(topic.name) == 0
        finally:
            await in_thread(secure.set_certificate, secure.authority)
        await running.all_sent(topic.name, 100)
        await until(lambda: statistics.connected)
        assert running.errors == []
    check_topic(await read_back(topic), range(100))
