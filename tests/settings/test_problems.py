"""Tests of what is said about missing and wrong settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError, ExitCode
from bridge.settings import describe, load


NEEDED = {"BRIDGE_CLIENT_ID": "client-1", "BRIDGE_API_TOKEN": "token-1"}
CANARY = "canary7d1f"


def problems(
    tmp_path: Path,
    environ: dict[str, str] | None = None,
    toml: str | None = None,
    flags: dict[str, str] | None = None,
) -> list[str]:
    """Load with the account given and return the lines of the error."""
    file = None
    if toml is not None:
        file = tmp_path / "bridge.toml"
        file.write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, NEEDED | (environ or {}), file)
    return str(caught.value).split("\n")


def test_what_is_missing_is_a_line_each() -> None:
    """A first start without anything names both settings and how to set them."""
    with pytest.raises(ConfigError) as caught:
        load({}, {}, None)
    client_id, token = str(caught.value).split("\n")
    assert client_id.startswith("client_id (BRIDGE_CLIENT_ID, --client-id) is missing")
    assert "dashboard" in client_id
    assert token.startswith(
        "api_token (BRIDGE_API_TOKEN or BRIDGE_API_TOKEN_FILE) is missing"
    )
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("BRIDGE_TOPIC", "", "topic", "1 to 249"),
        ("BRIDGE_TOPIC", "a b", "topic", "1 to 249"),
        ("BRIDGE_TOPIC", "..", "topic", "neither '.' nor '..'"),
        ("BRIDGE_TOPIC", "a" * 250, "topic", "1 to 249"),
        ("BRIDGE_TOPIC", "jobs\n", "topic", "1 to 249"),
        ("BRIDGE_CLIENT_ID", "", "client_id", "dashboard"),
        ("BRIDGE_CLIENT_ID", "a/b", "client_id", "185 letters"),
        ("BRIDGE_API_URL", "api.dryapi.dev", "api_url", "https:// or http://"),
        ("BRIDGE_API_URL", "wss://h", "api_url", "https:// or http://"),
        ("BRIDGE_API_URL", "https://", "api_url", "names a host"),
        ("BRIDGE_API_URL", "https://h:99999", "api_url", "names a host"),
        ("BRIDGE_API_URL", "https://h/?a=1", "api_url", "names a host"),
        ("BRIDGE_API_URL", "https://h\t/", "api_url", "names a host"),
        ("BRIDGE_PUSHER_URL", "https://h", "pusher.url", "wss:// or ws://"),
        ("BRIDGE_PUSHER_URL", "wss://[::1", "pusher.url", "wss:// or ws://"),
        ("BRIDGE_PUSHER_APP_KEY", "", "pusher.app_key", "not empty"),
        ("BRIDGE_PUSHER_APP_KEY", "a/b", "pusher.app_key", "app key"),
        ("BRIDGE_DELIVERY", "at-most-once", "delivery", "idempotent or transactional"),
        ("BRIDGE_KAFKA_BOOTSTRAP_SERVERS", "h", "kafka.bootstrap_servers", "host:port"),
        (
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS",
            "h:0",
            "kafka.bootstrap_servers",
            "host:port",
        ),
        (
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS",
            "h:1,",
            "kafka.bootstrap_servers",
            "host:port",
        ),
        ("BRIDGE_KAFKA_PARTITIONS", "six", "kafka.partitions", "a whole number from 1"),
        ("BRIDGE_KAFKA_PARTITIONS", "0", "kafka.partitions", "a whole number from 1"),
        ("BRIDGE_KAFKA_PARTITIONS", "1.5", "kafka.partitions", "a whole number from 1"),
        ("BRIDGE_KAFKA_PARTITIONS", "", "kafka.partitions", "a whole number from 1"),
        (
            "BRIDGE_KAFKA_CREATE_TOPICS",
            "perhaps",
            "kafka.create_topics",
            "true or false",
        ),
        (
            "BRIDGE_KAFKA_SECURITY_PROTOCOL",
            "TLS",
            "kafka.security_protocol",
            "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        ),
        (
            "BRIDGE_KAFKA_SECURITY_PROTOCOL",
            "SASL-SSL",
            "kafka.security_protocol",
            "did you mean SASL_SSL?",
        ),
        ("BRIDGE_LOG_LEVEL", "warn", "log.level", "did you mean warning?"),
        ("BRIDGE_LOG_FORMAT", "xml", "log.format", "console or json"),
        (
            "BRIDGE_KAFKA_REQUEST_TIMEOUT_SECONDS",
            "inf",
            "kafka.request_timeout_seconds",
            "a number of seconds above 0",
        ),
        (
            "BRIDGE_PUSHER_PONG_TIMEOUT_SECONDS",
            "nan",
            "pusher.pong_timeout_seconds",
            "a number of seconds above 0",
        ),
        (
            "BRIDGE_SHUTDOWN_TIMEOUT_SECONDS",
            "-1",
            "shutdown_timeout_seconds",
            "a number of seconds, 0 or more",
        ),
        (
            "BRIDGE_OUTBOX_MAX_BYTES",
            "8 GiB",
            "outbox.max_bytes",
            "a whole number of bytes, 1 or more",
        ),
        ("BRIDGE_OUTBOX_DIR", "", "outbox.dir", "the path of a directory"),
        ("BRIDGE_OUTBOX_DIR", "a\x01b", "outbox.dir", "the path of a directory"),
        ("BRIDGE_OPERATIONS_LISTEN", "8080", "operations.listen", "host:port"),
        ("BRIDGE_KAFKA_CLIENT_ID", "a\tb", "kafka.client_id", "control characters"),
    ],
)
def test_a_wrong_variable_is_one_line_that_names_everything(
    tmp_path: Path, variable: str, value: str, path: str, expected: str
) -> None:
    """Setting, variable, flag, what is expected and the layer stand in the line."""
    (line,) = problems(tmp_path, {variable: value})
    setting = next(one for one in describe() if one.path == path)
    assert line.startswith(f"{path} (")
    assert variable in line
    assert setting.flag is None or setting.flag in line
    assert expected in line
    assert "the environment" in line


@pytest.mark.parametrize(
    ("toml", "path", "expected"),
    [
        ("topic = 5", "topic", "1 to 249"),
        ('topic = ""', "topic", 'says ""'),
        ("client_id = 5", "client_id", "dashboard"),
        ('[kafka]\npartitions = "6"', "kafka.partitions", 'says "6"'),
        ("[kafka]\npartitions = true", "kafka.partitions", "says true"),
        ("[kafka]\ncreate_topics = 1", "kafka.create_topics", "true or false"),
        ("[kafka]\npartitions = [6]", "kafka.partitions", "says a list"),
        ("[kafka]\npartitions = {n = 6}", "kafka.partitions", "says a table"),
        ("[kafka]\npartitions = 1979-05-27", "kafka.partitions", "1979"),
        (
            "[pusher]\nstable_after_seconds = inf",
            "pusher.stable_after_seconds",
            "a number of seconds, 0 or more",
        ),
        ("[outbox]\ndir = 5", "outbox.dir", "the path of a directory"),
        (
            '[kafka]\nsasl_mechanism = ""',
            "kafka.sasl_mechanism",
            "SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM",
        ),
    ],
)
def test_a_wrong_value_in_toml_names_the_file(
    tmp_path: Path, toml: str, path: str, expected: str
) -> None:
    """TOML's types are not bent, and the line says which file to look into."""
    file = tmp_path / "bridge.toml"
    file.write_text(toml)
    # The environment would cover the file's client id.
    flags = {} if path == "client_id" else {"client_id": "c"}
    with pytest.raises(ConfigError) as caught:
        load(flags, {"BRIDGE_API_TOKEN": "t"}, file)
    (line,) = str(caught.value).split("\n")
    assert line.startswith(f"{path} (BRIDGE_")
    assert f"the file {file}" in line
    assert expected in line


def test_a_wrong_flag_names_the_flag(tmp_path: Path) -> None:
    """A value that was typed is said to come from its flag."""
    (line,) = problems(tmp_path, flags={"topic": "a b"})
    assert line.startswith("topic (BRIDGE_TOPIC, --topic) must be")
    assert line.endswith('but the flag --topic says "a b"')


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (
            "[kafka]\npartitons = 3",
            ["kafka.partitons", "did you mean kafka.partitions?"],
        ),
        ("[kafak]\npartitions = 3", ["kafak", "did you mean kafka?"]),
        ("topics_dlq = 'x'", ["topics_dlq", "topics"]),
        ("api_tokn_file = 'x'", ["api_tokn_file", "did you mean api_token_file?"]),
        ("kafka = 3", ["kafka", "must be a table"]),
        ("zzz = 3", ["zzz", "bridge config show"]),
        ("bootstrap_servers = 'h:1'", ["did you mean kafka.bootstrap_servers?"]),
        ("[topic]\nname = 'x'", ["topic (BRIDGE_TOPIC, --topic)", "says a table"]),
        ("[[account]]\nclient_id = 'x'", ["did you mean accounts?"]),
    ],
)
def test_an_unknown_name_in_toml_suggests_the_nearest(
    tmp_path: Path, toml: str, expected: list[str]
) -> None:
    """A misspelt key is one line with the file and what was likely meant."""
    (line,) = problems(tmp_path, toml=toml)
    for words in [*expected, "bridge.toml"]:
        assert words in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"topic = = 'x'", "not TOML: see line 1, column"),
        (b"[kafka]\n[kafka]", "not TOML: see line 2"),
        (b"topic = 'x", "not TOML: see"),
        (b"topic = '\xff'", "not UTF-8"),
    ],
)
def test_a_broken_file_is_one_line(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    """The line names file and place, and nothing of what the file holds."""
    file = tmp_path / "bridge.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as caught:
        load({}, NEEDED, file)
    assert f"the file {file} (--config)" in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    """The line names --config and the file."""
    with pytest.raises(ConfigError, match="can't be read: No such file") as caught:
        load({}, NEEDED, tmp_path / "none.toml")
    assert "none.toml (--config)" in str(caught.value)


def test_a_flag_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """Neither unknown names nor secrets can be flags."""
    lines = problems(tmp_path, flags={"topik": "x", "api_token": CANARY})
    assert "topik" in lines[0]
    assert "topic" in lines[0]
    assert "api_token" in lines[1]
    assert CANARY not in "".join(lines)


@pytest.mark.parametrize(
    ("environ", "path", "expected"),
    [
        (
            {"KAFKA_SASL_MECHANISM": "PLAIN"},
            "kafka.sasl_mechanism",
            "is PLAINTEXT: it must be SASL_SSL or SASL_PLAINTEXT",
        ),
        (
            {
                "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_PASSWORD": CANARY,
            },
            "kafka.sasl_username",
            "is missing: kafka.sasl_mechanism PLAIN needs it",
        ),
        (
            {
                "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USERNAME": "u",
            },
            "kafka.sasl_password",
            "BRIDGE_KAFKA_SASL_PASSWORD or BRIDGE_KAFKA_SASL_PASSWORD_FILE) is missing",
        ),
        (
            {
                "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "KAFKA_SASL_USERNAME": "u",
                "KAFKA_SASL_PASSWORD": CANARY,
            },
            "kafka.sasl_mechanism",
            "is missing",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CERT_FILE": __file__},
            "kafka.ssl_key_file",
            "is missing: kafka.ssl_cert_file needs it",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_KEY_FILE": __file__},
            "kafka.ssl_cert_file",
            "is missing: kafka.ssl_key_file needs it",
        ),
        (
            {"KAFKA_SSL_CA_FILE": __file__},
            "kafka.ssl_ca_file",
            "is PLAINTEXT: it must be SSL or SASL_SSL",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_FILE": "/no/ca.pem"},
            "kafka.ssl_ca_file",
            "can't be read: No such file or directory",
        ),
        (
            {"PUSHER_CA_FILE": "/no/ca.pem"},
            "pusher.ca_file",
            "can't be read: No such file or directory",
        ),
        (
            {"TOPICS_DEAD_LETTERS": "jobs"},
            "topics.dead_letters",
            "must differ from topic",
        ),
        (
            {"TOPICS_GAPS": "jobs.dlq"},
            "topics.gaps",
            "must differ from topics.dead_letters",
        ),
        (
            {"TOPIC": "a" * 246, "TOPICS_GAPS": "g"},
            "topics.dead_letters",
            "longer than the 249 characters",
        ),
        (
            {"PUSHER_BACKOFF_INITIAL_SECONDS": "60"},
            "pusher.backoff_max_seconds",
            "at least pusher.backoff_initial_seconds, which is 60",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_one_line(
    tmp_path: Path, environ: dict[str, str], path: str, expected: str
) -> None:
    """The line names the setting to change and the one that it must fit."""
    environ = {f"BRIDGE_{name}": value for name, value in environ.items()}
    (line,) = problems(tmp_path, environ)
    assert line.startswith(f"{path} (BRIDGE_")
    assert expected in line
    assert CANARY not in line


def test_all_that_fits_together_is_accepted(tmp_path: Path) -> None:
    """SASL over TLS with files and a password file loads."""
    (tmp_path / "password").write_text("pass word\n")
    environ = NEEDED | {
        "BRIDGE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "BRIDGE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "BRIDGE_KAFKA_SASL_USERNAME": "u",
        "BRIDGE_KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password"),
        "BRIDGE_KAFKA_SSL_CA_FILE": __file__,
        "BRIDGE_KAFKA_SSL_CERT_FILE": __file__,
        "BRIDGE_KAFKA_SSL_KEY_FILE": __file__,
    }
    password = load({}, environ, None).settings.kafka.sasl_password
    assert password is not None
    assert password.reveal() == "pass word"


def test_text_and_file_of_a_secret_exclude_each_other(tmp_path: Path) -> None:
    """Both in one layer is an error that names both."""
    (line,) = problems(tmp_path, {"BRIDGE_API_TOKEN_FILE": "/x"})
    assert "set twice in the environment" in line
    assert "BRIDGE_API_TOKEN and as BRIDGE_API_TOKEN_FILE" in line
    (line,) = problems(tmp_path, toml=f'api_token = "{CANARY}"\napi_token_file = "f"\n')
    assert "api_token and as api_token_file" in line
    assert CANARY not in line


def test_all_problems_are_found_at_once(tmp_path: Path) -> None:
    """Nobody has to start the bridge five times to learn five things."""
    lines = problems(
        tmp_path,
        {"BRIDGE_TOPIC": "a b", "BRIDGE_KAFKA_PARTITIONS": "0"},
        "[kafka]\nreplication_factor = 0\nnothing = 1",
        {"api_url": "x"},
    )
    assert [line.partition(" ")[0] for line in lines] == [
        "kafka.nothing",
        "topic",
        "api_url",
        "kafka.partitions",
        "kafka.replication_factor",
    ]
