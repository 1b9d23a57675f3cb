"""Publishing with the signature of Pusher's server libraries."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest

from bridge.sandbox.signing import App, Call
from tests.sandbox.client import connect
from tests.sandbox.conftest import Start


_APP = App("depin-api-prod-key", "sandbox-secret")


async def _call(
    http: httpx.AsyncClient,
    base: str,
    path: str,
    content: Any,
    *,
    app: App = _APP,
) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    query = app.signed_query(Call("POST", path, body=body), time.time())
    return await http.post(f"{base}{path}", params=query, content=body)


async def test_an_event_reaches_its_channels(
    start: Start, http: httpx.AsyncClient
) -> None:
    """`channel` and `channels` both work; the publisher's own socket is left out."""
    sandbox, base = await start()
    async with connect(base) as one, connect(base) as other:
        ids = [await one.established(), await other.established()]
        for client in (one, other):
            await client.send("pusher:subscribe", {"channel": "news"})
            await client.receive()
        event: dict[str, Any] = {"name": "e", "channel": "news", "data": "first"}
        answer = await _call(http, base, "/apps/sandbox/events", event)
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
        event = {"name": "e", "channels": ["a", "news"], "data": {"second": 2}}
        await _call(http, base, "/apps/sandbox/events", event | {"socket_id": ids[0]})
        await _call(http, base, "/apps/sandbox/events", event | {"data": "third"})
        received = [(await one.receive())["data"] for _ in range(2)]
        assert received == ["first", "third"]
        received = [(await other.receive())["data"] for _ in range(3)]
        assert received == ["first", {"second": 2}, "third"]
    assert sandbox.statistics.events_published == 3
    assert sandbox.statistics.events_emitted == 0


async def test_a_batch_keeps_its_order(start: Start, http: httpx.AsyncClient) -> None:
    """Ten events in a call arrive in order; eleven are refused together."""
    _, base = await start()
    async with connect(base) as client:
        await client.established()
        await client.send("pusher:subscribe", {"channel": "news"})
        await client.receive()
        batch = [
            {"name": "e", "channel": "news", "data": str(number)}
            for number in range(11)
        ]
        path = "/apps/sandbox/batch_events"
        refused = await _call(http, base, path, {"batch": batch})
        assert refused.status_code == 400
        answer = await _call(http, base, path, {"batch": batch[:10]})
        assert (answer.status_code, answer.json()) == (200, {"batch": [{}] * 10})
        received = [(await client.receive())["data"] for _ in range(10)]
        assert received == [str(number) for number in range(10)]


@pytest.mark.parametrize(("size", "status"), [(102_400, 200), (102_401, 413)])
async def test_data_has_a_limit(
    start: Start, http: httpx.AsyncClient, size: int, status: int
) -> None:
    """100 KiB pass, one byte more does not, and the refusal says so."""
    sandbox, base = await start()
    event = {"name": "e", "channel": "news", "data": "x" * size}
    answer = await _call(http, base, "/apps/sandbox/events", event)
    assert answer.status_code == status
    assert answer.json().get("code", 200) == status
    assert sandbox.statistics.events_published == (status == 200)


async def test_a_wrong_secret_is_refused(start: Start, http: httpx.AsyncClient) -> None:
    """401 for a signature with another secret, for both ways of publishing."""
    sandbox, base = await start()
    other = App("depin-api-prod-key", "wrong")
    for path in ("/apps/sandbox/events", "/apps/sandbox/batch_events"):
        answer = await _call(http, base, path, {}, app=other)
        assert answer.status_code == 401
        assert answer.json()["code"] == 401
        assert (await http.post(f"{base}{path}", json={})).status_code == 401
    assert sandbox.statistics.events_published == 0


async def test_an_unknown_app_is_refused(start: Start, http: httpx.AsyncClient) -> None:
    """404 for an app that isn't there."""
    _, base = await start()
    answer = await _call(http, base, "/apps/other/events", {})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[" * 100_000,
        {"channel": "news", "data": "x"},
        {"name": "e", "data": "x"},
        {"name": "e", "channel": "news"},
        {"name": "e", "channel": "news", "data": ""},
        {"name": "e", "channel": "news", "data": None},
        {"name": "e", "channel": "a b", "data": "x"},
        {"name": "e", "channels": ["a"] * 101, "data": "x"},
        {"name": "e" * 201, "channel": "news", "data": "x"},
    ],
)
async def test_nonsense_is_refused(
    start: Start, http: httpx.AsyncClient, content: Any
) -> None:
    """What can't be published gets 400 and an error."""
    _, base = await start()
    answer = await _call(http, base, "/apps/sandbox/events", content)
    assert answer.status_code == 400
    assert answer.json()["error"]


async def test_a_channel_tells_of_its_subscribers(
    start: Start, http: httpx.AsyncClient
) -> None:
    """The signed channel query says whether anybody is there."""
    _, base = await start()
    path = "/apps/sandbox/channels/news"

    async def look() -> Any:
        query = _APP.signed_query(Call("GET", path), time.time())
        return (await http.get(f"{base}{path}", params=query)).json()

    assert await look() == {"subscription_count": 0, "occupied": False}
    async with connect(base) as client:
        await client.established()
        await client.send("pusher:subscribe", {"channel": "news"})
        await client.receive()
        assert await look() == {"subscription_count": 1, "occupied": True}
    assert (await http.get(f"{base}{path}")).status_code == 401


@pytest.mark.parametrize("content", [b"{", {"batch": 5}, {}, {"batch": [{}]}])
async def test_a_nonsense_batch_is_refused(
    start: Start, http: httpx.AsyncClient, content: Any
) -> None:
    """A batch that can't be read gets 400 and publishes nothing."""
    sandbox, base = await start()
    answer = await _call(http, base, "/apps/sandbox/batch_events", content)
    assert answer.status_code == 400
    assert answer.json()["code"] == 400
    assert sandbox.statistics.events_published == 0
