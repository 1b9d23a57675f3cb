"""Tests of the layers: which value wins, what is ignored, what is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.settings import (
    Scope,
    Settings,
    Source,
    SourceKind,
    all_settings,
    inspect,
    load,
)
from bridge.settings.model import sections
from tests.settings.starts import NEEDED


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A TOML file that sets what the tests of precedence look at."""
    file = tmp_path / "bridge.toml"
    file.write_text(
        """
        topic = "from-file"
        api_token = "file-token"
        [kafka]
        bootstrap_servers = "file:9092"
        partitions = 12
        create_topics = true
        linger_ms = 60
        """
    )
    return file


def _source(
    path: str, environ: dict[str, str], flags: dict[str, str] | None = None
) -> Source:
    (source,) = (
        one.source
        for one in inspect(flags or {}, environ, None).effective
        if one.setting.path == path
    )
    return source


def test_defaults_hold_where_nothing_is_said() -> None:
    """Everything but the account has a default."""
    loaded = load({}, NEEDED, None)
    settings = loaded.settings
    assert settings.topic == "jobs"
    assert settings.api_url == "https://api.dryapi.dev"
    assert settings.pusher.url == "wss://soketi.dryapi.dev:443"
    assert settings.pusher.app_key == "depin-api-prod-key"
    assert settings.kafka.bootstrap_servers == "localhost:9092"
    assert not settings.kafka.create_topics
    assert settings.operations.address == ("127.0.0.1", 8080)
    assert settings.outbox.dir.parts[-2:] == ("dryapi-kafka-bridge", "outbox")
    assert _source("topic", NEEDED).kind is SourceKind.DEFAULT
    assert loaded.warnings == ()


def test_the_environment_beats_the_file(toml: Path) -> None:
    """Texts of the environment become the setting's type."""
    environ = NEEDED | {
        "BRIDGE_TOPIC": "from-environment",
        "BRIDGE_KAFKA_PARTITIONS": "24",
        "BRIDGE_KAFKA_CREATE_TOPICS": "false",
        "BRIDGE_KAFKA_LINGER_MS": "0.5",
    }
    loaded = load({}, environ, toml)
    kafka = loaded.settings.kafka
    assert loaded.settings.topic == "from-environment"
    assert (kafka.partitions, kafka.create_topics) == (24, False)
    assert kafka.linger_ms == 0.5
    assert kafka.bootstrap_servers == "file:9092"
    token = loaded.settings.api_token
    assert token is not None
    assert token.reveal() == "token-1"
    assert str(_source("topic", environ)) == "environment BRIDGE_TOPIC"


def test_a_flag_beats_all(toml: Path) -> None:
    """What is typed wins."""
    environ = NEEDED | {"BRIDGE_TOPIC": "from-environment"}
    flags = {"topic": "from-flag", "kafka.bootstrap_servers": "flag:1"}
    loaded = load(flags, environ, toml)
    assert loaded.settings.topic == "from-flag"
    assert loaded.settings.kafka.bootstrap_servers == "flag:1"
    assert str(_source("topic", environ, flags)) == "flag --topic"


def test_other_topics_follow_the_main_one() -> None:
    """Dead letters and gaps are named after the topic unless they are set."""
    settings = load({"topic": "events"}, NEEDED, None).settings
    assert settings.dead_letter_topic == "events.dlq"
    assert settings.gap_topic == "events.gaps"
    environ = NEEDED | {"BRIDGE_TOPICS_DEAD_LETTERS": "bad"}
    assert load({}, environ, None).settings.dead_letter_topic == "bad"


def test_a_secret_comes_from_a_file_that_a_layer_names(tmp_path: Path) -> None:
    """By the variable or its twin in TOML; it is read again when it changes."""
    file = tmp_path / "token"
    config = tmp_path / "bridge.toml"
    config.write_text(f'client_id = "c"\napi_token_file = "{file}"\n')
    environ = {"BRIDGE_CLIENT_ID": "c", "BRIDGE_API_TOKEN_FILE": str(file)}
    for variables, toml in ((environ, None), ({}, config)):
        file.write_text("mounted\n")
        token = load({}, variables, toml).settings.api_token
        assert token is not None
        assert token.reveal() == "mounted"
        file.write_text("rotated-since\n")
        assert token.reveal() == "rotated-since"


_SPELLINGS: list[tuple[str, str, str, object]] = [
    ("BRIDGE_LOG_LEVEL", "WARNING", "log.level", "warning"),
    ("BRIDGE_API_URL", "https://h:1/x/", "api_url", "https://h:1/x"),
    ("BRIDGE_PUSHER_URL", "ws://[::1]:6001/", "pusher.url", "ws://[::1]:6001"),
    (
        "BRIDGE_KAFKA_BOOTSTRAP_SERVERS",
        "a:1, b:2",
        "kafka.bootstrap_servers",
        "a:1,b:2",
    ),
    ("BRIDGE_KAFKA_CREATE_TOPICS", "TRUE", "kafka.create_topics", True),
    ("BRIDGE_OUTBOX_DIR", "relative/dir", "outbox.dir", Path("relative/dir")),
    ("BRIDGE_OUTBOX_DIR", "~/x", "outbox.dir", Path("~/x").expanduser()),
    ("BRIDGE_OPERATIONS_LISTEN", "[::]:0", "operations.listen", "[::]:0"),
]


def test_spellings_are_made_one(subtests: pytest.Subtests) -> None:
    """Case of choices, slashes at the end, spaces and `~` don't matter later."""
    for variable, value, path, expected in _SPELLINGS:
        with subtests.test(variable=variable, value=value):
            found: object = load({}, NEEDED | {variable: value}, None).settings
            for part in path.split("."):
                found = getattr(found, part)
            assert found == expected


_IGNORED: list[str] = [
    "BRIDGE_SERVICE_HOST",
    "BRIDGE_SERVICE_PORT",
    "BRIDGE_SERVICE_PORT_OPERATIONS",
    "BRIDGE_PORT",
    "BRIDGE_PORT_8080_TCP",
    "BRIDGE_PORT_8080_TCP_ADDR",
    "BRIDGE_PORT_8080_TCP_PORT",
    "BRIDGE_PORT_8080_TCP_PROTO",
    "BRIDGE_PORT_53_UDP",
    "BRIDGE_WEBHOOK_SERVICE_HOST",
    "BRIDGE_WEBHOOK_PORT_80_TCP_ADDR",
    "BRIDGE_TEST_BOOTSTRAP_SERVERS",
    "OTHER_TOPIC",
]


def test_service_links_and_test_variables_are_passed_over(
    subtests: pytest.Subtests,
) -> None:
    """What Kubernetes and the test suite set causes no warning."""
    for name in _IGNORED:
        with subtests.test(name=name):
            assert load({}, NEEDED | {name: "x"}, None).warnings == ()


_UNKNOWN: list[tuple[str, str | None]] = [
    ("BRIDGE_TOPC", "BRIDGE_TOPIC"),
    ("BRIDGE_KAFKA_PARTITION", "BRIDGE_KAFKA_PARTITIONS"),
    ("BRIDGE_API_TOKEN_FLE", "BRIDGE_API_TOKEN_FILE"),
    ("BRIDGE_PORT_8080_TCP_HOST", None),
    ("BRIDGE_SERVICE_HOSTS", None),
    ("BRIDGE_WEBHOOK_SECRETS", "BRIDGE_WEBHOOK_SECRET"),
]


def test_an_unknown_variable_is_a_warning(subtests: pytest.Subtests) -> None:
    """The warning names the variable and the nearest, and not its value."""
    for name, nearest in _UNKNOWN:
        with subtests.test(name=name, nearest=nearest):
            (warning,) = load({}, NEEDED | {name: "canary"}, None).warnings
            assert name in warning
            assert "canary" not in warning
            if nearest is not None:
                assert f"did you mean {nearest}?" in warning


def test_a_reader_needs_no_account(toml: Path) -> None:
    """A consumer's settings are found without client id and token."""
    toml.write_text(toml.read_text().replace("file-token", "not a token"))
    environ = {
        "BRIDGE_API_TOKEN_FILE": "/only/the/service/reads/this",
        "BRIDGE_DELIVERY": "at-most-once",
        "BRIDGE_OUTBOX_MAX_BYTES": "many",
        "BRIDGE_TOPICS_GAPS": "holes",
    }
    settings = load({"topic": "x"}, environ, toml, Scope.READING).settings
    assert settings.topic == "x"
    assert settings.gap_topic == "holes"
    assert settings.kafka.bootstrap_servers == "file:9092"
    assert settings.client_id is None
    assert settings.api_token is None
    assert settings.delivery == Settings().delivery


def test_a_replay_has_the_settings_of_what_it_writes(toml: Path) -> None:
    """Account and dryAPI are none of its business; delivery, sizes and outbox are."""
    toml.write_text(toml.read_text().replace("file-token", "not a token"))
    environ = {
        "BRIDGE_API_TOKEN_FILE": "/only/the/service/reads/this",
        "BRIDGE_PUSHER_URL": "nowhere",
        "BRIDGE_DELIVERY": "transactional",
        "BRIDGE_OUTBOX_DIR": "/o",
        "BRIDGE_LIMITS_EVENT_BYTES": "5000",
        "BRIDGE_PREVIEWS": "drop",
    }
    settings = load({"topic": "x"}, environ, toml, Scope.REPLAY).settings
    assert settings.topic == "x"
    assert settings.delivery == "transactional"
    assert settings.outbox.dir == Path("/o")
    assert settings.limits.event_bytes == 5000
    assert settings.previews == "drop"
    assert (settings.client_id, settings.api_token) == (None, None)
    with pytest.raises(ConfigError, match=r"outbox\.max_bytes"):
        load({}, {"BRIDGE_OUTBOX_MAX_BYTES": "many"}, None, Scope.REPLAY)


ALL = {setting.path: setting for setting in all_settings()}


# Public names: each setting's flag, where it has one.
_PUBLIC: dict[str, str | None] = {
    "topic": "--topic",
    "client_id": "--client-id",
    "api_token": None,
    "api_url": "--api-url",
    "pusher.url": "--pusher-url",
    "kafka.bootstrap_servers": "--bootstrap-servers",
    "outbox.dir": "--outbox-dir",
    **dict.fromkeys(
        (
            *("pusher.app_key", "kafka.sasl_password", "kafka.ssl_ca_file", "delivery"),
            *("webhook.listen", "webhook.secret", "operations.listen", "log.format"),
            *("topics.dead_letters", "shutdown_timeout_seconds"),
        )
    ),
}


def test_public_names_stay() -> None:
    """Flags are as promised, and variables by the one rule that there is."""
    assert {path: "".join(ALL[path].flags[:1]) or None for path in _PUBLIC} == _PUBLIC
    for path, setting in ALL.items():
        name = f"BRIDGE_{path.upper().replace('.', '_')}"
        expected = [name, f"{name}_FILE"] if setting.is_secret else [name]
        assert list(setting.variables) == expected


def test_every_setting_describes_itself(subtests: pytest.Subtests) -> None:
    """Each has a sentence, what is expected, and a default or a reason for none."""
    for setting in all_settings():
        with subtests.test(setting=setting):
            assert re.fullmatch(r"[A-Zd].*[^.]", setting.description)
            assert setting.expected
            assert setting.default_text
            assert not (setting.is_secret and setting.flags)
            if setting.is_number:
                assert setting.because
                assert (
                    setting.minimum is not None or setting.exclusive_minimum is not None
                )
            if isinstance(setting.default, float):
                assert setting.unit in {"seconds", "ms"}


def test_names_are_unambiguous() -> None:
    """No two settings share a variable, not even with the one that names a file."""
    names = [name for setting in all_settings() for name in setting.variables]
    assert len(names) == len(set(names))
    assert len(sections()) == 12
