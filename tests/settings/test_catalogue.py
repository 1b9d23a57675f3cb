"""Tests of the list that help, documentation and schema are made from."""

from __future__ import annotations

import re

import pytest

from bridge.settings import Kind, Settings, describe
from bridge.settings.catalogue import sections


ALL = {setting.path: setting for setting in describe()}


_PUBLIC: list[tuple[str, list[str], str | None]] = [
    ("topic", ["BRIDGE_TOPIC"], "--topic"),
    ("client_id", ["BRIDGE_CLIENT_ID"], "--client-id"),
    ("api_token", ["BRIDGE_API_TOKEN", "BRIDGE_API_TOKEN_FILE"], None),
    ("api_url", ["BRIDGE_API_URL"], "--api-url"),
    ("pusher.url", ["BRIDGE_PUSHER_URL"], "--pusher-url"),
    ("pusher.app_key", ["BRIDGE_PUSHER_APP_KEY"], None),
    (
        "kafka.bootstrap_servers",
        ["BRIDGE_KAFKA_BOOTSTRAP_SERVERS"],
        "--bootstrap-servers",
    ),
    (
        "kafka.sasl_password",
        ["BRIDGE_KAFKA_SASL_PASSWORD", "BRIDGE_KAFKA_SASL_PASSWORD_FILE"],
        None,
    ),
    ("kafka.ssl_ca_file", ["BRIDGE_KAFKA_SSL_CA_FILE"], None),
    ("delivery", ["BRIDGE_DELIVERY"], None),
    ("webhook.listen", ["BRIDGE_WEBHOOK_LISTEN"], None),
    (
        "webhook.secret",
        ["BRIDGE_WEBHOOK_SECRET", "BRIDGE_WEBHOOK_SECRET_FILE"],
        None,
    ),
    ("outbox.dir", ["BRIDGE_OUTBOX_DIR"], "--outbox-dir"),
    ("operations.listen", ["BRIDGE_OPERATIONS_LISTEN"], None),
    ("topics.dead_letters", ["BRIDGE_TOPICS_DEAD_LETTERS"], None),
    ("log.format", ["BRIDGE_LOG_FORMAT"], None),
    ("shutdown_timeout_seconds", ["BRIDGE_SHUTDOWN_TIMEOUT_SECONDS"], None),
]


def test_public_names_stay(subtests: pytest.Subtests) -> None:
    """Variables and flags that users rely on are as promised."""
    for path, environment, flag in _PUBLIC:
        with subtests.test(path=path, environment=environment):
            assert list(ALL[path].environment_names) == environment
            assert ALL[path].flag == flag


def test_every_setting_describes_itself(subtests: pytest.Subtests) -> None:
    """Each has a sentence, what is expected, and a default or a reason for none."""
    for setting in describe():
        with subtests.test(setting=setting):
            assert re.fullmatch(r"[A-Zd].*[^.]", setting.description)
            assert setting.expected
            assert setting.default_text
            assert not (setting.secret and setting.flag)
            if setting.kind in {Kind.INTEGER, Kind.NUMBER}:
                assert setting.because
                assert (
                    setting.minimum is not None or setting.exclusive_minimum is not None
                )
            if isinstance(setting.default, float):
                assert setting.unit in {"seconds", "ms"}


def test_names_are_unambiguous() -> None:
    """No two settings share a variable, not even with the one that names a file."""
    names = [name for setting in describe() for name in setting.environment_names]
    assert len(names) == len(set(names))
    assert len(sections()) == 12


def test_defaults_are_those_of_the_structs() -> None:
    """The list and the values can't drift apart."""
    for path, setting in ALL.items():
        value: object = Settings()
        for part in path.split("."):
            value = getattr(value, part)
        if path != "outbox.dir":
            assert value == setting.default
    assert ALL["outbox.dir"].default is None
