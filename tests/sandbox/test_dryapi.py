"""dryAPI's interface answers as documented."""

from __future__ import annotations

import hashlib
import hmac
from io import BytesIO
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio
from PIL import Image

from bridge.sandbox import Sandbox
from bridge.sandbox.jobs import JobRequest
from tests.sandbox.client import subscribed
from tests.sandbox.conftest import Start


_GOOD = {"socket_id": "123.456", "channel_name": "private-client.sandbox"}
# Computed here, without the sandbox's own code.
_SIGNATURE = hmac.new(
    b"sandbox-secret", b"123.456:private-client.sandbox", hashlib.sha256
).hexdigest()


async def _finish(
    http: httpx.AsyncClient, base: str, **request: Any
) -> tuple[str, dict[str, Any]]:
    answer = await http.post(f"{base}/jobs", json={"interval_seconds": 0, **request})
    assert answer.status_code == 201
    request_id = answer.json()["request_id"]
    url = f"{base}/api/v1/client/request-status/{request_id}"
    with trio.fail_after(10):
        while True:
            data: dict[str, Any] = (await http.get(url)).json()["data"]
            if data["status"] in {"done", "error"}:
                return request_id, data
            await trio.sleep(0.1)


async def test_authorisation_takes_json_and_forms(
    start: Start, http: httpx.AsyncClient
) -> None:
    """Both bodies get the same `auth`: key, colon, signature."""
    _, base = await start()
    url = f"{base}/broadcasting/auth"
    for answer in (await http.post(url, json=_GOOD), await http.post(url, data=_GOOD)):
        assert answer.status_code == 200
        assert answer.json() == {"auth": f"depin-api-prod-key:{_SIGNATURE}"}


@pytest.mark.parametrize(
    "header", ["", "Bearer wrong", "Basic sandbox-token", "Bearer", "Bearer \u00e9"]
)
async def test_a_wrong_token_is_refused(start: Start, header: str) -> None:
    """Without the token neither authorisation nor status is given."""
    _, base = await start()
    headers = [(b"Authorization", header.encode())]
    async with httpx.AsyncClient(headers=headers) as client:
        answer = await client.post(f"{base}/broadcasting/auth", json=_GOOD)
        assert answer.status_code == 401
        assert answer.json() == {"message": "Unauthenticated."}
        answer = await client.get(f"{base}/api/v1/client/request-status/x")
        assert answer.status_code == 401
        assert answer.json()["statusCode"] == 401


@pytest.mark.parametrize(
    "channel", ["private-client.other", "client.sandbox", "private-client.sandbox2"]
)
async def test_other_channels_are_forbidden(
    start: Start, http: httpx.AsyncClient, channel: str
) -> None:
    """A client gets a signature for its own channel alone."""
    _, base = await start()
    body = _GOOD | {"channel_name": channel}
    answer = await http.post(f"{base}/broadcasting/auth", json=body)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"socket_id":"1.2"}', "channel_name"),
        (b'{"channel_name":"private-client.sandbox"}', "socket_id"),
        (b'{"socket_id":5,"channel_name":"private-client.sandbox"}', "socket_id"),
        (b'{"socket_id":"a:b","channel_name":"private-client.sandbox"}', "socket_id"),
        (b"[]", "socket_id"),
        (b"{", "socket_id"),
        (b"", "channel_name"),
        (b"[" * 60_000, "socket_id"),
    ],
)
async def test_missing_fields_are_named(
    start: Start, http: httpx.AsyncClient, body: bytes, fault: str
) -> None:
    """A body without what is needed gets 422 and the field's name."""
    _, base = await start()
    headers = {"Content-Type": "application/json"}
    url = f"{base}/broadcasting/auth"
    answer = await http.post(url, content=body, headers=headers)
    assert answer.status_code == 422
    assert fault in answer.json()["errors"]


async def test_a_long_body_is_refused(start: Start, http: httpx.AsyncClient) -> None:
    """No handler reads without an end."""
    _, base = await start()
    answer = await http.post(f"{base}/broadcasting/auth", content=b"x" * 100_000)
    assert answer.status_code == 413


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
    answer = await http.options(f"{base}/broadcasting/auth", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_finished_job_has_a_result_to_download(
    start: Start, http: httpx.AsyncClient
) -> None:
    """The status has dryAPI's members, and its signed address gives a JPEG."""
    _, base = await start()
    request_id, data = await _finish(http, base, steps=2, fail=False)
    assert list(data) == [
        "status",
        "preview",
        "result_url",
        "results_alt_formats",
        "result",
        "progress",
    ]
    assert data["status"] == "done"
    assert data["progress"] == 100.0
    assert data["preview"] is None
    assert data["results_alt_formats"] == {"jpg": data["result_url"], "webp": None}
    assert data["result_url"].startswith(f"{base}/results/{request_id}.jpg?expires=")
    async with httpx.AsyncClient() as anybody:
        answer = await anybody.get(data["result_url"])
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(BytesIO(answer.content)).size == (768, 768)
        changed = data["result_url"].replace("expires=1", "expires=2")
        assert (await anybody.get(changed)).status_code == 403
        plain = data["result_url"].partition("?")[0]
        assert (await anybody.get(plain)).status_code == 403


async def test_a_running_job_shows_its_preview(
    start: Start, http: httpx.AsyncClient
) -> None:
    """`in_progress` reads as processing, with a number and a preview's address."""
    sandbox, base = await start()
    async with subscribed(sandbox, base) as client:
        answer = await http.post(
            f"{base}/jobs", json={"prompt": "a fox", "interval_seconds": 0.05}
        )
        request_id = answer.json()["request_id"]
        url = f"{base}/api/v1/client/request-status/{request_id}"
        before = (await http.get(url)).json()["data"]
        while True:
            frame = await client.receive()
            if '"in_progress"' in frame["data"]:
                break
        during = (await http.get(url)).json()["data"]
    assert before["status"] in {"pending", "processing"}
    assert before["preview"] is None
    assert during["status"] == "processing"
    assert isinstance(during["progress"], float)
    assert during["result_url"] is None
    assert during["results_alt_formats"] is None
    preview = await http.get(during["preview"])
    assert Image.open(BytesIO(preview.content)).format == "JPEG"


async def test_a_failed_job_is_known_to_the_status_endpoint_alone(
    start: Start, http: httpx.AsyncClient
) -> None:
    """The status says `error`; the channel never did."""
    sandbox, base = await start()
    async with subscribed(sandbox, base) as client:
        _, data = await _finish(http, base, steps=3, fail=True)
        assert data["status"] == "error"
        assert data["result_url"] is None
        await client.send("pusher:ping")
        frames = []
        while (frame := await client.receive())["event"] != "pusher:pong":
            frames.append(frame["data"])
    assert len(frames) == sandbox.statistics.events_emitted > 0
    assert not any('"error"' in frame or '"done"' in frame for frame in frames)
    assert sandbox.statistics.jobs_failed == 1


async def test_unknown_things_get_dryapis_error_body(
    start: Start, http: httpx.AsyncClient
) -> None:
    """404 has the documented members, for jobs, previews and paths."""
    _, base = await start()
    for path in ("api/v1/client/request-status/x", "previews/x.jpg", "nothing"):
        answer = await http.get(f"{base}/{path}")
        assert answer.status_code == 404
        assert set(answer.json()) == {"data", "message", "errors", "statusCode"}
        assert answer.json()["statusCode"] == 404


async def test_status_calls_are_limited(start: Start, http: httpx.AsyncClient) -> None:
    """The 51st call of a minute gets 429 with its headers."""
    _, base = await start()
    url = f"{base}/api/v1/client/request-status/x"
    answers = [await http.get(url) for _ in range(51)]
    assert [answer.status_code for answer in answers] == [*[404] * 50, 429]
    remaining = [answer.headers["X-RateLimit-Remaining"] for answer in answers]
    assert remaining == [*map(str, range(49, -1, -1)), "0"]
    refused = answers[-1]
    assert refused.headers["X-RateLimit-Type"] == "minute"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.json()["statusCode"] == 429


async def test_nonsense_jobs_are_refused(start: Start, http: httpx.AsyncClient) -> None:
    """A request that can't be read starts nothing and says why."""
    sandbox, base = await start()
    for body in (b"{", b"[]", b'{"steps":-1}', b"[" * 60_000):
        answer = await http.post(f"{base}/jobs", content=body)
        assert answer.status_code == 422
        assert answer.json()["message"]
    assert _started(sandbox) == 0


def _started(sandbox: Sandbox) -> int:
    return sandbox.statistics.jobs_started


async def test_a_form_of_endless_fields_is_refused(
    start: Start, http: httpx.AsyncClient
) -> None:
    """A form with more fields than anybody needs counts as none."""
    _, base = await start()
    form = _GOOD | {f"field-{number}": "x" for number in range(200)}
    answer = await http.post(f"{base}/broadcasting/auth", data=form)
    assert answer.status_code == 422


async def test_the_thousand_and_first_job_is_put_off(
    start: Start, http: httpx.AsyncClient
) -> None:
    """So many jobs at once get 429 and a time to come back."""
    sandbox, base = await start()
    answer = await http.post(f"{base}/jobs", json={"interval_seconds": 3600})
    assert answer.status_code == 201
    assert sandbox._simulation is not None
    for _ in range(999):
        sandbox._simulation.start_requested(JobRequest(interval_seconds=3600))
    answer = await http.post(f"{base}/jobs")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert _started(sandbox) == 1_000
