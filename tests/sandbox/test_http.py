"""dryAPI's interface over HTTP, as documented, and faults on command."""

from __future__ import annotations

import hashlib
import hmac
import json
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


async def _start_job(http: httpx.AsyncClient, base: str, **body: Any) -> str:
    answer = await http.post(f"{base}/jobs", json={"interval_seconds": 0, **body})
    assert answer.status_code == 201
    return str(answer.json()["request_id"])


async def _status(http: httpx.AsyncClient, base: str, request_id: str) -> Any:
    answer = await http.get(f"{base}{_STATUS}/{request_id}")
    assert (answer.status_code, list(answer.json())) == (200, ["data"])
    return answer.json()["data"]


def _limits(answer: httpx.Response) -> dict[str, str]:
    names = ("x-ratelimit", "retry-after")
    return {
        name: value for name, value in answer.headers.items() if name.startswith(names)
    }


# -- Requests and answers ------------------------------------------------------


async def test_other_sites_send_no_commands(
    start: Start, http: httpx.AsyncClient
) -> None:
    """Nor does a foreign name read anything; pages may use dryAPI's own endpoints."""
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
    preflight = {
        "Origin": "http://localhost:5173",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = await http.options(f"{base}{_AUTH}", headers=preflight)
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_each_request_has_its_answer(
    start: Start, http: httpx.AsyncClient
) -> None:
    """Status and body of the documentation; nonsense changes nothing."""
    sandbox, base = await start()
    right = {"auth": f"depin-api-prod-key:{_SIGNATURE}"}
    tokens = ("", "Bearer wrong", "Basic sandbox-token", "Bearer", "Bearer é")
    channels = ("private-client.other", "client.sandbox", "private-client.sandbox2")
    one = "socket_id"
    sockets = ({one: "1.2"}, _ASKED | {one: "a:b"}, {**_ASKED, one: 5})
    form = _ASKED | {f"field-{number}": "x" for number in range(200)}
    is_json = {"headers": {"Content-Type": "application/json"}}
    # Path, what the request holds, and status.
    table: list[tuple[str, dict[str, Any], int]] = [
        (_AUTH, {"json": _ASKED}, 200),
        (_AUTH, {"data": _ASKED}, 200),
        *(
            (_AUTH, {"json": _ASKED, "headers": {"Authorization": b}}, 401)
            for b in (text.encode() for text in tokens)
        ),
        *((_AUTH, {"json": _ASKED | {"channel_name": c}}, 403) for c in channels),
        *((_AUTH, {"json": body}, 422) for body in sockets),
        *(
            (_AUTH, {"content": body, **is_json}, 422)
            for body in (b"[]", b"{", b"", b"[" * 60_000)
        ),
        (_AUTH, {"data": form}, 422),
        *((f"{_STATUS}/x", {"method": name}, 405) for name in ("POST", "DELETE")),
        (f"{_STATUS}/x", {"method": "GET"}, 404),
        ("/previews/x.jpg", {"method": "GET"}, 404),
        ("/app/depin-api-prod-key", {"method": "GET"}, 404),
        *(
            (f"/{path}", {"content": body}, 422)
            for path, body in (
                *(("jobs", text) for text in ("{", "[]", '{"steps":-1}', "[" * 60_000)),
                *(("sandbox/emission", text) for text in ("", '{"rate":-1}', "[1]")),
                ("sandbox/emission", '{"rate":1,"x":1}'),
                *(("sandbox/sockets/drop", f'{{"code":{n}}}') for n in (1006, 200)),
                ("sandbox/sockets/refuse", '{"by":"fire","seconds":1}'),
                ("sandbox/sockets/refuse", '{"seconds":-1}'),
                ("sandbox/status-endpoint", '{"seconds":1,"share":2}'),
                ("sandbox/status-endpoint", '{"seconds":1,"code":404}'),
                ("sandbox/answers", '{"path":"/","status":600}'),
            )
        ),
        ("/sandbox/jobs/unknown/finish", {}, 404),
        # Without --webhook-url there is nothing to command.
        ("/sandbox/webhooks/validate", {}, 409),
        ("/sandbox/webhooks/switch-on", {}, 409),
    ]
    wrong = []
    for path, request, status in table:
        answer = await http.request(url=f"{base}{path}", **{"method": "POST"} | request)
        body = answer.json()
        good = body == right
        if status != 200:
            good = list(body) == ["data", "message", "errors", "statusCode"]
            good = good and body["statusCode"] == status and bool(body["message"])
            good = good and bool(body["errors"]) == (status == 422 and path == _AUTH)
        if answer.status_code != status or not good:
            wrong.append((path, request, answer.status_code, answer.text[:200]))
    assert not wrong
    answer = await http.post(f"{base}{_AUTH}", content=b"x" * 100_000)
    assert answer.status_code == 413
    assert sandbox.statistics.jobs_started == 0
    assert sandbox.statistics.events_emitted == 0


# -- Jobs ----------------------------------------------------------------------


async def test_a_job_from_its_start_to_its_end(
    start: Start, http: httpx.AsyncClient
) -> None:
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

    url, nothing = done["result_url"], dict.fromkeys(names[2:4])
    nothing |= {"results_alt_formats": None, "result": None}
    assert pending == nothing | {"status": "pending", "progress": 0.0}
    assert running == nothing | {
        "status": "processing",
        "preview": f"{base}/previews/{request_id}.jpg",
        "progress": float(progress[1]),
    }
    assert Image.open(BytesIO(preview.content)).format == "JPEG"
    assert done == nothing | {
        "status": "done",
        "result_url": url,
        "results_alt_formats": {"jpg": url, "webp": None},
        "progress": 100.0,
    }
    assert url.startswith(f"{base}/results/{request_id}.jpg?expires=")
    async with httpx.AsyncClient(trust_env=False) as anybody:
        answer = await anybody.get(url)
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(BytesIO(answer.content)).size == (768, 768)
        # The address is signed, with its path and its end.
        for other in (url.replace("expires=1", "expires=2"), url.partition("?")[0]):
            assert (await anybody.get(other)).status_code == 403


async def test_a_failure_is_never_pushed(start: Start, http: httpx.AsyncClient) -> None:
    """The status endpoint reports `error`; no event does."""
    sandbox, base = await start()
    async with subscribed(sandbox, base) as client:
        request_id = await _start_job(http, base, steps=3, fail=True)
        await wait_until(lambda: sandbox.statistics.jobs_failed)
        data = await _status(http, base, request_id)
        assert (data["status"], data["result_url"]) == ("error", None)
        await client.send("pusher:ping")
        events = []
        while (message := await client.receive())["event"] != "pusher:pong":
            events.append(json.loads(message["data"])["status"])
    assert len(events) == sandbox.statistics.events_emitted > 0
    assert set(events) <= {"processing", "in_progress"}


async def test_jobs_end_on_command(start: Start, http: httpx.AsyncClient) -> None:
    """Done with its event or failed without one, once, with or without subscribers."""
    sandbox, base = await start(fail=0)
    for how, status, pace in (
        ("finish", "done", 3600),
        ("fail", "error", 3600),
        ("finish", "done", 0.05),
    ):
        request_id = await _start_job(http, base, interval_seconds=pace, steps=10_000)
        await trio.sleep(min(pace * 4, 0.2))
        answer = await http.post(f"{base}/sandbox/jobs/{request_id}/{how}")
        assert answer.json() == {"request_id": request_id, "status": status}
        assert (await _status(http, base, request_id))["status"] == status
        again = await http.post(f"{base}/sandbox/jobs/{request_id}/{how}")
        assert again.status_code == 409
        assert status in again.json()["message"]
    counts = sandbox.statistics
    assert (counts.jobs_running, counts.jobs_done, counts.jobs_failed) == (0, 2, 1)
    assert counts.events_by_status["done"] == 2
    assert counts.events_by_status["in_progress"] > 0
    # A thousand run at once; the next gets 429 and a time to come back.
    for _ in range(1_000):
        await _start_job(http, base, interval_seconds=3600)
    answer = await http.post(f"{base}/jobs")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0


# -- Limits and faults ---------------------------------------------------------


async def test_calls_are_limited(start: Start, http: httpx.AsyncClient) -> None:
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
        assert _limits(answer) == {
            "x-ratelimit-limit": "50",
            "x-ratelimit-remaining": str(left),
            "x-ratelimit-daily-limit": "200",
            "x-ratelimit-daily-remaining": str(left + 150),
        }
    refused = _limits(answers[-1])
    assert refused["x-ratelimit-type"] == "minute"
    assert 1 <= int(refused["retry-after"]) <= 60
    counts = sandbox.statistics.status_answers
    assert counts == {"503": 5, "401": 60, "404": 50, "429": 1}


async def test_plans_have_their_minutes_and_days(autojump_clock: MockClock) -> None:
    """Basic has 50 a minute and 200 a day, Premium 300 a minute and no day."""
    basic, premium = RateLimiter("basic"), RateLimiter("premium")
    for minute in range(4):
        assert all(basic.take().allowed for _ in range(50))
        assert all(premium.take().allowed for _ in range(300))
        await trio.sleep(20)
        refused = basic.take().headers
        assert refused["X-RateLimit-Daily-Remaining"] == str(150 - 50 * minute)
        for headers in (refused, premium.take().headers):
            wait = headers["X-RateLimit-Type"], headers["Retry-After"]
            assert wait == ("minute", "40")
        await trio.sleep(40)
    assert "X-RateLimit-Daily-Limit" not in headers
    headers = basic.take().headers
    wait = headers["X-RateLimit-Type"], headers["Retry-After"]
    assert wait == ("daily", str(86_400 - 240))
    assert premium.take().allowed
    await trio.sleep(86_400 - 240)
    assert basic.take().allowed


async def test_answers_are_replaced_on_command(
    start: Start, http: httpx.AsyncClient
) -> None:
    """Some times, for a share or a time; requests are kept, and accounts can change."""
    _, base = await start(plan="premium")
    url, order = f"{base}{_STATUS}/x", f"{base}/sandbox/answers"

    async def statuses(count: int) -> list[int]:
        return [(await http.get(url)).status_code for _ in range(count)]

    teapot = {"path": _STATUS, "status": 418, "headers": {"X-A": "b"}, "body": "tea"}
    await http.post(order, json=teapot | {"times": 2})
    more = {"headers": {"X-RateLimit-Limit": None, "X-A": "c", "Date": None}}
    await http.post(
        order, json={"path": _STATUS, "times": 1, "delay_seconds": 0.1} | more
    )
    answer = await http.get(url)
    assert (answer.status_code, answer.text, answer.headers["x-a"]) == (418, "tea", "b")
    assert await statuses(1) == [418]
    answer = await http.get(url)
    assert (answer.status_code, answer.headers["x-a"]) == (404, "c")
    assert "x-ratelimit-limit" not in answer.headers
    assert not answer.headers["date"]
    assert answer.elapsed.total_seconds() > 0.1
    fault = f"{base}/sandbox/status-endpoint"
    await http.post(fault, json={"seconds": 3600, "share": 0.5, "code": 502})
    assert set(await statuses(60)) == {404, 502}
    await http.post(fault, json={"seconds": 0.2})
    assert await statuses(1) == [503]
    await trio.sleep(0.3)
    assert await statuses(5) == [404] * 5

    for known, status in ((True, 200), (False, 403)):
        account = {"client_id": "b", "api_token": "sandbox-token", "known": known}
        await http.post(f"{base}/sandbox/accounts", json=account)
        asked = _ASKED | {"channel_name": "private-client.b"}
        answer = await http.post(f"{base}{_AUTH}", json=asked)
        assert answer.status_code == status
    seen = (await http.get(f"{base}/sandbox/requests")).json()
    assert len(seen) == 71
    assert (seen[-1]["method"], seen[-1]["path"]) == ("POST", _AUTH)
    assert (seen[-1]["authorization"], seen[-1]["fields"]) == (
        *("Bearer sandbox-token", asked),
    )


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
        assert await client.wait_closed() == 4200


async def test_sockets_are_dropped_and_new_ones_refused(
    start: Start, http: httpx.AsyncClient
) -> None:
    """From one moment on, until it is taken back or the seconds are over."""
    sandbox, base = await start()
    drop, refuse = f"{base}/sandbox/sockets/drop", f"{base}/sandbox/sockets/refuse"
    for by, refused in (("http", _by_http), ("reset", _by_reset), ("error", _by_error)):
        async with subscribed(sandbox, base) as one, subscribed(sandbox, base) as other:
            error = {"code": 4100, "message": "full"}
            body = {"refuse": {"seconds": 3600, "by": by}, **error}
            assert (await http.post(drop, json=body)).json() == {"dropped": 2}
            for client in (one, other):
                assert (await client.receive())["data"] == error
                assert await client.wait_closed() == 4100
        await refused(base)
        await http.post(refuse, json={"seconds": 0})
    assert sandbox.statistics.connections_refused == 3
    async with subscribed(sandbox, base) as client:
        assert (await http.post(drop, json={"code": None})).json() == {"dropped": 1}
        with pytest.raises(trio.BrokenResourceError):
            await client.receive()
    await wait_until(lambda: not sandbox.statistics.subscriptions)
    await http.post(refuse, json={"seconds": 0.3})
    await _by_http(base)
    await trio.sleep(0.3)
    async with subscribed(sandbox, base):
        pass
