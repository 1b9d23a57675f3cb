"""A client that lives long follows its files."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from bridge.errors import ConfigError
from bridge.kafka.client.connection import client_arguments
from bridge.kafka.client.credentials import Credentials
from bridge.settings import KafkaSettings, Secret
from tests.kafka.security.test_rotation import put
from tests.kit.authorities import Authority


def client_of(settings: KafkaSettings) -> Any:
    """Give the attributes by which aiokafka's client connects."""
    arguments = client_arguments(settings)
    return SimpleNamespace(
        _ssl_context=arguments.get("ssl_context"),
        _sasl_plain_password=arguments.get("sasl_plain_password"),
    )


def trusts(context: ssl.SSLContext, authority: Authority) -> bool:
    """Whether a context trusts an authority, and nobody else."""
    own = ssl.PEM_cert_to_DER_cert(authority.certificate.decode())
    return context.get_ca_certs(binary_form=True) == [own]


def test_a_pair_that_is_exchanged_one_after_the_other_is_waited_for(
    tmp_path: Path,
) -> None:
    """A new certificate with the old key is told once; with its own key it is taken."""
    authority = Authority(tmp_path, "authority")
    first = authority.identity("first", "a.example")
    second = authority.identity("second", "b.example")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    put(certificate, first.certificate.read_bytes())
    put(key, first.key.read_bytes())
    settings = KafkaSettings(
        security_protocol="SSL", ssl_cert_file=str(certificate), ssl_key_file=str(key)
    )
    credentials = Credentials(settings)
    client = client_of(settings)
    before = client._ssl_context
    with structlog.testing.capture_logs() as lines:
        credentials.follow(client)
        assert client._ssl_context is before
        put(certificate, second.certificate.read_bytes())
        for _ in range(3):
            credentials.follow(client)
        assert client._ssl_context is before
        put(key, second.key.read_bytes())
        credentials.follow(client)
        assert client._ssl_context is not before
        after = client._ssl_context
        credentials.follow(client)
        assert client._ssl_context is after
    assert [line["event"] for line in lines] == [
        "credentials.unfit",
        "credentials.renewed",
    ]
    assert "kafka.ssl_key_file" in lines[0]["error"]


def test_another_authority_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """Who was trusted is trusted no more; a file that is gone changes nothing."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    trust = tmp_path / "trust.pem"
    put(trust, old.certificate)
    settings = KafkaSettings(security_protocol="SSL", ssl_ca_file=str(trust))
    credentials = Credentials(settings)
    client = client_of(settings)
    trust.unlink()
    credentials.follow(client)
    assert trusts(client._ssl_context, old)
    put(trust, new.certificate)
    credentials.follow(client)
    assert trusts(client._ssl_context, new)


def test_a_password_is_taken_from_its_file(tmp_path: Path) -> None:
    """Without TLS as well, and none of it stands in the log."""
    file = tmp_path / "password"
    put(file, b"canary-1")
    settings = KafkaSettings(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="bridge",
        sasl_password=Secret.from_file(file),
    )
    credentials = Credentials(settings)
    client = client_of(settings)
    put(file, b"canary-2\n")
    with structlog.testing.capture_logs() as lines:
        credentials.follow(client)
    assert client._sasl_plain_password == "canary-2"
    assert client._ssl_context is None
    assert "canary" not in str(lines)


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
