"""Tests of `bridge --record FILE`: which commands accept it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.service import FakeService


def test_nothing_is_recorded_unless_asked_for(
    invoke: Invoke,
    service: FakeService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It isn't a setting, and commands that open no connection refuse it."""
    file = tmp_path / "wire.jsonl"
    monkeypatch.setenv("BRIDGE_RECORD", str(file))
    for args, record in (((), None), (("--record", str(file)), file)):
        assert invoke(*args).exit_code == 0
        assert service.record == record
    (warning,) = service.warnings
    assert warning.startswith("the environment variable BRIDGE_RECORD is no setting")
    service.settings = None
    for command in (("tail",), ("config", "show"), ("verify",)):
        for args in (("--record", str(file), *command), (*command, "--record", "a")):
            result = invoke(*args)
            assert (result.exit_code, "--record" in result.stderr) == (2, True), args
    assert service.settings is None
    assert not file.exists()
