"""Driving another Pusher server: a real soketi, or none."""

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


def test_signatures_are_those_of_pushers_documentation() -> None:
    """Of a channel and of a call: its worked example, key and secret included."""
    app = App("278d425bdf160c739803", "7ad3773142a6692b25b8")
    assert app.channel_auth("1234.1234", "private-foobar") == (
        "278d425bdf160c739803:"
        "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
    )
    body = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
    assert app.signed_query("POST", "/apps/3/events", body, 1353088179.0) == {
        "auth_key": "278d425bdf160c739803",
        "auth_timestamp": "1353088179",
        "auth_version": "1.0",
        "body_md5": "ec365a775a4cd0599faeb73354201b6f",
        "auth_signature": (
            "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        ),
    }


@pytest.mark.connected
async def test_a_real_soketi_delivers_every_event(start: Start, soketi: Soketi) -> None:
    """From the first subscriber on; what it accepted arrives, in order per job."""
    app, channel = soketi.app, "private-client.sandbox-remote"
    options = {"app_id": app.id, "app_key": app.key, "app_secret": app.secret}
    sandbox, _ = await start(
        pusher_url=soketi.url, client_id="sandbox-remote", rate=1_000, **options
    )
    counts = sandbox.statistics
    progress: dict[str, list[float]] = defaultdict(list)
    received = 0
    url = soketi.url.replace("ws", "http", 1)
    async with connect(url, f"/app/{app.key}?protocol=7") as client:
        auth = App(app.key, app.secret).channel_auth(
            await client.established(), channel
        )
        assert counts.events_emitted == 0
        await client.send("pusher:subscribe", {"channel": channel, "auth": auth})
        await client.receive()
        await wait_until(lambda: counts.events_emitted > 1_000)
        await sandbox.simulation.set_rate(0)
        while received < counts.events_emitted:
            event = json.loads((await client.receive())["data"])
            progress[event["request_id"]].append(float(event["progress"]))
            received += 1
    assert counts.events_refused == 0
    assert len(progress) > 5
    assert all(each == sorted(each) for each in progress.values())


@pytest.mark.connected
async def test_events_that_are_not_accepted_are_counted(
    start: Start, soketi: Soketi
) -> None:
    """By a server with another secret, or by none; the sandbox goes on."""
    app = soketi.app
    wrong: dict[str, Any] = {
        "app_id": app.id,
        "app_key": app.key,
        "app_secret": "wrong",
    }
    for url in (soketi.url, "ws://127.0.0.1:9"):
        sandbox, _ = await start(
            pusher_url=url, rate=200, wait_for_subscriber=False, **wrong
        )
        counts = sandbox.statistics
        await wait_until(lambda: counts.events_refused > 20)  # noqa: B023
        assert counts.events_emitted == 0
    # Where a subscriber matters, such a server is an error.
    config = SandboxConfig(listen="127.0.0.1:0", pusher_url=soketi.url, **wrong)
    with pytest.raises(ExceptionGroup) as raised, trio.fail_after(30):
        await Sandbox(config).serve()
    assert raised.group_contains(SandboxError, match="refuses the app")


async def test_the_other_server_has_the_sockets(
    start: Start, http: httpx.AsyncClient
) -> None:
    """A sandbox that drives another one has no WebSocket, and still authorizes."""
    _, base = await start(pusher_url="ws://127.0.0.1:9", wait_for_subscriber=False)
    async with connect(base) as client:
        assert client.status == 404
    body = {"socket_id": "1.2", "channel_name": "private-client.sandbox"}
    assert (await http.post(f"{base}/broadcasting/auth", json=body)).is_success
    for path, content in (("drop", "{}"), ("refuse", '{"seconds":1}')):
        answer = await http.post(f"{base}/sandbox/sockets/{path}", content=content)
        assert answer.status_code == 409
        assert "--pusher-url" in answer.json()["message"]
