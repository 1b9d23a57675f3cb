"""Tests of `bridge --record FILE`: the file that the wire is written to."""

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
def file(tmp_path: Path) -> Iterator[Path]:
    """A new file's path, in a process whose new files everybody may read."""
    before = os.umask(0)
    yield tmp_path / "wire.jsonl"
    os.umask(before)


def test_the_service_gets_a_new_file_of_its_owner(
    invoke: Invoke, service: FakeService, file: Path
) -> None:
    """Only its owner can read it, whatever the umask is."""
    result = invoke("--topic", "jobs", "--record", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert service.record == file
    assert service.recorded == (0o600, b"")
    assert file.read_bytes() == service.wire


def test_nothing_is_recorded_unless_asked_for(
    invoke: Invoke, service: FakeService, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't a setting: a variable of its name is unknown, a key in TOML wrong."""
    monkeypatch.setenv("BRIDGE_RECORD", str(file))
    assert invoke().exit_code == 0
    assert service.record is None
    (warning,) = service.warnings
    assert warning.startswith("the environment variable BRIDGE_RECORD is no setting")
    config = file.with_name("bridge.toml")
    config.write_text('record = "wire.jsonl"\n')
    result = invoke("--config", str(config))
    assert result.exit_code == 2
    assert "record in the file" in result.stderr
    assert not file.exists()


def test_a_recording_is_continued(
    invoke: Invoke, service: FakeService, file: Path
) -> None:
    """A supervisor may repeat the command: what was recorded before stays."""
    before = first_line(PusherSettings()) + b'{"at":1.5,"ki'
    file.write_bytes(before)
    assert invoke("--record", str(file)).exit_code == 0
    assert file.read_bytes() == before + service.wire


def test_what_cannot_be_recorded_to_is_wrong_use(
    invoke: Invoke, service: FakeService, file: Path
) -> None:
    """Exit code 2 and one line with the reason; nothing starts, nothing is changed."""
    evidence = file.with_name("evidence")
    evidence.write_text("evidence")
    link = file.with_name("link")
    link.symlink_to(file)
    table = [
        (("--record", str(evidence)), f"{evidence} exists and is no recording"),
        # Who may write to the folder can't choose where the recording goes.
        (("--record", str(link)), "exists and is no recording"),
        (("--record", f"{file.parent}/missing/wire"), "No such file or directory"),
        (("--record", f"{evidence}/wire"), "Not a directory"),
        (("--record", str(file.parent)), "exists"),
        (("--topic", "a b", "--record", str(file)), "topic"),
        # Commands that open no connection have nothing to record.
        *(
            (args, "--record")
            for command in (("tail",), ("config", "show"), ("verify",))
            for args in (
                ("--record", str(file), *command),
                (*command, "--record", str(file)),
            )
        ),
    ]
    wrong = []
    for args, reason in table:
        result = invoke(*args)
        line, *more = result.stderr.splitlines()
        if (
            (result.exit_code, more) != (2, [])
            or not line.startswith("bridge: ")
            or reason not in line
        ):
            wrong.append((args, result.exit_code, result.stderr))
    assert not wrong
    assert service.settings is None
    assert evidence.read_text() == "evidence"
    assert not file.exists()


def test_a_start_that_recorded_nothing_leaves_no_file(
    invoke: Invoke, service: FakeService, file: Path
) -> None:
    """It can be repeated as it was typed; what a failed start recorded stays."""
    service.error = OutboxError("in use")
    wire, service.wire = service.wire, b""
    assert invoke("--record", str(file)).exit_code == 1
    assert not file.exists()
    service.wire = wire
    assert invoke("--record", str(file)).exit_code == 1
    assert file.read_bytes() == wire
