"""Webhooks from a sandbox to a real HTTP server."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.sandbox.server import Server, open_listeners
from tests.sandbox.client import wait_until
from tests.sandbox.conftest import Start


_SECRET = "whsec_known-to-both-sides-of-the-test"


@dataclass
class _Receiver:
    """
    A server that keeps what it gets.

    Attributes:
        url: Where webhooks go.
        calls: Header fields and raw body of each request.
        answers: The statuses to answer with, in order; then 204.
        elsewhere: How often the address was asked for that redirects name.
        delay_seconds: How long an answer takes.
    """

    url: str = ""
    calls: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    elsewhere: int = 0
    delay_seconds: float = 0

    async def take(self, request: Request) -> Response:
        self.calls.append((request.headers, await request.body()))
        await trio.sleep(self.delay_seconds)
        status = self.answers.pop(0) if self.answers else 204
        return Response(status_code=status, headers={"Location": "/elsewhere"})

    async def take_elsewhere(self, _request: Request) -> Response:
        self.elsewhere += 1
        return Response()

    @property
    def data(self) -> list[dict[str, Any]]:
        return [json.loads(body)["data"] for _, body in self.calls]

    @property
    def events(self) -> list[str]:
        return [json.loads(body)["event"] for _, body in self.calls]


@pytest.fixture
async def receiver(nursery: trio.Nursery) -> _Receiver:
    """Serve a receiver on a free port."""
    receiver = _Receiver()
    routes = [
        Route("/hook", receiver.take, methods=["POST"]),
        Route("/elsewhere", receiver.take_elsewhere, methods=["GET", "POST"]),
    ]
    listeners = await open_listeners("127.0.0.1:0")
    port = listeners[0].socket.getsockname()[1]
    nursery.start_soon(Server(Starlette(routes=routes), None).serve, listeners)
    receiver.url = f"http://127.0.0.1:{port}/hook"
    return receiver


async def _start_job(http: httpx.AsyncClient, base: str, **body: Any) -> str:
    body = {"interval_seconds": 0, "steps": 1, "fail": False, **body}
    answer = await http.post(f"{base}/jobs", json=body)
    return str(answer.json()["request_id"])


@pytest.mark.parametrize("prefix", ["DryAPI", "DeAPI"])
async def test_a_receiver_can_verify_what_it_gets(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver, prefix: str
) -> None:
    """Signature, timestamp, names and body are right on the wire."""
    options = {"webhook_secret": _SECRET, "webhook_prefix": prefix}
    sandbox, base = await start(webhook_url=receiver.url, **options)
    request_id = await _start_job(http, base)
    await wait_until(lambda: sandbox.statistics.webhooks.delivered == 2)
    assert sorted(receiver.events) == ["job.completed", "job.processing"]
    for sent, raw in receiver.calls:
        body = json.loads(raw)
        timestamp = sent[f"x-{prefix}-timestamp".lower()]
        message = timestamp.encode() + b"." + raw
        signature = hmac.new(_SECRET.encode(), message, hashlib.sha256).hexdigest()
        assert sent[f"x-{prefix}-signature".lower()] == f"sha256={signature}"
        assert sent[f"x-{prefix}-event".lower()] == body["event"]
        assert sent[f"x-{prefix}-delivery-id".lower()] == body["delivery_id"]
        assert sent["user-agent"] == f"{prefix}-Webhook/1.0"
        assert sent["content-type"] == "application/json"
        assert body["data"]["job_request_id"] == request_id
    (data,) = (d for d in receiver.data if d["status"] == "done")
    result = await http.get(data["result_url"])
    assert result.headers["content-type"] == "image/jpeg"
    shown = (await http.get(f"{base}/sandbox/statistics")).json()["webhooks"]
    assert shown == sandbox.statistics.webhooks.as_dict()
    assert (shown["delivered"], shown["tries"], shown["open"]) == (2, 2, 0)


async def test_a_failing_receiver_is_tried_until_it_takes_it(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver
) -> None:
    """The same delivery comes again, its redirect unfollowed, and then no more."""
    receiver.answers = [500, 307, 404]
    # 60 s become 30 ms; timestamp and clock are real.
    sandbox, base = await start(webhook_url=receiver.url, webhook_retry_scale=0.0005)
    answer = await http.post(f"{base}/sandbox/webhooks/validate")
    assert answer.status_code == 202
    counts = sandbox.statistics.webhooks
    await wait_until(lambda: counts.delivered)
    assert receiver.events == ["webhook.validation"] * 4
    assert len({raw for _, raw in receiver.calls}) == 1
    ids = {sent["x-dryapi-delivery-id"] for sent, _ in receiver.calls}
    assert ids == {answer.json()["delivery_id"]}
    assert receiver.elsewhere == 0
    assert (counts.tries, counts.retries) == (4, 3)
    assert counts.faults == {
        "redirect": 1,
        "status": 2,
        "timeout": 0,
        "unreachable": 0,
    }


async def test_webhooks_are_switched_off_and_on_again(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver
) -> None:
    """After ten failed deliveries nothing comes until somebody switches them on."""
    receiver.answers = [503] * 100
    sandbox, base = await start(webhook_url=receiver.url, webhook_retry_scale=0)
    counts = sandbox.statistics.webhooks
    for _ in range(10):
        await http.post(f"{base}/sandbox/webhooks/validate")
    await wait_until(lambda: counts.switched_off, seconds=30)
    assert len(receiver.calls) == 100
    await _start_job(http, base)
    await wait_until(lambda: counts.silenced == 2)
    shown = (await http.get(f"{base}/sandbox/statistics")).json()["webhooks"]
    assert (shown["failed"], shown["switched_off"]) == (10, True)
    answer = await http.post(f"{base}/sandbox/webhooks/switch-on")
    assert answer.json()["webhooks"]["switched_off"] is False
    await _start_job(http, base, fail=True, steps=0)
    await wait_until(lambda: counts.delivered == 2)
    assert sorted(receiver.events[100:]) == ["job.failed", "job.processing"]


async def test_commanded_ends_are_told_too(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver
) -> None:
    """A job that begins and ends while nobody is subscribed is told by webhooks."""
    sandbox, base = await start(webhook_url=receiver.url)
    request_id = await _start_job(http, base, interval_seconds=3600)
    why = {"error_code": "QUOTA", "error_message": "no more"}
    await http.post(f"{base}/sandbox/jobs/{request_id}/fail", json=why)
    await wait_until(lambda: sandbox.statistics.webhooks.delivered == 1)
    (data,) = receiver.data
    assert data | why == data
    assert (data["previous_status"], data["status"]) == ("pending", "error")
    assert sandbox.statistics.subscriptions == 0


async def test_every_job_is_told_once(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver
) -> None:
    """Forty jobs at once have a webhook each for their beginning and their end."""
    sandbox, base = await start(webhook_url=receiver.url, keep_finished_jobs=1)
    ids = [
        await _start_job(http, base, steps=0, fail=bool(number % 2))
        for number in range(40)
    ]
    counts = sandbox.statistics.webhooks
    await wait_until(lambda: counts.delivered == 80, seconds=30)
    told = sorted((data["job_request_id"], data["status"]) for data in receiver.data)
    ends = ["done", "error"]
    assert told == sorted(
        (request_id, status)
        for number, request_id in enumerate(ids)
        for status in ("processing", ends[number % 2])
    )
    assert (counts.tries, counts.open) == (80, 0)


async def test_a_slow_receiver_holds_nothing_up(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver
) -> None:
    """Events come at their rate, and the end of the sandbox at once."""
    receiver.delay_seconds = 3600
    sandbox, _ = await start(
        webhook_url=receiver.url, rate=300, wait_for_subscriber=False
    )
    await wait_until(lambda: len(receiver.calls) == 16)
    before = sandbox.statistics.events_emitted
    await wait_until(lambda: sandbox.statistics.events_emitted > before + 200)
    assert len(receiver.calls) == 16
    with trio.fail_after(5):
        await sandbox.stop()


async def test_without_an_address_there_is_nothing_to_command(
    start: Start, http: httpx.AsyncClient
) -> None:
    """The answer names the option that is missing."""
    _, base = await start()
    for path in ("validate", "switch-on"):
        answer = await http.post(f"{base}/sandbox/webhooks/{path}")
        assert answer.status_code == 409
        assert "--webhook-url" in answer.json()["message"]


@pytest.mark.parametrize("trusted", [True, False])
async def test_https_is_checked(
    start: Start,
    http: httpx.AsyncClient,
    *,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    trusted: bool,
) -> None:
    """A certificate of an unknown CA is a fault, until SSL_CERT_FILE names the CA."""
    ca = trustme.CA()
    if trusted:
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(tls)
    listeners = await trio.open_ssl_over_tcp_listeners(0, tls, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, _answer_once, listeners)
    tcp = listeners[0].transport_listener
    assert isinstance(tcp, trio.SocketListener)
    url = f"https://localhost:{tcp.socket.getsockname()[1]}/hook"
    sandbox, base = await start(webhook_url=url)
    await http.post(f"{base}/sandbox/webhooks/validate")
    counts = sandbox.statistics.webhooks
    await wait_until(lambda: counts.tries == 1)
    assert counts.delivered == int(trusted)
    assert counts.faults["unreachable"] == int(not trusted)


async def _answer_once(stream: trio.SSLStream[trio.SocketStream]) -> None:
    try:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
    except trio.BrokenResourceError:
        pass  # A client that doesn't trust the certificate hangs up.
