"""A world whose threads take no time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.gaps.world import World


@pytest.fixture
def threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in the loop what runs in threads: trio's clock doesn't wait for them."""

    async def run_sync(work: Callable[..., Any], *args: object) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


@pytest.fixture
def world(threads_at_once: None) -> World:
    """Give one account with jobs, gaps and a dryAPI."""
    return World()
