"""Tests of what each way to sign in to Kafka needs, and what it leaves unused."""

from __future__ import annotations

import pytest

from bridge.errors import ConfigError
from bridge.settings import load


NEEDED = {"BRIDGE_CLIENT_ID": "client-1", "BRIDGE_API_TOKEN": "token-1"}
CANARY = "canary7d1f"

OAUTH = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "OAUTHBEARER",
    "SASL_OAUTH_TOKEN_URL": "https://id.example/token",
    "SASL_OAUTH_CLIENT_ID": "bridge",
    "SASL_OAUTH_CLIENT_SECRET": CANARY,
}
AWS = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "AWS_MSK_IAM",
    "SASL_AWS_REGION": "eu-west-1",
}
SCRAM = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "SCRAM-SHA-512",
    "SASL_USERNAME": "u",
    "SASL_PASSWORD": CANARY,
}


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Give Kafka's settings as variables, beside what all need."""
    return NEEDED | {f"BRIDGE_KAFKA_{name}": text for name, text in settings.items()}


def lines(settings: dict[str, str]) -> list[str]:
    """Give what is wrong, a line each; no secret stands in it."""
    with pytest.raises(ConfigError) as caught:
        load({}, environment(settings), None)
    assert CANARY not in str(caught.value)
    return str(caught.value).split("\n")


@pytest.mark.parametrize("settings", [OAUTH, AWS, SCRAM])
def test_what_is_needed_is_enough(settings: dict[str, str]) -> None:
    """With these alone each mechanism loads, and shows no secret."""
    loaded = load({}, environment(settings), None)
    assert loaded.settings.kafka.sasl_mechanism == settings["SASL_MECHANISM"]
    assert CANARY not in repr(loaded)


_MISSING: list[tuple[dict[str, str], str]] = [
    (OAUTH, "SASL_OAUTH_TOKEN_URL"),
    (OAUTH, "SASL_OAUTH_CLIENT_ID"),
    (OAUTH, "SASL_OAUTH_CLIENT_SECRET"),
    (AWS, "SASL_AWS_REGION"),
    (SCRAM, "SASL_USERNAME"),
    (SCRAM, "SASL_PASSWORD"),
]


def test_what_is_missing_is_named_with_its_mechanism(subtests: pytest.Subtests) -> None:
    """One line, which says what wants it."""
    for settings, missing in _MISSING:
        with subtests.test(settings=settings, missing=missing):
            (line,) = lines(
                {name: settings[name] for name in settings if name != missing}
            )
            assert line.startswith(f"kafka.{missing.lower()} (BRIDGE_KAFKA_{missing}")
            assert f"kafka.sasl_mechanism {settings['SASL_MECHANISM']} needs it" in line


_UNUSED: list[tuple[dict[str, str], dict[str, str], str]] = [
    (OAUTH, {"SASL_USERNAME": "u"}, "PLAIN or SCRAM-SHA-256 or SCRAM-SHA-512"),
    (OAUTH, {"SASL_AWS_REGION": "eu-west-1"}, "AWS_MSK_IAM"),
    (AWS, {"SASL_PASSWORD": CANARY}, "PLAIN or SCRAM-SHA-256 or SCRAM-SHA-512"),
    (SCRAM, {"SASL_OAUTH_SCOPE": "kafka"}, "OAUTHBEARER"),
    (SCRAM, {"SASL_OAUTH_EXTENSIONS": "a=b"}, "OAUTHBEARER"),
]


def test_what_another_mechanism_uses_is_named(subtests: pytest.Subtests) -> None:
    """A setting that nothing uses is a mistake, and whose it is stands there."""
    for settings, more, fitting in _UNUSED:
        with subtests.test(settings=settings, more=more):
            (line,) = lines(settings | more)
            (name,) = more
            assert line.startswith(f"kafka.{name.lower()} (")
            assert f"it must be {fitting}" in line


_IMPOSSIBLE: list[tuple[dict[str, str], str, str]] = [
    (OAUTH, "SASL_OAUTH_TOKEN_URL", "id.example"),
    (OAUTH, "SASL_OAUTH_TOKEN_URL", f"https://u:{CANARY}@id.example"),
    (OAUTH, "SASL_OAUTH_EXTENSIONS", "a"),
    (OAUTH, "SASL_OAUTH_EXTENSIONS", "a=1,a=2"),
    (OAUTH, "SASL_OAUTH_EXTENSIONS", "a1=1"),
    (OAUTH, "SASL_OAUTH_EXTENSIONS", f"auth={CANARY}"),
    # It becomes part of the address that is signed.
    (AWS, "SASL_AWS_REGION", "eu-west-1.evil.example/"),
]


def test_a_value_that_cannot_be_is_refused(subtests: pytest.Subtests) -> None:
    """What would only fail at the broker is told at the start."""
    for settings, name, text in _IMPOSSIBLE:
        with subtests.test(name=name, text=text):
            (line,) = lines(settings | {name: text})
            assert line.startswith(f"kafka.{name.lower()} (")
