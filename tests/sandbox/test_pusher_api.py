"""Publishing with the signature of Pusher's server libraries."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients

from bridge.sandbox.config import App, Call
from tests.sandbox.client import Client, connect
from tests.sandbox.conftest import Start


_APP = App("depin-api-prod-key", "sandbox-secret")
_EVENTS, _BATCH = "/apps/sandbox/events", "/apps/sandbox/batch_events"


async def _call(
    http: httpx.AsyncClient, base: str, path: str, content: Any, *, app: App = _APP
) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    query = app.signed_query(Call("POST", path, body=body), time.time())
    return await http.post(f"{base}{path}", params=query, content=body)


async def _listen(client: Client) -> str:
    socket_id = await client.established()
    await client.send("pusher:subscribe", {"channel": "news"})
    await client.receive()
    return socket_id


async def test_events_reach_their_channels_in_order(
    start: Start, http: httpx.AsyncClient
) -> None:
    """By `channel`, `channels` or in a batch; but not to their own socket."""
    sandbox, base = await start()
    path = "/apps/sandbox/channels/news"

    async def look() -> Any:
        query = _APP.signed_query(Call("GET", path), time.time())
        return (await http.get(f"{base}{path}", params=query)).json()

    assert await look() == {"subscription_count": 0, "occupied": False}
    async with connect(base) as one, connect(base) as other:
        own, _ = await _listen(one), await _listen(other)
        assert await look() == {"subscription_count": 2, "occupied": True}
        event: dict[str, Any] = {"name": "e", "channel": "news", "data": "first"}
        answer = await _call(http, base, _EVENTS, event)
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
        event = {"name": "e", "channels": ["a", "news"], "data": {"second": 2}}
        await _call(http, base, _EVENTS, event | {"socket_id": own})
        batch = [
            {"name": "e", "channel": "news", "data": str(number)}
            for number in range(10)
        ]
        answer = await _call(http, base, _BATCH, {"batch": batch})
        assert (answer.status_code, answer.json()) == (200, {"batch": [{}] * 10})
        numbers = [str(number) for number in range(10)]
        for client, wanted in (
            (one, ["first", *numbers]),
            (other, ["first", {"second": 2}, *numbers]),
        ):
            assert [(await client.receive())["data"] for _ in wanted] == wanted
    assert sandbox.statistics.events_published == 12
    assert sandbox.statistics.events_emitted == 0


async def test_what_is_wrong_is_refused(start: Start, http: httpx.AsyncClient) -> None:
    """With soketi's status, and nothing is published."""
    sandbox, base = await start()
    good = {"name": "e", "channel": "news", "data": "x"}
    table: list[tuple[str, Any, int]] = [
        *((_EVENTS, text, 400) for text in (b"{", b"[" * 100_000)),
        (_EVENTS, {"channel": "a", "data": "x"}, 400),
        *((_EVENTS, {**good, "data": data}, 400) for data in ("", None)),
        (_EVENTS, {"name": "e", "data": "x"}, 400),
        (_EVENTS, {**good, "channel": "a b"}, 400),
        (_EVENTS, {"name": "e", "channels": ["a"] * 101, "data": "x"}, 400),
        (_EVENTS, {**good, "name": "e" * 201}, 400),
        (_EVENTS, {**good, "data": "x" * 102_401}, 413),
        (_BATCH, b"{", 400),
        (_BATCH, {"batch": 5}, 400),
        (_BATCH, {"batch": [{}]}, 400),
        (_BATCH, {}, 400),
        (_BATCH, {"batch": [good] * 11}, 400),
        ("/apps/other/events", good, 404),
    ]
    wrong = []
    for path, body, status in table:
        answer = await _call(http, base, path, body)
        if answer.status_code != status or not answer.json():
            wrong.append((path, str(body)[:80], answer.status_code, answer.text))
    other = App("depin-api-prod-key", "wrong")
    unsigned = [
        await _call(http, base, _EVENTS, good, app=other),
        await _call(http, base, _BATCH, good, app=other),
        await http.post(f"{base}{_EVENTS}", json=good),
        await http.post(f"{base}{_BATCH}", json=good),
        await http.get(f"{base}/apps/sandbox/channels/news"),
    ]
    assert {answer.status_code for answer in unsigned} == {401}
    assert not wrong
    assert sandbox.statistics.events_published == 0
    answer = await _call(http, base, _EVENTS, {**good, "data": "x" * 102_400})
    assert answer.status_code == 200


# The example that Pusher's documentation works through, key and secret included.
_DOCUMENTED = App("278d425bdf160c739803", "7ad3773142a6692b25b8")
_BODY = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
_NOW = 1353088179.0
_QUERY = {
    "auth_key": "278d425bdf160c739803",
    "auth_timestamp": "1353088179",
    "auth_version": "1.0",
    "body_md5": "ec365a775a4cd0599faeb73354201b6f",
    "auth_signature": (
        "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
    ),
}


def test_signatures_are_those_of_pushers_documentation() -> None:
    """Of a channel and of a call; whatever is changed or left out is refused."""
    assert _DOCUMENTED.channel_auth("1234.1234", "private-foobar") == (
        "278d425bdf160c739803:"
        "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
    )
    path = "/apps/3/events"
    unsigned = Call("POST", path, body=_BODY)
    assert _DOCUMENTED.signed_query(unsigned, _NOW) == _QUERY
    call = Call("POST", path, _QUERY, _BODY)
    for age in (-600, 0, 600):
        assert _DOCUMENTED.why_refused(call, _NOW + age) is None
    for age in (-601, 601):
        assert "600 s" in (_DOCUMENTED.why_refused(call, _NOW + age) or "")
    calls = [
        Call("GET", path, _QUERY, _BODY),
        Call("POST", "/apps/4/events", _QUERY, _BODY),
        Call("POST", path, _QUERY, b"{}"),
        *(
            Call("POST", path, _QUERY | {name: value}, _BODY)
            for name, value in [
                *[("auth_key", "other"), ("auth_version", "2.0"), ("body_md5", "")],
                *[
                    ("auth_timestamp", text)
                    for text in ("soon", "9" * 40, "1353087578")
                ],
                *[("auth_signature", text) for text in ("0" * 64, "\N{SNOWMAN}")],
                ("info", "user_count"),
            ]
        ),
        *(
            Call("POST", path, {k: v for k, v in _QUERY.items() if k != name}, _BODY)
            for name in _QUERY
        ),
    ]
    taken = [call for call in calls if _DOCUMENTED.why_refused(call, _NOW) is None]
    assert not taken
