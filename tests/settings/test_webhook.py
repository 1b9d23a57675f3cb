"""Tests of the settings for webhooks: what belongs together, and what is hidden."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.settings import Loaded, Scope, load
from bridge.text import redact
from tests.settings.starts import NEEDED, Wrong, check, environment


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
    """The secret is the single account's, and nobody is warned of a plain port."""
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
    """One of two webhook secrets stands in a text without the other."""
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
