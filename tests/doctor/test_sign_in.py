"""A broker that demands it: what is wrong with certificates, passwords and tokens."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from bridge.doctor import Outcome
from bridge.errors import ExitCode
from tests.doctor.ground import ROLES, Ground, only_remarkable, remarkable, variables
from tests.kit.secure_kafka import SecureKafka


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def secure_ground(ground: Ground, secure: SecureKafka) -> Iterator[Ground]:
    """The same with topics of the broker that demands it."""
    mark = uuid.uuid4().hex[:12]
    for role, variable in ROLES.items():
        secure.create_topic(f"{role}-{mark}", 1)
        ground.environ[variable] = f"{role}-{mark}"
    for name in list(ground.environ):
        if name.startswith("BRIDGE_KAFKA_"):
            del ground.environ[name]
    yield ground
    secure.provider.reset()


@pytest.mark.parametrize(
    ("listener", "mechanism"),
    [("PASSWORDS", "SCRAM-SHA-512"), ("MUTUAL", None), ("TOKENS", "OAUTHBEARER")],
)
async def test_who_is_let_in_has_nothing_remarkable(
    secure_ground: Ground, secure: SecureKafka, listener: str, mechanism: str | None
) -> None:
    """Certificates, passwords and tokens, each with its steps."""
    report = await secure_ground.check(variables(secure.settings(listener, mechanism)))
    assert list(remarkable(report)) == []
    steps = {line.step for line in report.lines}
    assert "kafka.tls" in steps
    assert ("kafka.sasl" in steps) is (mechanism is not None)
    assert report.exit_code is ExitCode.CLEAN


@dataclass(frozen=True)
class Wrong:
    """Something that the broker doesn't take, and how it is told."""

    listener: str
    change: Callable[[SecureKafka], dict[str, str | None]]
    step: str
    words: tuple[str, ...]


def nothing(_: SecureKafka) -> dict[str, str | None]:
    """Change nothing: the listener itself is at fault."""
    return {}


def stranger(secure: SecureKafka) -> dict[str, str | None]:
    """Trust somebody else."""
    return {"BRIDGE_KAFKA_SSL_CA_FILE": str(secure.stranger.file)}


def own_certificate(days: int) -> Callable[[SecureKafka], dict[str, str | None]]:
    """Show a certificate that the broker may not trust, or not any more."""

    def make(secure: SecureKafka) -> dict[str, str | None]:
        by = secure.stranger if days > 0 else secure.authority
        identity = by.identity(f"client-{days}", "bridge.example", days=days)
        return {
            "BRIDGE_KAFKA_SSL_CERT_FILE": str(identity.certificate),
            "BRIDGE_KAFKA_SSL_KEY_FILE": str(identity.key),
        }

    return make


def wrong_audience(secure: SecureKafka) -> dict[str, str | None]:
    """Have tokens for another service given out."""
    secure.provider.audience = "somebody-else"
    return {}


WRONGS = {
    "an authority that isn't trusted": Wrong(
        "PASSWORDS", stranger, "kafka.tls", ("BRIDGE_KAFKA_SSL_CA_FILE",)
    ),
    "a CA file that is none": Wrong(
        "PASSWORDS",
        lambda secure: {
            "BRIDGE_KAFKA_SSL_CA_FILE": str(secure.authority.identity("x", "x").key)
        },
        "kafka.tls",
        ("kafka.ssl_ca_file", "PEM"),
    ),
    "a certificate that has expired": Wrong(
        "EXPIRED", nothing, "kafka.tls", ("has expired", "Renew it")
    ),
    "brokers under a name without certificate": Wrong(
        "MISNAMED", nothing, "kafka.brokers", ("another name", "advertised.listeners")
    ),
    "no certificate of one's own": Wrong(
        "MUTUAL",
        lambda _: {
            "BRIDGE_KAFKA_SSL_CERT_FILE": None,
            "BRIDGE_KAFKA_SSL_KEY_FILE": None,
        },
        "kafka.tls",
        ("wants a certificate", "BRIDGE_KAFKA_SSL_CERT_FILE"),
    ),
    "a certificate of a stranger": Wrong(
        "MUTUAL",
        own_certificate(30),
        "kafka.tls",
        ("refuses the certificate", "BRIDGE_KAFKA_SSL_CERT_FILE"),
    ),
    "a certificate of one's own that has expired": Wrong(
        "MUTUAL",
        own_certificate(-1),
        "kafka.tls",
        ("refuses the certificate", "BRIDGE_KAFKA_SSL_CERT_FILE"),
    ),
    "no TLS where the broker wants it": Wrong(
        "PASSWORDS",
        lambda _: {
            "BRIDGE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "BRIDGE_KAFKA_SSL_CA_FILE": None,
        },
        "kafka.broker",
        ("speaks TLS", "BRIDGE_KAFKA_SECURITY_PROTOCOL"),
    ),
    "a wrong password": Wrong(
        "SCRAM",
        lambda _: {"BRIDGE_KAFKA_SASL_PASSWORD": "canary-of-a-typo"},
        "kafka.sasl",
        ("refuses to let 'bridge' in", "BRIDGE_KAFKA_SASL_PASSWORD"),
    ),
    "an unknown user": Wrong(
        "SCRAM",
        lambda _: {"BRIDGE_KAFKA_SASL_USERNAME": "nobody"},
        "kafka.sasl",
        ("refuses to let 'nobody' in", "BRIDGE_KAFKA_SASL_USERNAME"),
    ),
    "a mechanism that the listener lacks": Wrong(
        "SCRAM",
        lambda _: {"BRIDGE_KAFKA_SASL_MECHANISM": "PLAIN"},
        "kafka.sasl",
        ("SCRAM-SHA-512", "BRIDGE_KAFKA_SASL_MECHANISM"),
    ),
    "a client that the provider refuses": Wrong(
        "TOKENS",
        lambda _: {"BRIDGE_KAFKA_SASL_OAUTH_CLIENT_SECRET": "canary-of-a-typo"},
        "kafka.sasl",
        ("BRIDGE_KAFKA_SASL_OAUTH_CLIENT_SECRET",),
    ),
    "a token for somebody else": Wrong(
        "TOKENS", wrong_audience, "kafka.sasl", ("refuses the token", "audience")
    ),
}


@pytest.mark.parametrize("name", WRONGS)
async def test_what_is_wrong_is_named(
    secure_ground: Ground, secure: SecureKafka, name: str
) -> None:
    """The step that meets it has the broker's reason and the setting to change."""
    wrong = WRONGS[name]
    good = variables(secure.settings(wrong.listener))
    report = await secure_ground.check({**good, **wrong.change(secure)})
    line = only_remarkable(report)
    assert (line.step, line.outcome) == (wrong.step, Outcome.FAILURE)
    for word in wrong.words:
        assert word in f"{line.detail} {line.remedy}"
    assert line.remedy
    assert report.exit_code in {ExitCode.REFUSED_BY_KAFKA, ExitCode.USAGE}
    assert "canary" not in str(report)
