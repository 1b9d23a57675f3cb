"""Tests of exit codes, of groups of errors and of missing extras."""

from __future__ import annotations

import sys

import click
import pytest

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
    """The error that explains most is printed, without a traceback."""
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


@pytest.mark.parametrize(
    ("missing", "exit_code"), [("PIL", 2), ("bridge.sandbox.webhooks", 1)]
)
def test_a_missing_extra_is_named(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, missing: str, exit_code: int
) -> None:
    """The sandbox's packages may be missing; any other module is a defect."""
    for name in [name for name in sys.modules if name.startswith("bridge.sandbox")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    result = invoke("sandbox")
    assert result.exit_code == exit_code
    if missing == "PIL":
        (line,) = result.stderr.splitlines()
        assert line.endswith("pip install 'dryapi-kafka-bridge[sandbox]'")
    else:
        assert isinstance(result.exception, ModuleNotFoundError)
