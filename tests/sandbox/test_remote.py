"""Driving another Pusher server: a second sandbox, and a real soketi."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio

from bridge.sandbox import Sandbox, SandboxConfig, SandboxError
from bridge.sandbox.config import App
from tests.kit.publisher import Soketi
from tests.sandbox.client import connect, wait_until
from tests.sandbox.conftest import Start


@pytest.mark.connected
async def test_a_real_soketi_delivers_every_event(start: Start, soketi: Soketi) -> None:
    """From the first subscriber on; what it accepted arrives, in order per job."""
    app = soketi.app
    sandbox, _ = await start(
        pusher_url=soketi.url,
        app_id=app.id,
        app_key=app.key,
        app_secret=app.secret,
        client_id="sandbox-remote",
        rate=1_000,
    )
    jobs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    received = 0
    url = soketi.url.replace("ws", "http", 1)
    async with connect(url, f"/app/{app.key}?protocol=7") as client:
        socket_id = await client.established()
        assert sandbox.statistics.events_emitted == 0
        await client.subscribe(
            "private-client.sandbox-remote", App(app.key, app.secret), socket_id
        )
        await wait_until(lambda: sandbox.statistics.events_emitted > 1_000)
        statistics = await sandbox.stop_emission()
        while received < statistics.events_emitted:
            frame = await client.receive()
            event = json.loads(frame["data"])
            jobs[event["request_id"]].append(event)
            received += 1
    assert statistics.events_refused == 0
    assert len(jobs) > 5
    for job in jobs.values():
        assert job[0]["status"] == "processing"
        progress = [float(event["progress"]) for event in job]
        assert progress == sorted(progress)
        assert all(event["status"] == "in_progress" for event in job[1:-1])


async def test_the_other_server_has_the_sockets(
    start: Start, http: httpx.AsyncClient
) -> None:
    """A sandbox that drives another one has no WebSocket, and still authorises."""
    _, pusher = await start()
    _, base = await start(pusher_url=pusher.replace("http", "ws"))
    async with connect(base) as client:
        assert client.status == 404
    body = {"socket_id": "1.2", "channel_name": "private-client.sandbox"}
    assert (await http.post(f"{base}/broadcasting/auth", json=body)).is_success
    assert (await http.post(f"{base}/apps/sandbox/events")).status_code == 404
    for path, content in (("drop", "{}"), ("refuse", '{"seconds":1}')):
        answer = await http.post(f"{base}/sandbox/sockets/{path}", content=content)
        assert answer.status_code == 409
        assert "--pusher-url" in answer.json()["message"]


async def test_events_that_are_not_taken_are_counted_as_refused(start: Start) -> None:
    """By a server with another secret, or by none; the sandbox goes on."""
    other, pusher = await start()
    for url in (pusher.replace("http", "ws"), "ws://127.0.0.1:9"):
        sandbox, _ = await start(
            pusher_url=url, app_secret="wrong", rate=200, wait_for_subscriber=False
        )
        await wait_until(lambda: sandbox.statistics.events_refused > 20)  # noqa: B023
        statistics = await sandbox.stop_emission()
        assert statistics.events_emitted == other.statistics.events_published == 0


async def test_a_wrong_secret_ends_the_sandbox(start: Start) -> None:
    """A server that refuses the app is one clear error, where a subscriber matters."""
    _, pusher = await start()
    config = SandboxConfig(
        listen="127.0.0.1:0",
        pusher_url=pusher.replace("http", "ws"),
        app_secret="wrong",
    )
    with pytest.raises(ExceptionGroup) as raised, trio.fail_after(30):
        await Sandbox(config).serve()
    assert raised.group_contains(SandboxError, match="refuses the app")
