"""Tests of the health port's other answers: metrics, and what isn't there."""

from __future__ import annotations

import threading

import httpx  # noqa: TID251 - the client of these tests
import pytest
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from bridge.operations import metrics
from tests.operations.statistics import Statistics, families


async def test_metrics_speak_openmetrics(client: httpx.AsyncClient) -> None:
    """Who asks for OpenMetrics gets what its parser accepts."""
    accept = "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"
    answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    names = set(families(answer.text))
    assert {"bridge_outbox_rows", "bridge_build", "bridge_subscribed"} <= names


async def test_metrics_are_written_beside_the_loop(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading takes little; writing megabytes down keeps nobody from the socket."""
    encode, content_type = choose_encoder("")
    wrote: list[int] = []

    def note(registry: CollectorRegistry) -> bytes:
        wrote.append(threading.get_ident())
        return encode(registry)

    monkeypatch.setattr(metrics, "choose_encoder", lambda _: (note, content_type))
    assert "\nbridge_outbox_rows 3.0\n" in (await client.get("/metrics")).text
    (thread,) = wrote
    assert thread != threading.get_ident()


_PATHS: list[str] = ["/livez", "/readyz", "/metrics", "/nowhere"]


async def test_nothing_is_cached(
    subtests: pytest.Subtests, client: httpx.AsyncClient
) -> None:
    """No answer may be kept by anything in between, and none names the server."""
    for path in _PATHS:
        with subtests.test(path=path):
            answer = await client.get(path)
            assert answer.headers["cache-control"] == "no-store"
            assert "server" not in answer.headers


async def test_other_methods_are_refused_in_json(client: httpx.AsyncClient) -> None:
    """Nothing can be changed over this port; HEAD is a GET without body."""
    answer = await client.post("/livez")
    assert answer.status_code == 405
    assert answer.json() == {"status": 405, "error": "Method Not Allowed"}
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert (await client.head("/readyz")).status_code == 200


async def test_bug_is_a_500_in_json_and_a_log_line(
    client: httpx.AsyncClient,
    statistics: Statistics,
) -> None:
    """A failing collector hides nothing: 500 outside, the traceback in the log."""
    statistics.relay.publish_duration.counts = []
    with structlog.testing.capture_logs() as logs:
        answer = await client.get("/metrics")
    assert answer.status_code == 500
    assert answer.json() == {"status": 500, "error": "Internal Server Error"}
    assert answer.headers["cache-control"] == "no-store"
    assert (await client.get("/livez")).status_code == 200
    (line,) = logs
    assert line["event"] == "port.application_failed"
    assert isinstance(line["exc_info"], ValueError)
