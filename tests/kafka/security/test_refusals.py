"""What is wrong with how the bridge signs in, named within seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from bridge.errors import (
    BridgeError,
    ExitCode,
    KafkaRefusedError,
    KafkaUnreachableError,
)
from bridge.settings import KafkaSettings, Secret
from tests.kafka.relay.relaying import rig, settings_for
from tests.kafka.security.granting import diagnosed
from tests.kafka.security.test_signing_in import topic_of
from tests.kit.process import free_ports
from tests.kit.secure_kafka import PASSWORD, SecureKafka


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
