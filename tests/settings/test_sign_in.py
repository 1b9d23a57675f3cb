"""Tests of what each way to sign in to Kafka needs, and what it leaves unused."""

from __future__ import annotations

import pytest

from bridge.settings import load
from tests.settings.starts import CANARY, check, environment


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
