"""Tests of exit codes, of groups of errors and of missing extras."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bridge.cli.group import BridgeGroup, LazyCommand
from bridge.errors import (
    BridgeError,
    ConfigError,
    KafkaError,
    KafkaRefusedError,
    KafkaUnreachableError,
    OutboxDamagedError,
    OutboxLockedError,
    RefusedError,
)
from tests.cli.conftest import Invoke
from tests.cli.service import FakeService


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (RefusedError("no"), 3),
        (KafkaRefusedError("no"), 4),
        (KafkaUnreachableError("no"), 4),
        (OutboxLockedError("no"), 2),
        (OutboxDamagedError("no"), 1),
        (ConfigError("no"), 2),
        (BridgeError("no"), 1),
        (ExceptionGroup("nursery", [RefusedError("no")]), 3),
        (
            ExceptionGroup(
                "outer", [ExceptionGroup("inner", [KafkaRefusedError("no")])]
            ),
            4,
        ),
        (ExceptionGroup("both", [KafkaRefusedError("hm"), RefusedError("no")]), 3),
        (ExceptionGroup("both", [OutboxLockedError("hm"), KafkaRefusedError("no")]), 4),
        (ExceptionGroup("both", [KafkaError("hm"), KafkaRefusedError("no")]), 4),
        (ExceptionGroup("both", [BridgeError("hm"), OutboxLockedError("no")]), 2),
        (BaseExceptionGroup("both", [KeyboardInterrupt(), RefusedError("no")]), 3),
    ],
    ids=repr,
)
def test_an_expected_failure_is_a_line_and_its_exit_code(
    invoke: Invoke, service: FakeService, error: Exception, exit_code: int
) -> None:
    """The most telling error is printed, without a traceback."""
    service.error = error
    result = invoke()
    assert result.exit_code == exit_code
    assert result.stderr == "bridge: no\n"


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        BaseExceptionGroup("nursery", [KeyboardInterrupt()]),
        click.Abort(),
    ],
    ids=repr,
)
def test_an_interrupt_is_a_clean_stop(
    invoke: Invoke, service: FakeService, error: BaseException
) -> None:
    """Ctrl-C outside of the service's own handling ends with 0."""
    service.error = error
    result = invoke()
    assert result.exit_code == 0
    assert result.stderr.strip() == ""


def test_a_message_of_several_lines_becomes_one(
    invoke: Invoke, service: FakeService
) -> None:
    """Only settings list their problems on lines of their own."""
    service.error = RefusedError("no\n  such   app")
    assert invoke().stderr == "bridge: no such app\n"
    service.error = ConfigError("one\ntwo")
    assert invoke().stderr == "bridge: one\nbridge: two\n"


@pytest.fixture
def lazy_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BridgeGroup:
    """A group whose commands miss something at import or when they run."""
    for name in ("at_import", "when_run", "no_extra"):
        monkeypatch.delitem(sys.modules, f"lazy_{name}", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    needs = "import package_that_is_not_there"
    command = "import click\n@click.command()\ndef command():\n    "
    for name, text in {
        "at_import": needs,
        "when_run": command + needs,
        "no_extra": needs,
        "defect": command + "import bridge.not_there",
    }.items():
        (tmp_path / f"lazy_{name}.py").write_text(text)
    return BridgeGroup(
        lazy_commands={
            "at-import": LazyCommand("lazy_at_import:command", "A.", extra="sandbox"),
            "when-run": LazyCommand("lazy_when_run:command", "B.", extra="sandbox"),
            "no-extra": LazyCommand("lazy_no_extra:command", "C."),
            "defect": LazyCommand("lazy_defect:command", "D.", extra="sandbox"),
        }
    )


@pytest.mark.parametrize("name", ["at-import", "when-run"])
def test_a_missing_extra_is_named(lazy_group: BridgeGroup, name: str) -> None:
    """A command that lacks its optional packages says what to install."""
    result = CliRunner().invoke(lazy_group, [name])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "needs the extra: pip install 'dryapi-kafka-bridge[sandbox]'" in line
    assert "package_that_is_not_there" in line


@pytest.mark.parametrize("name", ["no-extra", "defect"])
def test_another_missing_module_is_a_defect(lazy_group: BridgeGroup, name: str) -> None:
    """What no extra would bring keeps its traceback."""
    result = CliRunner().invoke(lazy_group, [name])
    assert result.exit_code == 1
    assert isinstance(result.exception, ModuleNotFoundError)
