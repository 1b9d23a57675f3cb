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
def statistics() -> Statistics:
    """What the rooms count; a test changes it under the running server."""
    return Statistics()


@pytest.fixture
async def client(
    statistics: Statistics, nursery: trio.Nursery
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a health port that is served for the test."""
    sources = statistics.sources()
    health = Health(
        sources,
        lambda: Metrics(sources, now=lambda: NOW),
        clock=lambda: UPTIME,
        now=lambda: NOW,
    )
    port: int = await nursery.start(serve, health.app(), "127.0.0.1:0")
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client
    nursery.cancel_scope.cancel()
