"""A broker that demands it: what is wrong with certificates, passwords and tokens."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from bridge.errors import ExitCode
from tests.check.ground import ROLES, Ground, check_told, remarkable, variables
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


Change = Callable[[SecureKafka], dict[str, str | None]]


def given(**changes: str | None) -> Change:
    """Set variables, by the end of their names."""
    return lambda _: {f"BRIDGE_KAFKA_{name}": text for name, text in changes.items()}


def no_authority(secure: SecureKafka) -> dict[str, str | None]:
    """Have a key where the file of whom to trust should be."""
    key = secure.authority.identity("x", "x").key
    return {"BRIDGE_KAFKA_SSL_CA_FILE": str(key)}


# By listener and what is changed for it; the step that says so, and its words.
# What a password alone takes, test_faults has.
WRONGS: list[tuple[str, Change, str]] = [
    ("PASSWORDS", stranger, "kafka.tls|BRIDGE_KAFKA_SSL_CA_FILE"),
    ("PASSWORDS", no_authority, "kafka.tls|kafka.ssl_ca_file|PEM"),
    ("EXPIRED", given(), "kafka.tls|has expired|Renew it"),
    ("MISNAMED", given(), "kafka.brokers|another name|advertised.listeners"),
    (
        "MUTUAL",
        given(SSL_CERT_FILE=None, SSL_KEY_FILE=None),
        "kafka.tls|requires a client certificate|BRIDGE_KAFKA_SSL_CERT_FILE",
    ),
    *(
        (
            "MUTUAL",
            own_certificate(days),
            "kafka.tls|refuses the certificate|BRIDGE_KAFKA_SSL_CERT_FILE",
        )
        for days in (30, -1)
    ),
    (
        "PASSWORDS",
        given(SECURITY_PROTOCOL="SASL_PLAINTEXT", SSL_CA_FILE=None),
        "kafka.broker|speaks TLS|BRIDGE_KAFKA_SECURITY_PROTOCOL",
    ),
    (
        "SCRAM",
        given(SASL_USERNAME="nobody"),
        "kafka.sasl|refuses to let 'nobody' in|BRIDGE_KAFKA_SASL_USERNAME",
    ),
    (
        "TOKENS",
        given(SASL_OAUTH_CLIENT_SECRET="canary-of-a-typo"),
        "kafka.sasl|BRIDGE_KAFKA_SASL_OAUTH_CLIENT_SECRET",
    ),
    ("TOKENS", wrong_audience, "kafka.sasl|refuses the token|audience"),
]


@pytest.mark.parametrize(("listener", "change", "told"), WRONGS)
async def test_what_is_wrong_is_named(
    secure_ground: Ground,
    secure: SecureKafka,
    listener: str,
    change: Change,
    told: str,
) -> None:
    """The step that meets it has the broker's reason and the setting to change."""
    good = variables(secure.settings(listener))
    report = await secure_ground.check({**good, **change(secure)})
    usage = change is no_authority
    code = ExitCode.USAGE if usage else ExitCode.REFUSED_BY_KAFKA
    check_told(report, told, exit_code=code)
