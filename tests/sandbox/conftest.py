"""Fixtures of the sandbox's tests: a sandbox on a free port, and HTTP to it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio

from bridge.sandbox import Sandbox, SandboxConfig
from tests.kit import cache, npm


Start = Callable[..., Awaitable[tuple[Sandbox, str]]]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download the documented clients outside of any test's deadline."""
    names = (getattr(item, "fixturenames", ()) for item in session.items)
    wanted = any("seed_clients" in each for each in names)
    if wanted and not session.config.option.collectonly:
        # Should it fail, the tests that need them fail with its message.
        with contextlib.suppress(cache.FetchError):
            npm.fetch_seed_clients()


@pytest.fixture(scope="session")
def seed_clients() -> Path:
    """The folder with the `node_modules` of dryAPI's documented clients."""
    try:
        return npm.fetch_seed_clients()
    except cache.FetchError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
async def start(nursery: trio.Nursery) -> Start:
    """Start a sandbox with the given options: returns it and its base address."""

    async def begin(**options: Any) -> tuple[Sandbox, str]:
        quiet: dict[str, Any] = {"listen": "127.0.0.1:0", "rate": 0, "seed": 1}
        sandbox = Sandbox(SandboxConfig(**{**quiet, **options}))
        return sandbox, await nursery.start(sandbox.serve)

    return begin


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """Speak HTTP with the sandbox's token."""
    headers = {"Authorization": "Bearer sandbox-token"}
    async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
        yield client
