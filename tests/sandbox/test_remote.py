"""Driving another Pusher server: a second sandbox, and a real soketi."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio

from bridge.sandbox import Sandbox, SandboxConfig, SandboxError
from bridge.sandbox.signing import App
from tests.kit.publisher import Soketi
from tests.sandbox.client import Client, connect, subscribed, wait_until
from tests.sandbox.conftest import Start


async def _events_until_stopped(
    client: Client, sandbox: Sandbox, at_least: int
) -> list[dict[str, Any]]:
    """Read events until the sandbox has emitted enough, stop it, read the rest."""
    events: list[dict[str, Any]] = []

    async def take() -> None:
        frame = await client.receive()
        assert frame["event"] == "request.status.updated"
        events.append(json.loads(frame["data"]))

    while sandbox.statistics.events_emitted < at_least:
        await take()
    statistics = await sandbox.stop_emission()
    while len(events) < statistics.events_emitted:
        await take()
    return events


def _check_order(events: list[dict[str, Any]]) -> None:
    jobs = defaultdict(list)
    for event in events:
        jobs[event["request_id"]].append(event)
    assert len(jobs) > 5
    for job in jobs.values():
        assert job[0]["status"] == "processing"
        progress = [float(event["progress"]) for event in job]
        assert progress == sorted(progress)
        assert all(event["status"] == "in_progress" for event in job[1:-1])


async def test_events_go_to_the_other_server_in_order(start: Start) -> None:
    """Nothing begins before somebody subscribes there; then each job is in order."""
    other, pusher = await start()
    url = pusher.replace("http", "ws")
    sandbox, _ = await start(pusher_url=url, rate=2_000)
    await trio.sleep(0.5)
    assert sandbox.statistics.events_emitted == 0
    async with subscribed(other, pusher) as client:
        events = await _events_until_stopped(client, sandbox, 1_000)
    _check_order(events)
    assert sandbox.statistics.events_refused == 0
    assert other.statistics.events_published == len(events)


async def test_an_own_endpoint_is_not_offered_then(
    start: Start, http: httpx.AsyncClient
) -> None:
    """A sandbox that drives another server has no WebSocket, and still authorises."""
    _, pusher = await start()
    url = pusher.replace("http", "ws")
    _, base = await start(pusher_url=url)
    async with connect(base) as client:
        assert client.status == 404
    body = {"socket_id": "1.2", "channel_name": "private-client.sandbox"}
    assert (await http.post(f"{base}/broadcasting/auth", json=body)).is_success
    assert (await http.post(f"{base}/apps/sandbox/events")).status_code == 404


async def test_refused_events_are_not_counted_as_emitted(start: Start) -> None:
    """What the other server refuses is counted as refused, and as nothing else."""
    other, pusher = await start()
    sandbox, _ = await start(
        pusher_url=pusher.replace("http", "ws"),
        app_secret="wrong",
        rate=200,
        wait_for_subscriber=False,
    )
    await wait_until(lambda: sandbox.statistics.events_refused > 20)
    statistics = await sandbox.stop_emission()
    assert statistics.events_emitted == other.statistics.events_published == 0


async def test_an_unreachable_server_is_survived(start: Start) -> None:
    """Events are lost, as dryAPI's would be; the sandbox goes on and stops at once."""
    sandbox, _ = await start(
        pusher_url="ws://127.0.0.1:9", rate=200, wait_for_subscriber=False
    )
    await wait_until(lambda: sandbox.statistics.events_refused > 20)
    statistics = await sandbox.stop_emission()
    assert statistics.events_emitted == 0


async def test_a_wrong_secret_ends_the_sandbox(start: Start) -> None:
    """A server that refuses the app is one clear error."""
    _, pusher = await start()
    config = SandboxConfig(
        listen="127.0.0.1:0",
        pusher_url=pusher.replace("http", "ws"),
        app_secret="wrong",
    )
    with pytest.raises(ExceptionGroup) as raised:
        await Sandbox(config).serve()
    assert raised.group_contains(SandboxError, match="refuses the app")


@pytest.mark.connected
async def test_a_real_soketi_delivers_every_event(start: Start, soketi: Soketi) -> None:
    """What soketi accepted is what its subscriber gets, in order per job."""
    app = soketi.app
    sandbox, _ = await start(
        pusher_url=soketi.url,
        app_id=app.id,
        app_key=app.key,
        app_secret=app.secret,
        client_id="sandbox-remote",
        rate=1_000,
    )
    await trio.sleep(0.5)
    assert sandbox.statistics.events_emitted == 0
    url = soketi.url.replace("ws", "http", 1)
    async with connect(url, f"/app/{app.key}?protocol=7") as client:
        socket_id = await client.established()
        signer = App(app.key, app.secret)
        answer = await client.subscribe(
            "private-client.sandbox-remote", signer, socket_id
        )
        assert answer["event"] == "pusher_internal:subscription_succeeded"
        events = await _events_until_stopped(client, sandbox, 2_000)
    _check_order(events)
    assert sandbox.statistics.events_refused == 0
    assert any(event["preview"] for event in events)


@pytest.mark.connected
async def test_what_a_real_soketi_refuses_is_counted(
    start: Start, soketi: Soketi
) -> None:
    """A wrong secret, whatever status soketi hides it behind, makes no event."""
    sandbox, _ = await start(
        pusher_url=soketi.url,
        app_id=soketi.app.id,
        app_key=soketi.app.key,
        app_secret="wrong",
        rate=200,
        wait_for_subscriber=False,
    )
    await wait_until(lambda: sandbox.statistics.events_refused > 20)
    statistics = await sandbox.stop_emission()
    assert statistics.events_emitted == 0
