"""Tests of `bridge config show`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bridge.settings import all_settings
from tests.cli.commands import bridge, drawn
from tests.cli.conftest import Invoke


def test_it_prints_toml_with_the_source_of_each_value(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal each setting is a line, grouped, with its source."""
    file = tmp_path / "bridge.toml"
    file.write_text("[kafka]\npartitions = 12\n")
    monkeypatch.setenv("BRIDGE_LOG_LEVEL", "DEBUG")
    result = invoke("--config", str(file), "config", "show", "--topic", "typed")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert 'topic = "typed"  # flag --topic' in lines
    assert 'client_id = "client-1"  # environment BRIDGE_CLIENT_ID' in lines
    assert f"partitions = 12  # file {file}" in lines
    assert 'level = "debug"  # environment BRIDGE_LOG_LEVEL' in lines
    assert "replication_factor = 3  # default" in lines
    assert "create_topics = false  # default" in lines
    assert 'dead_letters = "typed.dlq"  # default' in lines
    for setting in all_settings():
        assert setting.path.rpartition(".")[2] in result.stdout


def test_its_output_is_a_configuration(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it prints can be read with --config and gives the same values."""
    monkeypatch.delenv("BRIDGE_API_TOKEN")
    token = tmp_path / 'to"ken é'
    token.write_text("canary-token")
    monkeypatch.setenv("BRIDGE_API_TOKEN_FILE", str(token))
    first = invoke("config", "show", "--topic", "events")
    assert "canary" not in first.stdout
    file = tmp_path / "shown.toml"
    file.write_text(first.stdout)
    monkeypatch.delenv("BRIDGE_API_TOKEN_FILE")
    monkeypatch.delenv("BRIDGE_CLIENT_ID")
    second = invoke("config", "show", "--config", str(file))
    assert second.exit_code == 0
    assert tomllib.loads(second.stdout) == tomllib.loads(first.stdout)
    assert tomllib.loads(first.stdout)["api_token_file"] == str(token)


def test_listed_accounts_are_shown_as_such(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a table of the list, its token a star, and the output is read again."""
    monkeypatch.delenv("BRIDGE_CLIENT_ID")
    monkeypatch.delenv("BRIDGE_API_TOKEN")
    for name in ("one", "two", "hooks"):
        (tmp_path / name).write_text(f"canary-{name}")
    file = tmp_path / "bridge.toml"
    file.write_text(
        f'[[accounts]]\nclient_id = "a"\napi_token_file = "{tmp_path}/one"\n'
        f'webhook_secret_file = "{tmp_path}/hooks"\n'
        f'[[accounts]]\nclient_id = "b"\napi_token_file = "{tmp_path}/two"\n'
        f'webhook_secret_file = "{tmp_path}/hooks"\n'
        '[webhook]\nlisten = "127.0.0.1:8443"\n'
    )
    result = invoke("config", "show", "--config", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "canary" not in result.stdout
    assert f'client_id = "b"  # file {file}' in result.stdout.splitlines()
    assert tomllib.loads(result.stdout)["accounts"] == [
        {
            "client_id": client_id,
            "api_token_file": f"{tmp_path}/{token}",
            "webhook_secret_file": f"{tmp_path}/hooks",
        }
        for client_id, token in (("a", "one"), ("b", "two"))
    ]
    shown = tmp_path / "shown.toml"
    shown.write_text(result.stdout)
    again = invoke("config", "show", "--config", str(shown))
    assert tomllib.loads(again.stdout) == tomllib.loads(result.stdout)


def test_problems_end_it_with_2_after_the_list(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows what is right beside what is missing or wrong, then says why."""
    monkeypatch.delenv("BRIDGE_API_TOKEN")
    monkeypatch.setenv("BRIDGE_KAFKA_PARTITIONS", "six")
    monkeypatch.setenv("BRIDGE_TOPC", "x")
    result = invoke("config", "show")
    assert result.exit_code == 2
    assert "# api_token: missing  # default" in result.stdout
    assert "# partitions: wrong  # environment BRIDGE_KAFKA_PARTITIONS" in result.stdout
    assert 'client_id = "client-1"' in result.stdout
    warning, token, partitions = result.stderr.splitlines()
    assert warning.startswith("bridge: warning: the environment variable BRIDGE_TOPC")
    assert token.startswith("bridge: api_token")
    assert partitions.startswith("bridge: kafka.partitions")


def test_a_terminal_gets_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal every setting is a row, sizes have their unit."""
    token = tmp_path / "token"
    token.write_text("canary-token")
    monkeypatch.delenv("BRIDGE_API_TOKEN")
    monkeypatch.setenv("BRIDGE_API_TOKEN_FILE", str(token))
    monkeypatch.setenv("BRIDGE_TOPIC", "a b")
    line = bridge("config", "show")
    code, picture, errors = drawn(line, "stdout", COLUMNS="120")
    assert code == 2
    assert b"bridge: topic (BRIDGE_TOPIC, --topic) must be" in errors
    shown = picture.decode()
    for setting in all_settings():
        assert setting.path in shown
    assert "16 MiB" in shown
    assert "environment BRIDGE_CLIENT_ID" in shown
    assert "*** (from" in shown
    assert "wrong" in shown
    assert "canary" not in shown
