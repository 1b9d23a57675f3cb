"""Tests of the options that readers share."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bridge.cli.group import BridgeGroup
from bridge.cli.options import reading_options, setting_options
from bridge.settings import Settings


@pytest.fixture
def seen() -> list[Settings]:
    """What the reader's command was given."""
    return []


@pytest.fixture
def group(seen: list[Settings]) -> BridgeGroup:
    """A group as the root is, with a reader's command."""

    @click.group(cls=BridgeGroup)
    @setting_options()
    def group() -> None:
        """Take the flags of the root."""

    @group.command()
    @reading_options
    @click.option("--limit", type=int)
    def read(settings: Settings, limit: int | None) -> None:
        """Read a topic."""
        assert limit in {None, 3}
        seen.append(settings)

    assert isinstance(group, BridgeGroup)
    return group


def test_a_reader_gets_settings_without_an_account(
    group: BridgeGroup, seen: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither client id nor token is needed to look at a topic."""
    monkeypatch.delenv("BRIDGE_CLIENT_ID")
    monkeypatch.delenv("BRIDGE_API_TOKEN")
    args = ["read", "--topic=t", "--bootstrap-servers=k:1", "--limit=3"]
    result = CliRunner().invoke(group, args)
    assert (result.exit_code, result.output) == (0, "")
    assert seen[0].topic == "t"
    assert seen[0].kafka.bootstrap_servers == "k:1"
    assert seen[0].api_token is None


def test_a_reader_inherits_the_roots_flags(
    group: BridgeGroup, seen: list[Settings], tmp_path: Path
) -> None:
    """Flags before the command count, those after it win."""
    file = tmp_path / "bridge.toml"
    file.write_text("[kafka]\nbootstrap_servers = 'file:1'\n")
    args = ["--topic=a", "read", "--topic=b", f"--config={file}"]
    assert CliRunner().invoke(group, args).exit_code == 0
    assert seen[0].topic == "b"
    assert seen[0].kafka.bootstrap_servers == "file:1"
    assert CliRunner().invoke(group, ["--topic=a", "read"]).exit_code == 0
    assert seen[1].topic == "a"


def test_a_reader_warns_of_unknown_variables(
    group: BridgeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a log of its own the warning goes to stderr."""
    monkeypatch.setenv("BRIDGE_TOPC", "x")
    result = CliRunner().invoke(group, ["read"])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr.startswith("bridge: warning: ")
    assert "BRIDGE_TOPIC" in result.stderr


def test_a_reader_learns_of_wrong_settings(
    group: BridgeGroup, seen: list[Settings]
) -> None:
    """A wrong value ends with 2 before anything is read."""
    result = CliRunner().invoke(group, ["read", "--bootstrap-servers", "k"])
    assert result.exit_code == 2
    assert result.stderr.startswith("bridge: kafka.bootstrap_servers (")
    assert seen == []
