"""A bridge's statistics, and a client of the health port that shows them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx  # noqa: TID251 - the client of these tests
import pytest
import trio

from bridge.http.server import serve
from bridge.operations.health import Health
from bridge.operations.metrics import Metrics
from tests.operations.statistics import NOW, UPTIME, Statistics


@pytest.fixture
def statistics(monkeypatch: pytest.MonkeyPatch) -> Statistics:
    """The statistics at a fixed moment; a test may change them at any time."""
    monkeypatch.setattr("time.time", lambda: NOW)
    return Statistics()


@pytest.fixture
async def client(
    statistics: Statistics, nursery: trio.Nursery
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a health port that is served for the test."""
    sources = statistics.sources()
    health = Health(sources, lambda: Metrics(sources), clock=lambda: UPTIME)
    port: int = await nursery.start(serve, health.app(), "127.0.0.1:0")
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client
    nursery.cancel_scope.cancel()
