"""Tests of the health port's answers, over real HTTP."""

from __future__ import annotations

from typing import Literal

import httpx  # noqa: TID251 - the client of these tests
import pytest
import structlog
import trio
import trio.testing

from bridge.gaps.limiter import Limits, Purpose
from bridge.kafka.topic_checks import Verdict
from bridge.operations.health import Health, LoopHeartbeat
from bridge.operations.metrics import Metrics
from tests.operations.statistics import Statistics, finding


def _check(answer: httpx.Response, name: str) -> dict[str, object]:
    (check,) = [check for check in answer.json()["checks"] if check["name"] == name]
    assert isinstance(check, dict)
    return check


def _for_information(answer: httpx.Response, name: str) -> tuple[bool, str]:
    """Give whether a check that isn't required is ok, and its detail."""
    check = _check(answer, name)
    assert check["required"] is False
    return bool(check["ok"]), str(check["detail"])


async def test_live_process_is_alive(client: httpx.AsyncClient) -> None:
    """With all heartbeats, the answer is 200 and shows each."""
    answer = await client.get("/livez")
    assert answer.status_code == 200
    checks = {
        "trio-loop": ("last beat 0.5 s ago", True),
        "kafka-thread": ("last beat 2.0 s ago", True),
        "loop-lag": ("at most 0.020 s during the last minute", False),
    }
    assert answer.json() == {
        "status": "ok",
        "reasons": [],
        "checks": [
            {"name": name, "ok": True, "detail": detail, "required": required}
            for name, (detail, required) in checks.items()
        ],
    }


async def test_working_bridge_is_ready(client: httpx.AsyncClient) -> None:
    """Subscribed, Kafka reached, outbox accepting: 200 with every check."""
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert {c["name"]: c["detail"] for c in answer.json()["checks"]} == {
        "subscribed": "1 of 1 accounts subscribed",
        "kafka-reached": "reached since the start",
        "outbox-accepting": "accepting",
        "account:client-1": "subscribed, last frame 1.5 s ago",
        "kafka-now": "connected",
        "topic:jobs": "2 facts are as needed",
        "webhooks:client-1": "of jobs that have ended the last 60.0 s ago",
        "outbox-lag": "3 records wait, 8192 bytes on disk, the oldest 2.0 s ago",
    }


async def test_topic_that_does_not_fit_is_shown_and_no_failure(
    client: httpx.AsyncClient, statistics: Statistics
) -> None:
    """A topic's fault and what to do about it are shown, and leave it ready."""
    what = "min.insync.replicas", "1", "2 or more", "Set it to 2."
    detail = "min.insync.replicas is 1, needed is 2 or more"
    for verdict, is_ok, remedy in (
        (Verdict.WARNING, False, ". Set it to 2"),
        (Verdict.ERROR, False, ". Set it to 2"),
        (Verdict.UNKNOWN, True, ""),
    ):
        findings = [finding(verdict, *what), finding()]
        statistics.relay.topic_findings = {"jobs": findings}
        answer = await client.get("/readyz")
        assert answer.status_code == 200
        expected = is_ok, f"{verdict}: {detail}{remedy}"
        assert _for_information(answer, "topic:jobs") == expected


@pytest.mark.parametrize(
    ("failed", "limits", "detail"),
    [
        (True, None, "it gives no answers; the bridge tries again"),
        (False, "daily", "this day's calls are used up; jobs of gaps stay unknown"),
    ],
)
async def test_a_status_endpoint_that_gives_nothing_is_shown(
    client: httpx.AsyncClient,
    statistics: Statistics,
    *,
    failed: bool,
    limits: Literal["daily"] | None,
    detail: str,
) -> None:
    """It is for information: events arrive anyway."""
    statistics.limiter.begin(Purpose.GAP)
    statistics.limiter.end(Limits(limited_by=limits), failed=failed)
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert _for_information(answer, "status-endpoint:client-1") == (False, detail)


async def test_webhooks_are_shown_where_they_are_taken(
    client: httpx.AsyncClient, statistics: Statistics
) -> None:
    """They aren't shown where they are off."""
    statistics.webhooks.last_terminal_at_us["client-1"] = None
    answer = await client.get("/readyz")
    detail = _check(answer, "webhooks:client-1")["detail"]
    assert detail == "of jobs that have ended none came yet"
    sources = statistics.sources(webhooks=None)
    health = Health(sources, lambda: Metrics(sources))
    names = [check.name for check in health.ready().checks]
    assert not [name for name in names if name.startswith("webhooks")]


async def test_a_foreign_name_reads_nothing(client: httpx.AsyncClient) -> None:
    """Addresses and private names are probes' and scrapers'; others are rebinding."""
    hosts = {
        **dict.fromkeys(("10.1.2.3:8080", "[fd00::1]:8080", "bridge:8080"), 200),
        **dict.fromkeys(("bridge.apps.svc", "bridge.apps.svc.cluster.local"), 200),
        **dict.fromkeys(("evil.example", "10.1.2.3.evil.example", "a@b", ""), 421),
    }
    for host, status in hosts.items():
        for path in ("/livez", "/readyz", "/metrics"):
            answer = await client.get(path, headers={"Host": host})
            assert answer.status_code == status, host
            assert ("BRIDGE_OPERATIONS_HOSTS" in answer.text) == (status == 421)
    # A load balancer's check.
    port = client.base_url.port
    assert port is not None
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /livez HTTP/1.0\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_verbose_answer_is_kubernetes_text(
    client: httpx.AsyncClient, statistics: Statistics
) -> None:
    """With `?verbose` there is a line for each check and a verdict."""
    statistics.outbox.full = True
    statistics.outbox.oldest_received_at_us = None
    statistics.relay.connected = False
    statistics.relay.last_error = "no broker answers"
    statistics.loop.lags.append(14.25)
    answer = await client.get("/readyz?verbose")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.splitlines() == [
        "[+]subscribed ok: 1 of 1 accounts subscribed",
        "[+]kafka-reached ok: reached since the start",
        "[-]outbox-accepting failed: full: nothing is accepted",
        "[+]account:client-1 ok: subscribed, last frame 1.5 s ago",
        "[~]kafka-now not ok, for information: not connected: no broker answers",
        "[+]topic:jobs ok: 2 facts are as needed",
        "[+]webhooks:client-1 ok: of jobs that have ended the last 60.0 s ago",
        "[+]outbox-lag ok: 3 records wait, 8192 bytes on disk",
        "readyz check failed",
    ]
    *_, lag, verdict = (await client.get("/livez?verbose")).text.splitlines()
    # A stall that is over is shown, and no failure.
    what = "at most 14.250 s during the last minute"
    assert lag == f"[~]loop-lag not ok, for information: {what}"
    assert verdict == "livez check passed"


async def test_stall_is_lag_for_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A loop that was held up shows for how long, and forgets it later."""
    held_up = 0.0
    heartbeat = LoopHeartbeat(lambda: trio.current_time() + held_up)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat.beat)
        await trio.sleep(5.5)
        held_up = 12.5
        await trio.sleep(1)
        assert abs(heartbeat.lag_seconds - 12.5) < 1e-6
        await trio.sleep(55)
        assert heartbeat.lag_seconds > 12
        await trio.sleep(10)
        assert heartbeat.lag_seconds < 1e-6
        nursery.cancel_scope.cancel()


async def test_nothing_is_cached(client: httpx.AsyncClient) -> None:
    """No answer may be kept by anything in between, and none names the server."""
    for path in ("/livez", "/readyz", "/metrics", "/nowhere"):
        answer = await client.get(path)
        assert answer.headers["cache-control"] == "no-store", path
        assert "server" not in answer.headers, path


async def test_other_methods_are_refused_in_json(client: httpx.AsyncClient) -> None:
    """Nothing can be changed over this port; HEAD is a GET without body."""
    answer = await client.post("/livez")
    assert answer.status_code == 405
    assert answer.json() == {"status": 405, "error": "Method Not Allowed"}
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert (await client.head("/readyz")).status_code == 200


async def test_bug_is_a_500_in_json_and_a_log_line(
    client: httpx.AsyncClient, statistics: Statistics
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
