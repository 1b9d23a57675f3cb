"""Tests of `bridge --record FILE`: the file that the wire is to be written to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import OutboxError
from bridge.pusher.recorded_lines import first_line
from bridge.settings import PusherSettings
from tests.cli.conftest import Invoke
from tests.cli.service import FakeService


@pytest.fixture
def open_to_all() -> Iterator[None]:
    """A process whose new files anybody may read unless they are told otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_the_service_gets_a_new_file_of_its_owner_alone(
    invoke: Invoke, service: FakeService, tmp_path: Path, open_to_all: None
) -> None:
    """What is recorded is nobody else's, whatever the process's umask says."""
    file = tmp_path / "wire.jsonl"
    result = invoke("--topic", "jobs", "--record", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert service.record == file
    assert service.recorded == (0o600, b"")
    assert file.read_bytes() == service.wire


def test_nothing_is_recorded_unless_asked_for(
    invoke: Invoke,
    service: FakeService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no setting: a variable of its name is unknown, a key in the file wrong."""
    monkeypatch.setenv("BRIDGE_RECORD", str(tmp_path / "wire.jsonl"))
    assert invoke().exit_code == 0
    assert service.record is None
    (warning,) = service.warnings
    assert warning.startswith("the environment variable BRIDGE_RECORD is no setting")
    config = tmp_path / "bridge.toml"
    config.write_text('record = "wire.jsonl"\n')
    result = invoke("--config", str(config))
    assert result.exit_code == 2
    assert "record in the file" in result.stderr
    assert list(tmp_path.iterdir()) == [config]


def test_another_file_is_not_written_to(
    invoke: Invoke, service: FakeService, tmp_path: Path
) -> None:
    """The line names the file, which stays as it is, and nothing starts."""
    file = tmp_path / "wire.jsonl"
    file.write_text("evidence")
    result = invoke("--record", str(file))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"bridge: --record: {file} exists and is no recording")
    assert file.read_text() == "evidence"
    assert service.settings is None


def test_a_recording_is_gone_on_with(
    invoke: Invoke, service: FakeService, tmp_path: Path
) -> None:
    """A supervisor may repeat the command: what was recorded before stays."""
    file = tmp_path / "wire.jsonl"
    before = first_line(PusherSettings()) + b'{"at":1.5,"ki'
    file.write_bytes(before)
    assert invoke("--record", str(file)).exit_code == 0
    assert service.recorded is not None
    assert service.recorded[1] == before
    assert file.read_bytes() == before + service.wire


def test_a_link_that_leads_nowhere_is_not_followed(
    invoke: Invoke, service: FakeService, tmp_path: Path
) -> None:
    """Whoever may write to the folder can't choose where the recording goes."""
    link = tmp_path / "wire.jsonl"
    link.symlink_to(tmp_path / "elsewhere")
    assert invoke("--record", str(link)).exit_code == 2
    assert not (tmp_path / "elsewhere").exists()
    assert service.settings is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/wire.jsonl", "No such file or directory"),
        ("file/wire.jsonl", "Not a directory"),
        ("", "exists"),
    ],
)
def test_a_file_that_cannot_be_made_is_wrong_use(
    invoke: Invoke, service: FakeService, tmp_path: Path, name: str, reason: str
) -> None:
    """The line says why, with 2, before anything starts."""
    (tmp_path / "file").write_text("x")
    result = invoke("--record", f"{tmp_path}/{name}")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"bridge: --record: {tmp_path}")
    assert reason in line
    assert service.settings is None


def test_wrong_settings_leave_no_file(
    invoke: Invoke, service: FakeService, tmp_path: Path
) -> None:
    """Whoever mends them can start again with the same command."""
    file = tmp_path / "wire.jsonl"
    assert invoke("--topic", "a b", "--record", str(file)).exit_code == 2
    assert not file.exists()
    assert invoke("--topic", "ab", "--record", str(file)).exit_code == 0
    assert service.record == file


def test_a_start_that_recorded_nothing_leaves_no_file(
    invoke: Invoke, service: FakeService, tmp_path: Path
) -> None:
    """It can be repeated as it was typed; what a failure recorded stays."""
    file = tmp_path / "wire.jsonl"
    service.error = OutboxError("in use")
    wire, service.wire = service.wire, b""
    assert invoke("--record", str(file)).exit_code == 1
    assert not file.exists()
    service.wire = wire
    assert invoke("--record", str(file)).exit_code == 1
    assert file.read_bytes() == wire


@pytest.mark.parametrize("command", [("tail",), ("config", "show"), ("verify",)])
def test_a_command_that_opens_no_connection_has_nothing_to_record(
    invoke: Invoke, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """It is refused before a command as well as behind it."""
    file = tmp_path / "wire.jsonl"
    for args in (["--record", str(file), *command], [*command, "--record", str(file)]):
        result = invoke(*args)
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert line.startswith("bridge: ")
        assert "--record" in line
    assert not file.exists()
