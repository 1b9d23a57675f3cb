"""Fixtures of the command line's tests: an environment without the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from bridge.cli import root
from tests.cli.service import FakeService


Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, logging_as_before: None) -> None:
    """An account in the environment, and nothing else of the bridge's."""
    # Commands set logging up for their own process.
    del logging_as_before
    for name in os.environ:
        if name.startswith("BRIDGE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BRIDGE_CLIENT_ID", "client-1")
    monkeypatch.setenv("BRIDGE_API_TOKEN", "canary-token")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """The service that `bridge` starts."""
    return FakeService(monkeypatch)


@pytest.fixture
def invoke() -> Invoke:
    """Run `bridge` with arguments in this process."""

    def run(*args: str) -> Result:
        return CliRunner().invoke(root, args, prog_name="bridge")

    return run
