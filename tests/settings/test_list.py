"""Tests of the list that help, documentation and schema are made from."""

from __future__ import annotations

import re

import pytest

from bridge.settings import all_settings
from bridge.settings.model import sections


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
