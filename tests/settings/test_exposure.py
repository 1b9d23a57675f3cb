"""Tests of what leaves this machine in the clear: told, or refused."""

from __future__ import annotations

import pytest

from bridge.errors import ConfigError
from bridge.settings import load, load_for_reading
from bridge.settings.exposure import is_this_machine
from tests.settings.starts import CANARY, Wrong, check, environment


PLAIN = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_MECHANISM": "PLAIN",
    "KAFKA_SASL_USERNAME": "u",
    "KAFKA_SASL_PASSWORD": CANARY,
}
OAUTH = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "KAFKA_SASL_OAUTH_TOKEN_URL": "https://id.example/token",
    "KAFKA_SASL_OAUTH_CLIENT_ID": "bridge",
    "KAFKA_SASL_OAUTH_CLIENT_SECRET": CANARY,
}
REMOTE = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092,kafka.prod.svc:9092"}
REGISTRY = {
    "SCHEMA_REGISTRY_URL": "http://registry:8081",
    "SCHEMA_REGISTRY_USERNAME": "u",
    "SCHEMA_REGISTRY_PASSWORD": CANARY,
}


_HOSTS: list[tuple[str, bool]] = [
    ("localhost", True),
    ("LOCALHOST.", True),
    ("kafka.localhost", True),
    ("127.0.0.1", True),
    ("127.8.9.1", True),
    ("::1", True),
    ("kafka", False),
    ("localhost.example", False),
    ("10.0.0.1", False),
    ("0.0.0.0", False),  # noqa: S104 - nothing is bound
    ("fe80::1", False),
]


def test_loopback_alone_is_this_machine(subtests: pytest.Subtests) -> None:
    """By its name; nothing is looked up."""
    for host, expected in _HOSTS:
        with subtests.test(host=host, expected=expected):
            assert is_this_machine(host) is expected


_WARNED: list[tuple[dict[str, str], str, str]] = [
    (REMOTE, "kafka.security_protocol", "kafka.prod.svc can be read"),
    ({"PUSHER_URL": "ws://soketi.example"}, "pusher.url", "wss:// is what"),
    ({"SCHEMA_REGISTRY_URL": "http://registry"}, "schema_registry.url", "https://"),
    (
        {
            **PLAIN,
            **REMOTE,
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        },
        "kafka.security_protocol",
        "SASL_SSL is what encrypts",
    ),
]


def test_a_connection_without_tls_to_another_machine_is_told(
    subtests: pytest.Subtests,
) -> None:
    """It may be a cluster's own network, so that the bridge starts, and says so."""
    for settings, path, words in _WARNED:
        with subtests.test(settings=settings, path=path):
            loaded = load({}, environment(settings), None)
            (line,) = loaded.warnings
            assert line.startswith(f"{path} (BRIDGE_")
            assert words in line


_UNWARNED: list[dict[str, str]] = [
    {},
    PLAIN,
    {"API_URL": "http://127.0.0.1:1", "PUSHER_URL": "ws://[::1]:6001"},
    {"KAFKA_SECURITY_PROTOCOL": "SSL", **REMOTE},
]


def test_nothing_is_told_of_this_machine_or_of_tls(subtests: pytest.Subtests) -> None:
    """The defaults, a laptop's servers and encrypted ones pass without a word."""
    for settings in _UNWARNED:
        with subtests.test(settings=settings):
            assert load({}, environment(settings), None).warnings == ()


SHOWN: list[Wrong] = [
    ({**PLAIN, **REMOTE}, "kafka.security_protocol", "the password of PLAIN"),
    ({**OAUTH, **REMOTE}, "kafka.security_protocol", "the token of OAUTHBEARER"),
    ({"API_URL": "http://api.example"}, "api_url", "the API token"),
    (
        {
            **OAUTH,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_OAUTH_TOKEN_URL": "http://id.example/token",
        },
        "kafka.sasl_oauth_token_url",
        "the client secret",
    ),
    (REGISTRY, "schema_registry.url", "schema_registry.password"),
]


def test_a_secret_does_not_leave_this_machine_in_the_clear() -> None:
    """It is refused, with what would encrypt it and with the setting that lets it."""
    check(SHOWN, "BRIDGE_ALLOW_CLEARTEXT_CREDENTIALS")


def test_readers_are_held_to_it_and_not_told() -> None:
    """`bridge tail` sends the same password; a warning each time would be noise."""
    with pytest.raises(ConfigError, match="the password of PLAIN"):
        load_for_reading({}, environment(PLAIN, REMOTE), None)
    assert load_for_reading({}, environment(REMOTE), None).warnings == ()
    allowed = {"ALLOW_CLEARTEXT_CREDENTIALS": "true"}
    load_for_reading({}, environment(PLAIN, REMOTE, allowed), None)
