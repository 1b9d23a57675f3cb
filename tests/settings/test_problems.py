"""Missing and wrong settings: one line each, which names everything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.errors import ConfigError, ExitCode
from bridge.settings import all_settings, load, split_address
from tests.settings.starts import CANARY, NEEDED, Wrong, check, problems


# Path, wrong texts of its variable, and what the line says.
VARIABLES: list[tuple[str, tuple[str, ...], str]] = [
    ("topic", ("", "a b", "a" * 250, "jobs\n"), "1 to 249"),
    ("topic", ("..",), "neither '.' nor '..'"),
    ("client_id", ("",), "dashboard"),
    ("client_id", ("a/b", "a b", "\xfc", "a\n", "x" * 186), "185 letters"),
    ("api_url", ("api.dryapi.dev", "wss://h"), "https:// or http://"),
    ("api_url", ("https://", "https://h:99999", "https://h/?a=1"), "names a host"),
    ("api_url", ("https://h\t/",), "names a host"),
    ("pusher.url", ("https://h", "wss://[::1", "", "h:443"), "wss:// or ws://"),
    ("pusher.url", ("ws://", "ws://:80", "ws://h:port"), "names a host"),
    ("pusher.url", ("ws://h:99999", "ws://h:0", "ws://u:s@h"), "names a host"),
    ("pusher.url", ("ws://h/?query", "ws://h/#fragment"), "names a host"),
    ("pusher.app_key", ("",), "not empty"),
    ("pusher.app_key", ("a/b",), "app key"),
    ("delivery", ("at-most-once",), "idempotent or transactional"),
    ("kafka.bootstrap_servers", ("h", "h:0", "h:1,"), "host:port"),
    ("kafka.partitions", ("six", "0", "1.5", ""), "a whole number from 1"),
    ("kafka.create_topics", ("perhaps",), "true or false"),
    (
        "kafka.security_protocol",
        ("TLS",),
        "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    ),
    ("kafka.security_protocol", ("SASL-SSL",), "did you mean SASL_SSL?"),
    ("log.level", ("warn",), "did you mean warning?"),
    ("log.format", ("xml",), "console or json"),
    (
        "reconciliation.stale_after_seconds",
        ("inf", "nan", "0"),
        "a number of seconds above 0",
    ),
    ("shutdown_timeout_seconds", ("-1",), "a number of seconds, 0 or more"),
    ("outbox.max_bytes", ("8 GiB",), "a whole number of bytes, 1 or more"),
    ("outbox.dir", ("", "a\x01b"), "the path of a directory"),
    ("operations.listen", ("8080",), "host:port"),
    ("kafka.client_id", ("a\tb",), "control characters"),
]


def test_a_wrong_variable() -> None:
    """Setting, variable, flag, what is expected and the layer are in the line."""
    settings = {setting.path: setting for setting in all_settings()}
    wrong = []
    for path, texts, expected in VARIABLES:
        setting = settings[path]
        name = setting.variables[0]
        words = [name, "".join(setting.flags[:1]), expected, "the environment"]
        for text in texts:
            line, *more = problems({name.removeprefix("BRIDGE_"): text}) or [""]
            if (
                more
                or not line.startswith(f"{path} (")
                or not all(word in line for word in words)
            ):
                wrong.append((path, text, line, more))
    assert not wrong


# TOML and what the line says after the setting's path.
TOML: list[tuple[str, str, str]] = [
    ("topic = 5", "topic (BRIDGE_", "1 to 249"),
    ('topic = ""', "topic (BRIDGE_", 'has ""'),
    ('[kafka]\npartitions = "6"', "kafka.partitions (BRIDGE_", 'has "6"'),
    ("[kafka]\npartitions = true", "kafka.partitions (BRIDGE_", "has true"),
    ("[kafka]\ncreate_topics = 1", "kafka.create_topics (BRIDGE_", "true or false"),
    ("[kafka]\npartitions = [6]", "kafka.partitions (BRIDGE_", "has a list"),
    ("[kafka]\npartitions = {n = 6}", "kafka.partitions (BRIDGE_", "has a table"),
    ("[kafka]\npartitions = 1979-05-27", "kafka.partitions (BRIDGE_", "1979"),
    (
        "[pusher]\nprobe_interval_seconds = inf",
        "pusher.probe_interval_seconds (BRIDGE_",
        "a number of seconds, 0 or more",
    ),
    ("[outbox]\ndir = 5", "outbox.dir (BRIDGE_", "the path of a directory"),
    (
        '[kafka]\nsasl_mechanism = ""',
        "kafka.sasl_mechanism (BRIDGE_",
        "SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM",
    ),
    # Names that aren't known, with the nearest.
    ("[kafka]\npartitons = 3", "kafka.partitons", "did you mean kafka.partitions?"),
    ("[kafak]\npartitions = 3", "kafak", "did you mean kafka?"),
    ("topics_dlq = 'x'", "topics_dlq", "topics"),
    ("api_tokn_file = 'x'", "api_tokn_file", "did you mean api_token_file?"),
    ("kafka = 3", "kafka", "must be a table"),
    ("zzz = 3", "zzz", "bridge config show"),
    ("bootstrap_servers = 'h:1'", "", "did you mean kafka.bootstrap_servers?"),
    ("[topic]\nname = 'x'", "topic (BRIDGE_TOPIC, --topic)", "has a table"),
    ("[[account]]\nclient_id = 'x'", "account", "did you mean accounts?"),
    # Files that can't be read.
    ("topic = = 'x'", "the file ", "isn't TOML: see line 1, column"),
    ("[kafka]\n[kafka]", "the file ", "isn't TOML: see line 2"),
    (f"topic = '{CANARY}", "the file ", "isn't TOML: see"),
    ("topic = '\xff'", "the file ", "isn't UTF-8"),
    (
        f'api_token = "{CANARY}"\napi_token_file = "f"\n',
        "api_token (BRIDGE_",
        "api_token and as api_token_file",
    ),
]


def test_wrong_toml(tmp_path: Path) -> None:
    """TOML's types are not bent, and the line says which file to look into."""
    file = tmp_path / "bridge.toml"
    wrong = []
    for toml, start, expected in TOML:
        file.write_bytes(toml.encode("latin-1"))
        line, *more = problems(file=file) or [""]
        if (
            more
            or not line.startswith(start)
            or expected not in line
            or f"the file {file}" not in line
        ):
            wrong.append((toml, line, more))
    assert not wrong
    # The environment would cover the file's client id.
    file.write_text("client_id = 5")
    with pytest.raises(ConfigError, match=r"^client_id \(BRIDGE_.*dashboard"):
        load({}, {"BRIDGE_API_TOKEN": "t"}, file)
    (line,) = problems(file=tmp_path / "none.toml")
    assert "none.toml (--config)" in line
    assert "can't be read: No such file" in line


def test_wrong_flags() -> None:
    """A typed value is said to come from its flag; names and secrets can't be flags."""
    (line,) = problems(flags={"topic": "a b"})
    assert line.startswith("topic (BRIDGE_TOPIC, --topic) must be")
    assert line.endswith('but the flag --topic has "a b"')
    unknown, secret = problems(flags={"topik": "x", "api_token": CANARY})
    assert "topik" in unknown
    assert "topic" in unknown
    assert "api_token" in secret


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("variables", "path"),
    [
        (("API_TOKEN_FILE",), "api_token"),
        (("PUSHER_CA_FILE",), "pusher.ca_file"),
        (("WEBHOOK_TLS_CERT_FILE", "WEBHOOK_TLS_KEY_FILE"), "webhook.tls_cert_file"),
    ],
)
def test_a_fifo_is_a_problem_and_not_waited_for(
    tmp_path: Path, variables: tuple[str, ...], path: str
) -> None:
    """The start ends with a line that says what the file is."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    account = {"BRIDGE_CLIENT_ID": "client-1"}
    if path != "api_token":
        account = NEEDED
    with pytest.raises(ConfigError) as caught:
        load({}, account | {f"BRIDGE_{name}": str(fifo) for name in variables}, None)
    lines = str(caught.value).splitlines()
    (line,) = (one for one in lines if one.startswith(f"{path} (BRIDGE_"))
    assert line.endswith("can't be read: it is not a regular file")
    assert caught.value.exit_code is ExitCode.USAGE


_SASL_SSL = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
_SSL = {"KAFKA_SECURITY_PROTOCOL": "SSL"}
_PLAIN = {"KAFKA_SASL_MECHANISM": "PLAIN"}
_USER = {"KAFKA_SASL_USERNAME": "u"}
_PASSWORD = {"KAFKA_SASL_PASSWORD": CANARY}

# Settings, the one to change, and the one that it must fit.
TOGETHER: list[Wrong] = [
    (
        _PLAIN,
        "kafka.sasl_mechanism",
        "is PLAINTEXT: it must be SASL_SSL or SASL_PLAINTEXT",
    ),
    (
        _SASL_SSL | _PLAIN | _USER,
        "kafka.sasl_password",
        "BRIDGE_KAFKA_SASL_PASSWORD or BRIDGE_KAFKA_SASL_PASSWORD_FILE) is missing",
    ),
    (_SASL_SSL | _USER | _PASSWORD, "kafka.sasl_mechanism", "is missing"),
    (
        _SSL | {"KAFKA_SSL_CERT_FILE": __file__},
        "kafka.ssl_key_file",
        "is missing: kafka.ssl_cert_file needs it",
    ),
    (
        _SSL | {"KAFKA_SSL_KEY_FILE": __file__},
        "kafka.ssl_cert_file",
        "is missing: kafka.ssl_key_file needs it",
    ),
    (
        _SSL | {"KAFKA_SSL_KEY_PASSWORD": CANARY},
        "kafka.ssl_key_file",
        "is missing: kafka.ssl_key_password needs it",
    ),
    (
        {"KAFKA_SSL_CA_FILE": __file__},
        "kafka.ssl_ca_file",
        "is PLAINTEXT: it must be SSL or SASL_SSL",
    ),
    (
        _SSL | {"KAFKA_SSL_CA_FILE": "/no/ca.pem"},
        "kafka.ssl_ca_file",
        "can't be read: No such file or directory",
    ),
    (
        {"PUSHER_CA_FILE": "/no/ca.pem"},
        "pusher.ca_file",
        "can't be read: No such file or directory",
    ),
    ({"TOPICS_DEAD_LETTERS": "jobs"}, "topics.dead_letters", "must differ from topic"),
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
        {"API_TOKEN_FILE": "/x"},
        "api_token",
        "BRIDGE_API_TOKEN and as BRIDGE_API_TOKEN_FILE",
    ),
]


def test_settings_that_contradict_each_other() -> None:
    """The line names the setting to change and the one that it must fit."""
    check(TOGETHER)


def test_all_problems_are_found_at_once(tmp_path: Path) -> None:
    """One start reports all that is wrong in all layers."""
    file = tmp_path / "bridge.toml"
    file.write_text("[kafka]\nreplication_factor = 0\nnothing = 1")
    environ = {"TOPIC": "a b", "KAFKA_PARTITIONS": "0"}
    assert [
        line.partition(" ")[0] for line in problems(environ, file, {"api_url": "x"})
    ] == [
        *("kafka.nothing", "topic", "api_url", "kafka.partitions"),
        "kafka.replication_factor",
    ]


def test_addresses_are_taken_apart_or_refused() -> None:
    """Host and port without brackets; a refusal doesn't repeat the text."""
    table = {
        "127.0.0.1:8080": ("127.0.0.1", 8080),
        "kafka-1.example:0": ("kafka-1.example", 0),
        "[::1]:65535": ("::1", 65535),
    }
    assert {text: split_address(text) for text in table} == table
    taken = []
    for text in (
        *("", "8080", "host", "host:", ":8080", "host:port", "host:65536", "host:-1"),
        *("host: 1", "host:٣", "::1:8080", "[host]:1", "[]:1", "http://host:1"),
        *("user@host:1", "a,b:1", "a b:1"),
    ):
        try:
            taken.append((text, str(split_address(text))))
        except ValueError as error:
            if text and text in str(error):
                taken.append((text, str(error)))
    assert not taken
