"""Tests of what signing in needs, and of what leaves this machine in the clear."""

from __future__ import annotations

import pytest

from bridge.errors import ConfigError
from bridge.settings import Scope, load
from bridge.settings.checks import is_this_machine
from tests.settings.starts import CANARY, Wrong, check, environment


_OF_A_CLIENT = ("TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET")
_WITH_PASSWORDS = "PLAIN or SCRAM-SHA-256 or SCRAM-SHA-512"

OAUTH = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "KAFKA_SASL_OAUTH_TOKEN_URL": "https://id.example/token",
    "KAFKA_SASL_OAUTH_CLIENT_ID": "bridge",
    "KAFKA_SASL_OAUTH_CLIENT_SECRET": CANARY,
}
AWS = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "AWS_MSK_IAM",
    "KAFKA_SASL_AWS_REGION": "eu-west-1",
}
SCRAM = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "u",
    "KAFKA_SASL_PASSWORD": CANARY,
}


@pytest.mark.parametrize("settings", [OAUTH, AWS, SCRAM])
def test_what_is_needed_is_enough(settings: dict[str, str]) -> None:
    """With these alone each mechanism loads, and shows no secret."""
    loaded = load({}, environment(settings), None)
    assert loaded.settings.kafka.sasl_mechanism == settings["KAFKA_SASL_MECHANISM"]
    assert CANARY not in repr(loaded)


_MISSING = [
    *((OAUTH, f"KAFKA_SASL_OAUTH_{of}") for of in _OF_A_CLIENT),
    (AWS, "KAFKA_SASL_AWS_REGION"),
    *((SCRAM, f"KAFKA_SASL_{of}") for of in ("USERNAME", "PASSWORD")),
]


def test_what_is_missing_is_named_with_its_mechanism() -> None:
    """One line, which says what wants it."""
    check(
        (
            {name: text for name, text in settings.items() if name != missing},
            missing.lower().replace("_", ".", 1),
            f"kafka.sasl_mechanism {settings['KAFKA_SASL_MECHANISM']} needs it",
        )
        for settings, missing in _MISSING
    )


# What is set beside what a mechanism needs, and what the line says of it: whose it
# is, or what it looks like.
_MORE: list[tuple[dict[str, str], str, str, str]] = [
    (OAUTH, "USERNAME", "u", f"must be {_WITH_PASSWORDS}"),
    (OAUTH, "AWS_REGION", "eu-west-1", "must be AWS_MSK_IAM"),
    (AWS, "PASSWORD", CANARY, f"must be {_WITH_PASSWORDS}"),
    (SCRAM, "OAUTH_SCOPE", "kafka", "must be OAUTHBEARER"),
    (SCRAM, "OAUTH_EXTENSIONS", "a=b", "must be OAUTHBEARER"),
    # What would only fail at the broker is told at the start.
    (OAUTH, "OAUTH_TOKEN_URL", "id.example", ""),
    (OAUTH, "OAUTH_TOKEN_URL", f"https://u:{CANARY}@id.example", ""),
    *(
        (OAUTH, "OAUTH_EXTENSIONS", text, "")
        for text in ("a", "a=1,a=2", "a1=1", f"auth={CANARY}")
    ),
    # It becomes part of the address that is signed.
    (AWS, "AWS_REGION", "eu-west-1.evil.example/", ""),
]


def test_what_nothing_uses_or_cannot_be_is_named() -> None:
    """A setting that nothing uses is a mistake, as is one that no broker takes."""
    check(
        (settings | {f"KAFKA_SASL_{name}": text}, f"kafka.sasl_{name.lower()}", words)
        for settings, name, text, words in _MORE
    )


PLAIN = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_MECHANISM": "PLAIN",
    "KAFKA_SASL_USERNAME": "u",
    "KAFKA_SASL_PASSWORD": CANARY,
}
CLEAR = OAUTH | {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}
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
    ({"PUSHER_URL": "ws://soketi.example"}, "pusher.url", "wss:// encrypts"),
    ({"SCHEMA_REGISTRY_URL": "http://registry"}, "schema_registry.url", "https://"),
    (
        {
            **PLAIN,
            **REMOTE,
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        },
        "kafka.security_protocol",
        "SASL_SSL encrypts",
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
    ({**CLEAR, **REMOTE}, "kafka.security_protocol", "the token of OAUTHBEARER"),
    ({"API_URL": "http://api.example"}, "api_url", "the API token"),
    (
        {
            **OAUTH,
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
        load({}, environment(PLAIN, REMOTE), None, Scope.READING)
    assert load({}, environment(REMOTE), None, Scope.READING).warnings == ()
    allowed = {"ALLOW_CLEARTEXT_CREDENTIALS": "true"}
    load({}, environment(PLAIN, REMOTE, allowed), None, Scope.READING)
