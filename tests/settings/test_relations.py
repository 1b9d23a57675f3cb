"""Settings that belong together: signing in, cleartext, webhooks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.settings import Loaded, Scope, load
from bridge.settings.checks import is_this_machine
from bridge.text import redact
from tests.settings.starts import CANARY, NEEDED, Wrong, check, environment


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
    # What would only fail at the broker is reported at the start.
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


LISTEN = {"WEBHOOK_LISTEN": "0.0.0.0:8443"}
SECRET = {"WEBHOOK_SECRET": "whsec_one"}
LISTENING = '[webhook]\nlisten = "0.0.0.0:8443"\n'


def account(name: str, extra: str = "") -> str:
    """Write a listed account."""
    return f'[[accounts]]\nclient_id = "{name}"\napi_token = "t-{name}"\n{extra}'


def listed(tmp_path: Path, toml: str, environ: dict[str, str] | None = None) -> Loaded:
    """Load a file."""
    file = tmp_path / "bridge.toml"
    file.write_text(toml)
    return load({}, environ or {}, file)


def wrong(tmp_path: Path, toml: str, environ: dict[str, str] | None = None) -> str:
    """Load a file in which one thing is wrong; give the line that says it."""
    with pytest.raises(ConfigError) as caught:
        listed(tmp_path, toml, environ)
    (line,) = str(caught.value).split("\n")
    return line


def test_no_webhooks_are_taken_unless_an_address_is_given() -> None:
    """The default opens no port and needs no secret; an empty variable is none."""
    for environ in (NEEDED, environment({"WEBHOOK_LISTEN": ""})):
        loaded = load({}, environ, None)
        assert loaded.settings.webhook.address is None
        (one,) = loaded.settings.all_accounts
        assert one.webhook_secret is None


def test_address_and_secret_are_enough(tmp_path: Path) -> None:
    """The secret is the single account's, and a plain port causes no warning."""
    loaded = load({}, environment(LISTEN, SECRET), None)
    assert loaded.settings.webhook.address == ("0.0.0.0", 8443)  # noqa: S104 - as given
    (one,) = loaded.settings.all_accounts
    assert one.webhook_secret is not None
    assert one.webhook_secret.reveal() == "whsec_one"
    assert loaded.warnings == ()
    (tmp_path / "bridge.toml").write_text(
        f'{LISTENING}secret_file = "{tmp_path / "secret"}"\n'
    )
    (tmp_path / "secret").write_text("whsec_new\nwhsec_old\n")
    loaded = load({}, NEEDED, tmp_path / "bridge.toml")
    (one,) = loaded.settings.all_accounts
    assert one.webhook_secret is not None
    assert one.webhook_secret.reveal().split() == ["whsec_new", "whsec_old"]


_BOTH = LISTEN | SECRET
_CERT, _KEY = "WEBHOOK_TLS_CERT_FILE", "WEBHOOK_TLS_KEY_FILE"

_WRONG: list[Wrong] = [
    (LISTEN, "webhook.secret", "is missing: webhook.listen needs it"),
    (SECRET, "webhook.listen", "is missing: webhook.secret needs it"),
    (
        SECRET | {"WEBHOOK_LISTEN": "8443"},
        "webhook.listen",
        "must be host:port, for instance 0.0.0.0:8080",
    ),
    *(
        (LISTEN | {"WEBHOOK_SECRET": text}, "webhook.secret", "one or several webhook")
        for text in ("whsec_é", " \n")
    ),
    *(
        (
            _BOTH | {given: __file__},
            f"webhook.tls_{missing}_file",
            f"is missing: {given.lower().replace('_', '.', 1)} needs it",
        )
        for given, missing in ((_CERT, "key"), (_KEY, "cert"))
    ),
    (
        _BOTH | {_KEY: "/no/k", _CERT: __file__},
        "webhook.tls_key_file",
        "can't be read: No such file",
    ),
    *(
        (
            SECRET | {"WEBHOOK_LISTEN": f"{host}:8080"},
            "webhook.listen",
            "must differ from operations.listen, 127.0.0.1:8080",
        )
        for host in ("127.0.0.1", "0.0.0.0")  # noqa: S104 - nothing is bound
    ),
    (
        _BOTH | {"OPERATIONS_LISTEN": "[::]:8443"},
        "webhook.listen",
        "must differ from operations.listen, [::]:8443",
    ),
    (
        _BOTH | {"WEBHOOK_GRACE_PERIOD_SECONDS": "-1"},
        "webhook.grace_period_seconds",
        "0 or more",
    ),
]


def test_what_does_not_fit_is_one_line() -> None:
    """The line names the setting to change, with its variable."""
    check(_WRONG)


def test_accounts_without_a_secret_beside_others_are_told_of(tmp_path: Path) -> None:
    """It may be meant, so that the bridge starts; a line names them all."""
    loaded = listed(
        tmp_path,
        account("one")
        + account("two", 'webhook_secret = "whsec_2"\n')
        + account("three")
        + LISTENING,
    )
    (line,) = loaded.warnings
    assert line.startswith("webhooks of one, three are refused")
    assert "webhook_secret_file" in line


def test_webhooks_that_no_account_could_sign_are_refused(tmp_path: Path) -> None:
    """An open port that takes nothing is a mistake."""
    line = wrong(tmp_path, account("one") + account("two") + LISTENING)
    assert line.startswith("webhook.listen (BRIDGE_WEBHOOK_LISTEN) is set, but none")
    assert line.endswith("of the [[accounts]] has a webhook_secret_file")


def test_the_single_secret_beside_a_list_is_refused(tmp_path: Path) -> None:
    """It could be any account's; the line says where secrets belong."""
    toml = account("one", 'webhook_secret = "whsec_1"\n') + LISTENING
    line = wrong(tmp_path, toml, {"BRIDGE_WEBHOOK_SECRET": "whsec_2"})
    assert line.startswith("webhook.secret (BRIDGE_WEBHOOK_SECRET or")
    assert line.endswith("give each account a webhook_secret_file of its own")


def test_a_reader_needs_no_webhook_secret(tmp_path: Path) -> None:
    """Neither what belongs together nor the list is judged for who reads a topic."""
    load({}, environment(LISTEN), None, Scope.READING)
    file = tmp_path / "bridge.toml"
    file.write_text(account("one") + LISTENING)
    assert load({}, {}, file, Scope.READING).warnings == ()


def test_every_secret_is_hidden_each_of_several_too(tmp_path: Path) -> None:
    """One of two webhook secrets is in a text without the other."""
    secret = tmp_path / "secret"
    secret.write_text("whsec_2 whsec_3\n")
    environ = environment(
        {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_SASL_USERNAME": "u",
            "KAFKA_SASL_PASSWORD": "pass word",
            "SCHEMA_REGISTRY_URL": "https://registry.example",
            "SCHEMA_REGISTRY_USERNAME": "u",
            "SCHEMA_REGISTRY_PASSWORD": "registry word",
        },
        LISTEN,
        {"WEBHOOK_SECRET_FILE": str(secret)},
    )
    settings = load({}, environ, None).settings
    before = ("pass word", "registry word", "token-1", "whsec_2", "whsec_3")
    assert redact(", ".join(before)) == ", ".join(["[hidden]"] * 5)
    secret.write_text("whsec_3 whsec_40\n")
    os.utime(secret, ns=(1, 1))
    (one,) = settings.all_accounts
    assert one.webhook_secret is not None
    one.webhook_secret.reveal()
    assert redact("whsec_40") == "[hidden]"
