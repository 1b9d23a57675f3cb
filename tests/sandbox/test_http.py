"""dryAPI's interface over HTTP, as its documentation says, and faults on command."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio
from PIL import Image
from trio.testing import MockClock

from bridge.sandbox.api import RateLimiter
from tests.sandbox.client import connect, subscribed, wait_until
from tests.sandbox.conftest import Start


_ASKED = {"socket_id": "123.456", "channel_name": "private-client.sandbox"}
# Computed here, without the sandbox's own code.
_SIGNATURE = hmac.new(
    b"sandbox-secret", b"123.456:private-client.sandbox", hashlib.sha256
).hexdigest()
_STATUS = "/api/v1/client/request-status"
_AUTH = "/broadcasting/auth"
_MINUTE = ("x-ratelimit-limit", "x-ratelimit-remaining")
_DAY = ("x-ratelimit-daily-limit", "x-ratelimit-daily-remaining")


async def _start_job(http: httpx.AsyncClient, base: str, **body: Any) -> str:
    answer = await http.post(f"{base}/jobs", json={"interval_seconds": 0, **body})
    assert answer.status_code == 201
    return str(answer.json()["request_id"])


async def _status(http: httpx.AsyncClient, base: str, request_id: str) -> Any:
    answer = await http.get(f"{base}{_STATUS}/{request_id}")
    assert (answer.status_code, list(answer.json())) == (200, ["data"])
    return answer.json()["data"]


async def _ended(http: httpx.AsyncClient, base: str, request_id: str) -> Any:
    with trio.fail_after(10):
        while True:
            data = await _status(http, base, request_id)
            if data["status"] in {"done", "error"}:
                return data
            await trio.sleep(0.2)


def _limits(answer: httpx.Response) -> dict[str, str]:
    names = ("x-ratelimit", "retry-after")
    return {
        name: value for name, value in answer.headers.items() if name.startswith(names)
    }


# -- Requests and answers --------------------------------------------------------------


async def test_other_sites_send_no_commands(
    start: Start, http: httpx.AsyncClient
) -> None:
    """Nor does a foreign name read anything; dryAPI's own endpoints are open."""
    _, base = await start()
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    form = foreign | {"Sec-Fetch-Mode": "navigate"}
    for path in ("/sandbox/emission", "/sandbox/sockets/drop", "/jobs"):
        for headers in (foreign, form):
            answer = await http.post(f"{base}{path}", headers=headers)
            assert answer.status_code == 403
    requests = f"{base}/sandbox/requests"
    assert (await http.get(requests, headers=foreign)).status_code == 403
    evil = {"Host": "evil.example"}
    assert (await http.get(requests, headers=evil)).status_code == 421
    answer = await http.post(f"{base}{_AUTH}", json=_ASKED, headers=foreign)
    assert answer.status_code == 200


async def test_each_request_has_its_answer(
    start: Start, http: httpx.AsyncClient
) -> None:
    """Status and body of the documentation, and its error body where it has one."""
    sandbox, base = await start()
    right = {"auth": f"depin-api-prod-key:{_SIGNATURE}"}
    unauthenticated = {"message": "Unauthenticated."}
    form = _ASKED | {f"field-{number}": "x" for number in range(200)}
    one_field = {"socket_id": "1.2"}
    forbidden = ("private-client.other", "client.sandbox", "private-client.sandbox2")
    # Method, path, what the request holds, status, and what its body must hold.
    table: list[tuple[str, str, dict[str, Any], int, object]] = [
        ("POST", _AUTH, {"json": _ASKED}, 200, right),
        ("POST", _AUTH, {"data": _ASKED}, 200, right),
        *(
            (
                "POST",
                _AUTH,
                {"json": _ASKED, "headers": {"Authorization": word}},
                401,
                {},
            )
            for word in (
                "",
                "Bearer wrong",
                "Basic sandbox-token",
                "Bearer",
                "Bearer é",
            )
        ),
        (
            *("POST", _AUTH),
            {"json": _ASKED, "headers": {"Authorization": "x"}},
            *(401, unauthenticated),
        ),
        *(
            ("POST", _AUTH, {"json": _ASKED | {"channel_name": name}}, 403, {})
            for name in forbidden
        ),
        ("POST", _AUTH, {"json": one_field}, 422, {"errors"}),
        ("POST", _AUTH, {"json": _ASKED | {"socket_id": 5}}, 422, {"errors"}),
        ("POST", _AUTH, {"json": _ASKED | {"socket_id": "a:b"}}, 422, {"errors"}),
        *(
            ("POST", _AUTH, {"content": body}, 422, {"errors"})
            for body in (b"[]", b"{", b"", b"[" * 60_000)
        ),
        ("POST", _AUTH, {"data": form}, 422, {"errors"}),
        ("POST", _AUTH, {"content": b"x" * 100_000}, 413, {}),
        ("GET", f"{_STATUS}/x", {}, 404, 404),
        ("GET", f"{_STATUS}/x", {"headers": {"Authorization": "Bearer x"}}, 401, 401),
        ("GET", "/previews/x.jpg", {}, 404, 404),
        ("GET", "/nothing", {}, 404, 404),
        *((name, f"{_STATUS}/x", {}, 405, 405) for name in ("POST", "PUT", "DELETE")),
        *(
            ("POST", "/jobs", {"content": body}, 422, {"message"})
            for body in (
                b"{",
                b"[]",
                b'{"steps":-1}',
                b'{"steps":10001}',
                b"[" * 60_000,
            )
        ),
        # The sandbox's own commands: nonsense is refused and changes nothing.
        *(
            ("POST", f"/sandbox/{path}", {"content": body}, 422, {"message"})
            for path, body in (
                *(("emission", text) for text in ("", "{}", '{"rate":-1}', "[1]")),
                ("emission", '{"rate":1,"x":1}'),
                *(("sockets/drop", f'{{"code":{code}}}') for code in (1006, 200)),
                ("sockets/drop", '{"refuse":{"by":"fire","seconds":1}}'),
                *(("sockets/refuse", text) for text in ("{}", '{"seconds":-1}')),
                ("status-endpoint", "{}"),
                ("status-endpoint", '{"seconds":1,"share":2}'),
                ("status-endpoint", '{"seconds":1,"code":404}'),
                ("status-endpoint", "[" * 4_000),
            )
        ),
        ("POST", "/sandbox/jobs/unknown/finish", {}, 404, {"message"}),
        # Without an address there is nothing to command.
        ("POST", "/sandbox/webhooks/validate", {}, 409, {"message"}),
        ("POST", "/sandbox/webhooks/switch-on", {}, 409, {"message"}),
    ]
    wrong = []
    for method, path, request, status, wanted in table:
        if (headers := request.get("headers")) is not None:
            request["headers"] = {n: text.encode() for n, text in headers.items()}
        elif path == _AUTH and "content" in request:
            request["headers"] = {"Content-Type": "application/json"}
        answer = await http.request(method, f"{base}{path}", **request)
        body: Any = answer.json() if answer.content else None
        if wanted == status:
            good = list(body) == ["data", "message", "errors", "statusCode"]
            good = good and body["statusCode"] == status and bool(body["message"])
        elif isinstance(wanted, set):
            good = all(body.get(name) for name in wanted)
        else:
            good = wanted in ({}, body)
        if answer.status_code != status or not good:
            wrong.append((method, path, request, answer.status_code, answer.text[:200]))
    assert not wrong
    assert sandbox.statistics.jobs_started == 0
    assert sandbox.statistics.events_emitted == 0


async def test_a_browser_on_another_port_may_call(
    start: Start, http: httpx.AsyncClient
) -> None:
    """A page under development passes the preflight for its bearer token."""
    _, base = await start()
    headers = {
        "Origin": "http://localhost:5173",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = await http.options(f"{base}{_AUTH}", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_port_takes_what_networks_and_clients_do(start: Start) -> None:
    """Requests in pieces, two on one connection; garbage ends only its connection."""
    sandbox, base = await start()
    host, port = base.removeprefix("http://").split(":")
    for garbage in (b"\x16\x03\x01\n", b"GET /app/x\r\n\r\n", b"x" * 70_000 + b"\n"):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(garbage)
            with trio.fail_after(5):
                while await stream.receive_some():
                    pass
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        for _ in range(2):
            for piece in (b"G", b"ET /sandbox/sta", b"tistics HTTP/1.1\r\nHost: x\r\n"):
                await stream.send_all(piece)
                await trio.sleep(0.02)
            await stream.send_all(b"\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += await stream.receive_some()
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["events_emitted"] == 0
    async with subscribed(sandbox, base):
        pass


# -- Jobs ------------------------------------------------------------------------------


async def test_a_job_on_its_whole_way(start: Start, http: httpx.AsyncClient) -> None:
    """Events and status as documented; preview and result are images to download."""
    sandbox, base = await start()
    async with subscribed(sandbox, base) as client:
        wanted = {"steps": 3, "interval_seconds": 0.2, "fail": False}
        request_id = await _start_job(http, base, **wanted)
        pending = await _status(http, base, request_id)
        events = [json.loads((await client.receive())["data"]) for _ in range(2)]
        running = await _status(http, base, request_id)
        preview = await http.get(running["preview"])
        events += [json.loads((await client.receive())["data"]) for _ in range(3)]
        done = await _status(http, base, request_id)
    names = ["request_id", "status", "preview", "result_url", "progress"]
    assert [list(event) for event in events] == [names] * 5
    assert {event["request_id"] for event in events} == {request_id}
    statuses = ["processing", "in_progress", "in_progress", "in_progress", "done"]
    assert [event["status"] for event in events] == statuses
    progress = [event["progress"] for event in events]
    assert (progress[0], progress[-1]) == ("0.00", "100.00")
    assert progress == [f"{number:.2f}" for number in sorted(map(float, progress))]
    previews = [(event["preview"] or "")[:23] for event in events]
    assert previews == ["", *["data:image/jpeg;base64,"] * 3, ""]
    assert [bool(event["result_url"]) for event in events] == [*[False] * 4, True]

    names = ["status", "preview", "result_url", "results_alt_formats", "result"]
    for data in (pending, running, done):
        assert list(data) == [*names, "progress"]
        assert type(data["progress"]) is float
        assert data["result"] is None
    assert (pending["status"], pending["preview"]) == ("pending", None)
    assert running["status"] == "processing"
    assert 0 < running["progress"] < 100
    assert running["result_url"] is running["results_alt_formats"] is None
    assert Image.open(BytesIO(preview.content)).format == "JPEG"
    assert (done["status"], done["progress"], done["preview"]) == ("done", 100.0, None)
    url = done["result_url"]
    assert done["results_alt_formats"] == {"jpg": url, "webp": None}
    assert url.startswith(f"{base}/results/{request_id}.jpg?expires=")
    async with httpx.AsyncClient(trust_env=False) as anybody:
        answer = await anybody.get(url)
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(BytesIO(answer.content)).size == (768, 768)
        # The address is signed, with its path and its end.
        for other in (url.replace("expires=1", "expires=2"), url.partition("?")[0]):
            assert (await anybody.get(other)).status_code == 403


async def test_a_failure_is_never_pushed(start: Start, http: httpx.AsyncClient) -> None:
    """The status endpoint says `error`; the channel never did."""
    sandbox, base = await start()
    async with subscribed(sandbox, base) as client:
        request_id = await _start_job(http, base, steps=3, fail=True)
        data = await _ended(http, base, request_id)
        assert (data["status"], data["result_url"]) == ("error", None)
        await client.send("pusher:ping")
        frames = []
        while (frame := await client.receive())["event"] != "pusher:pong":
            frames.append(frame["data"])
    assert len(frames) == sandbox.statistics.events_emitted > 0
    assert not any('"error"' in frame or '"done"' in frame for frame in frames)


async def test_jobs_end_on_command(start: Start, http: httpx.AsyncClient) -> None:
    """Done with its event or failed without one, once, whoever is subscribed."""
    sandbox, base = await start(fail=0)
    ids = [
        await _start_job(http, base, interval_seconds=pace, steps=10_000)
        for pace in (3600, 3600, 0.05)
    ]
    await wait_until(lambda: sandbox.statistics.events_by_status["in_progress"])
    for request_id, how, status in zip(
        ids, ("finish", "fail", "finish"), ("done", "error", "done"), strict=True
    ):
        answer = await http.post(f"{base}/sandbox/jobs/{request_id}/{how}")
        assert answer.json() == {"request_id": request_id, "status": status}
        assert (await _status(http, base, request_id))["status"] == status
        again = await http.post(f"{base}/sandbox/jobs/{request_id}/{how}")
        assert again.status_code == 409
        assert status in again.json()["message"]
    counted = sandbox.statistics
    assert (counted.jobs_running, counted.jobs_done, counted.jobs_failed) == (0, 2, 1)
    assert counted.events_by_status["done"] == 2


async def test_jobs_at_once_are_bounded(start: Start, http: httpx.AsyncClient) -> None:
    """The thousand and first gets 429 and a time to come back."""
    _, base = await start()
    for _ in range(1_000):
        await _start_job(http, base, interval_seconds=3600)
    answer = await http.post(f"{base}/jobs")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0


# -- Limits and faults -----------------------------------------------------------------


async def test_calls_are_limited_and_told_what_is_left(
    start: Start, http: httpx.AsyncClient
) -> None:
    """The 51st of a minute gets 429; calls without token or with 5xx cost nothing."""
    sandbox, base = await start()
    url, fault = f"{base}{_STATUS}/x", f"{base}/sandbox/status-endpoint"
    await http.post(fault, json={"seconds": 3600})
    for _ in range(5):
        answer = await http.get(url)
        assert (answer.status_code, _limits(answer)) == (503, {})
        assert answer.json()["statusCode"] == 503
    await http.post(fault, json={"seconds": 0})
    for _ in range(60):
        answer = await http.get(url, headers={"Authorization": "Bearer x"})
        assert (answer.status_code, _limits(answer)) == (401, {})
    answers = [await http.get(url) for _ in range(51)]
    assert [answer.status_code for answer in answers] == [*[404] * 50, 429]
    for left, answer in zip(range(49, -1, -1), answers, strict=False):
        values = ("50", str(left), "200", str(left + 150))
        assert _limits(answer) == dict(zip(_MINUTE + _DAY, values, strict=True))
    refused = _limits(answers[-1])
    assert refused["x-ratelimit-type"] == "minute"
    assert 1 <= int(refused["retry-after"]) <= 60
    assert answers[-1].json()["statusCode"] == 429
    counted = sandbox.statistics.status_answers
    assert (counted["404"], counted["429"], counted["503"]) == (50, 1, 5)


async def test_a_share_of_the_calls_fails(
    start: Start, http: httpx.AsyncClient
) -> None:
    """With the code that was asked for, until it is taken back or over."""
    _, base = await start(plan="premium")
    url, fault = f"{base}{_STATUS}/x", f"{base}/sandbox/status-endpoint"
    await http.post(fault, json={"seconds": 3600, "share": 0.5, "code": 502})
    assert {(await http.get(url)).status_code for _ in range(60)} == {404, 502}
    await http.post(fault, json={"seconds": 0.2})
    assert (await http.get(url)).status_code == 503
    await trio.sleep(0.3)
    assert {(await http.get(url)).status_code for _ in range(5)} == {404}


async def test_plans_have_their_minutes_and_days(autojump_clock: MockClock) -> None:
    """Basic has 50 a minute and 200 a day, Premium 300 a minute and no day."""
    basic = RateLimiter("basic")
    for left in (150, 100, 50, 0):
        assert all(basic.take().allowed for _ in range(50))
        await trio.sleep(20)
        headers = basic.take().headers
        assert headers["X-RateLimit-Daily-Remaining"] == str(left)
        kind = headers["X-RateLimit-Type"], headers["Retry-After"]
        assert kind == ("minute", "40")
        await trio.sleep(40)
    headers = basic.take().headers
    kind = headers["X-RateLimit-Type"], headers["Retry-After"]
    assert kind == ("daily", str(86_400 - 240))
    await trio.sleep(86_400 - 240)
    assert basic.take().allowed
    premium = RateLimiter("premium")
    for _ in range(10):
        assert all(premium.take().allowed for _ in range(300))
        answer = premium.take()
        assert not answer.allowed
        assert answer.headers["X-RateLimit-Type"] == "minute"
        assert "X-RateLimit-Daily-Limit" not in answer.headers
        await trio.sleep(60)


_TurnedAway = Callable[[str], Awaitable[None]]


async def _by_http(base: str) -> None:
    async with connect(base) as client:
        assert client.status == 503


async def _by_reset(base: str) -> None:
    with pytest.raises(trio.BrokenResourceError):
        async with connect(base):
            pass


async def _by_error(base: str) -> None:
    async with connect(base) as client:
        assert (await client.receive())["data"]["code"] == 4200
        assert await client.wait_closed() == (4200, "")


@pytest.mark.parametrize("turned_away", [_by_http, _by_reset, _by_error])
async def test_sockets_are_dropped_and_new_ones_turned_away(
    start: Start, http: httpx.AsyncClient, turned_away: _TurnedAway
) -> None:
    """From one moment on, until it is taken back or the seconds are over."""
    sandbox, base = await start()
    by = turned_away.__name__.removeprefix("_by_")
    drop, refuse = f"{base}/sandbox/sockets/drop", f"{base}/sandbox/sockets/refuse"
    async with subscribed(sandbox, base) as one, subscribed(sandbox, base) as other:
        body = {"refuse": {"seconds": 3600, "by": by}, "code": 4100, "message": "full"}
        assert (await http.post(drop, json=body)).json() == {"dropped": 2}
        for client in (one, other):
            assert (await client.receive())["data"] == {"code": 4100, "message": "full"}
            assert await client.wait_closed() == (4100, "")
    for _ in range(2):
        await turned_away(base)
    assert sandbox.statistics.connections_refused == 2
    await http.post(refuse, json={"seconds": 0})
    async with subscribed(sandbox, base) as client:
        assert (await http.post(drop, json={"code": None})).json() == {"dropped": 1}
        with pytest.raises(trio.BrokenResourceError):
            await client.receive()
    await wait_until(lambda: not sandbox.statistics.subscriptions)
    await http.post(refuse, json={"seconds": 0.3, "by": by})
    await turned_away(base)
    await trio.sleep(0.3)
    async with subscribed(sandbox, base):
        pass
