"""From settings to a client's arguments, and from a failed start to a sentence."""

from __future__ import annotations

import asyncio  # noqa: TID251 - runs the room's coroutines
import os
import re
import socket
from pathlib import Path

import aiokafka.errors as aiokafka_errors  # noqa: TID251 - what it translates
import pytest
import trustme

from bridge.errors import (
    ConfigError,
    KafkaError,
    KafkaRefusedError,
    KafkaUnreachableError,
)
from bridge.kafka.connection import client_arguments, read_error
from bridge.kafka.probe import failed_start
from bridge.kafka.security import tls_context
from bridge.settings import KafkaSettings, Secret
from tests.kit.authorities import Authority
from tests.kit.broker import KafkaBroker


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
