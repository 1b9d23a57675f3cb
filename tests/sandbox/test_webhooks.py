"""Webhooks: what they say, how they are signed, and how often they are tried."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the tests are the receiver
import pytest
import trio
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from trio.testing import MockClock

from bridge.http.server import serve
from bridge.sandbox import SandboxConfig
from bridge.sandbox.config import WebhookStatistics
from bridge.sandbox.webhooks import Deliveries, Delivery
from tests.sandbox.client import wait_until
from tests.sandbox.conftest import Start


_SECRET = "whsec_sésame-of-both-sides"

# The documented waits in minutes, and when the ten tries are due.
_WAITS = [60.0 * minutes for minutes in (1, 2, 5, 10, 30, 60, 180, 360, 720)]
_DUE = list(itertools.accumulate(_WAITS, initial=0.0))
_EPOCH = 1_800_000_000.0

_CODES = {
    *("WORKER_TIMEOUT", "PROCESSING_ERROR", "AGE_RESTRICTED", "INVALID_INPUT"),
    *("CONTEXT_LENGTH_EXCEEDED", "UNKNOWN_ERROR"),
}


# -- Over HTTP -------------------------------------------------------------------------


class _Receiver:
    """A server that keeps what it gets."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[Mapping[str, str], bytes]] = []
        self.answers: list[int] = []
        self.elsewhere = 0

    async def take(self, request: Request) -> Response:
        """Keep a request."""
        self.calls.append((request.headers, await request.body()))
        status = self.answers.pop(0) if self.answers else 204
        return Response(status_code=status, headers={"Location": "/elsewhere"})

    async def take_elsewhere(self, _request: Request) -> Response:
        """Count a redirect that was followed."""
        self.elsewhere += 1
        return Response()

    def bodies(self) -> list[dict[str, Any]]:
        """Give the bodies, decoded."""
        return [json.loads(body) for _, body in self.calls]


@pytest.fixture
async def receiver(nursery: trio.Nursery) -> _Receiver:
    """Serve a receiver on a free port."""
    receiver = _Receiver()
    routes = [
        Route("/hook", receiver.take, methods=["POST"]),
        Route("/elsewhere", receiver.take_elsewhere, methods=["GET", "POST"]),
    ]
    port = await nursery.start(serve, Starlette(routes=routes), "127.0.0.1:0")
    receiver.url = f"http://127.0.0.1:{port}/hook"
    return receiver


async def _start_job(http: httpx.AsyncClient, base: str, **body: Any) -> str:
    body = {"interval_seconds": 0, "steps": 1, "fail": False, **body}
    answer = await http.post(f"{base}/jobs", json=body)
    return str(answer.json()["request_id"])


@pytest.mark.parametrize("prefix", ["DryAPI", "DeAPI"])
async def test_a_receiver_can_verify_and_read_what_it_gets(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver, prefix: str
) -> None:
    """Names, signature, timestamp and body, as documented."""
    options = {"webhook_secret": _SECRET, "webhook_prefix": prefix}
    sandbox, base = await start(webhook_url=receiver.url, **options)
    done = await _start_job(http, base)
    failed = [await _start_job(http, base, steps=0, fail=True) for _ in range(40)]
    await wait_until(lambda: sandbox.statistics.webhooks.delivered == 82)
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for sent, raw in receiver.calls:
        body = json.loads(raw)
        assert list(body) == ["event", "delivery_id", "timestamp", "data"]
        timestamp = sent[f"x-{prefix}-timestamp"]
        message = timestamp.encode() + b"." + raw
        signature = hmac.new(_SECRET.encode(), message, hashlib.sha256).hexdigest()
        assert sent[f"x-{prefix}-signature"] == f"sha256={signature}"
        assert sent[f"x-{prefix}-event"] == body["event"]
        assert sent[f"x-{prefix}-delivery-id"] == body["delivery_id"]
        assert uuid.UUID(body["delivery_id"]).version == 4
        assert sent["user-agent"] == f"{prefix}-Webhook/1.0"
        assert sent["content-type"] == "application/json"
        data = body["data"]
        assert data["job_type"] == "txt2img"
        known[data["job_request_id"], body["event"]] = data
    assert {job for job, _ in known} == {done, *failed}
    assert len({body["delivery_id"] for body in receiver.bodies()}) == 82
    rows = [
        (done, "processing", "pending", "processing", "started_at", set()),
        *(
            (done, "completed", "processing", "done", "completed_at", names)
            for names in ({"result_url", "processing_time_ms"},)
        ),
        *(
            (job, "failed", "processing", "error", "failed_at", names)
            for job in failed
            for names in ({"error_code", "error_message"},)
        ),
    ]
    for job, event, before, after, moment, names in rows:
        data = known[job, f"job.{event}"]
        assert (data["previous_status"], data["status"]) == (before, after)
        assert data[moment].endswith("Z")
        datetime.fromisoformat(data[moment])
        assert set(data) == {
            *("job_request_id", "job_type", "status", "previous_status", moment),
            *names,
        }
    assert {known[job, "job.failed"]["error_code"] for job in failed} <= _CODES
    completed = known[done, "job.completed"]
    assert type(completed["processing_time_ms"]) is int
    result = await http.get(completed["result_url"])
    assert result.headers["content-type"] == "image/jpeg"
    shown = (await http.get(f"{base}/sandbox/statistics")).json()["webhooks"]
    assert (shown["delivered"], shown["tries"], shown["open"]) == (82, 82, 0)


async def test_commanded_ends_are_announced_too(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver
) -> None:
    """A job that ends before its first step has one webhook, which says why."""
    sandbox, base = await start(webhook_url=receiver.url)
    request_id = await _start_job(http, base, interval_seconds=3600)
    why = {"error_code": "QUOTA", "error_message": "no more"}
    await http.post(f"{base}/sandbox/jobs/{request_id}/fail", json=why)
    await wait_until(lambda: sandbox.statistics.webhooks.delivered == 1)
    [body] = receiver.bodies()
    data = body["data"]
    assert data | why == data
    assert (data["previous_status"], data["status"]) == ("pending", "error")


async def test_a_failing_receiver_is_tried_until_it_takes_it(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver
) -> None:
    """The same delivery comes again, its redirect unfollowed, and then no more."""
    receiver.answers = [500, 307, 404]
    sandbox, base = await start(webhook_url=receiver.url, webhook_retry_scale=0.0005)
    answer = await http.post(f"{base}/sandbox/webhooks/validate")
    assert answer.status_code == 202
    counts = sandbox.statistics.webhooks
    await wait_until(lambda: counts.delivered)
    assert [body["event"] for body in receiver.bodies()] == ["webhook.validation"] * 4
    assert receiver.bodies()[0]["data"] == {}
    assert len({raw for _, raw in receiver.calls}) == 1
    ids = {sent["x-dryapi-delivery-id"] for sent, _ in receiver.calls}
    assert ids == {answer.json()["delivery_id"]}
    assert receiver.elsewhere == 0
    assert (counts.tries, counts.retries) == (4, 3)
    assert counts.faults == {
        **dict.fromkeys(("timeout", "unreachable"), 0),
        "redirect": 1,
        "status": 2,
    }


async def test_webhooks_are_switched_off_and_on_again(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver
) -> None:
    """After ten failed deliveries none is sent until they are switched on."""
    receiver.answers = [503] * 100
    sandbox, base = await start(webhook_url=receiver.url, webhook_retry_scale=0)
    counts = sandbox.statistics.webhooks
    for _ in range(10):
        await http.post(f"{base}/sandbox/webhooks/validate")
    await wait_until(lambda: counts.switched_off, seconds=30)
    assert len(receiver.calls) == 100
    await _start_job(http, base)
    await wait_until(lambda: counts.silenced == 2)
    answer = await http.post(f"{base}/sandbox/webhooks/switch-on")
    assert answer.json()["webhooks"]["switched_off"] is False
    await _start_job(http, base, fail=True, steps=0)
    await wait_until(lambda: counts.delivered == 2)
    events = sorted(body["event"] for body in receiver.bodies()[100:])
    assert events == ["job.failed", "job.processing"]


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


# -- Under trio's clock ----------------------------------------------------------------

_Answer = Callable[[int], Awaitable[int]]


class _Day:
    """Deliveries over virtual days, to a receiver that answers as it is told."""

    def __init__(self, answer: _Answer, **options: Any) -> None:
        self.calls: list[tuple[float, httpx.Request]] = []
        self.statistics = WebhookStatistics()
        self._answer = answer
        self._names = itertools.count()
        self._begun = trio.current_time()
        self.deliveries = Deliveries(
            SandboxConfig(webhook_url="http://receiver/hook", **options),
            self.statistics,
            transport=httpx.MockTransport(self._take),
            now=lambda: _EPOCH + self.seconds,
        )

    @property
    def seconds(self) -> float:
        """How long it has gone on."""
        return trio.current_time() - self._begun

    @property
    def times(self) -> list[float]:
        """When tries came."""
        return [round(at, 3) for at, _ in self.calls]

    async def _take(self, request: httpx.Request) -> httpx.Response:
        self.calls.append((self.seconds, request))
        return httpx.Response(await self._answer(len(self.calls)))

    def send(self, count: int = 1) -> None:
        """Send deliveries."""
        for _ in range(count):
            name = f"delivery-{next(self._names)}"
            self.deliveries.send(Delivery("job.completed", name, name.encode()))

    def check(self, **expected: object) -> None:
        """Compare counts; whatever happened, each delivery is in one place."""
        counts = self.statistics.as_dict()
        assert {name: counts[name] for name in expected} == expected
        places = ("delivered", "failed", "dropped", "silenced", "open")
        assert sum(counts["by_event"].values()) == sum(counts[each] for each in places)


_Begin = Callable[..., _Day]


@pytest.fixture
async def begin(nursery: trio.Nursery) -> AsyncIterator[_Begin]:
    """Start deliveries that get these statuses, the last one for all that follow."""

    def start(*statuses: int, **options: Any) -> _Day:
        async def answer(number: int) -> int:
            return statuses[min(number, len(statuses)) - 1]

        day = _Day(options.pop("answer", answer), **options)
        nursery.start_soon(day.deliveries.run)
        return day

    yield start
    nursery.cancel_scope.cancel()


async def test_each_answer_delivers_or_has_the_next_try(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """2xx within 10 s delivers; even what says that it will never work is retried."""
    days = {status: begin(status) for status in (200, 201, 204, 299)}
    days |= {status: begin(status) for status in (301, 302, 303, 304, 307, 308)}
    days |= {status: begin(status) for status in (400, 401, 404, 410, 429, 500, 503)}
    for day in days.values():
        day.send()
    await trio.sleep(61)
    found = {status: day.times for status, day in days.items()}
    assert found == {status: [0] if status < 300 else [0, 60] for status in days}


async def test_ten_tries_come_at_the_documented_times(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """Id and body stay; timestamp and signature are those of the try."""
    day, later = begin(500), begin(500, 404, 302, 200)
    short = begin(500, webhook_retry_scale=0.001)
    for one in (day, later, short):
        one.send()
    await trio.sleep(10 * _DUE[-1])
    assert day.times == _DUE
    assert later.times == _DUE[:4]
    assert short.times == [pytest.approx(due / 1000) for due in _DUE]
    requests = [request for _, request in day.calls]
    assert {request.content for request in requests} == {b"delivery-0"}
    assert {each.headers["X-DryAPI-Delivery-Id"] for each in requests} == {"delivery-0"}
    stamps = [int(request.headers["X-DryAPI-Timestamp"]) for request in requests]
    assert stamps == [int(_EPOCH + due) for due in _DUE]
    assert len({each.headers["X-DryAPI-Signature"] for each in requests}) == 10
    day.check(failed=1, tries=10, retries=9, open=0, failed_in_a_row=1)
    later.check(delivered=1, tries=4, retries=3)


async def test_an_answer_has_ten_seconds_and_an_error_is_a_try(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """Past 10 s the try has ended; a refused connection is a fault like others."""

    async def answer(number: int) -> int:
        if number == 1:
            raise httpx.ConnectError("refused")
        await trio.sleep({2: 10.1}.get(number, 9.9))
        return 200

    day = begin(answer=answer)
    day.send()
    await trio.sleep(1_000)
    assert day.times == [0, 60, 190]
    day.check(delivered=1, tries=3)
    assert (day.statistics.faults["timeout"], day.statistics.faults["unreachable"]) == (
        *(1, 1),
    )


async def test_ten_failed_deliveries_in_a_row_switch_webhooks_off(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """A delivered one begins the count again; a retry due later goes on."""
    statuses = iter([*[500] * 90, 200])

    async def answer(_: int) -> int:
        return next(statuses, 500)

    day = begin(answer=answer)
    day.send(9)
    await trio.sleep(_DUE[-1] + 1)
    day.check(failed=9, failed_in_a_row=9, switched_off=False)
    day.send()
    await trio.sleep(1)
    day.check(failed_in_a_row=0, delivered=1)
    day.send(10)
    await trio.sleep(_DUE[-2])
    day.send()
    await trio.sleep(_DUE[-1] - _DUE[-2] - 30)
    day.send()
    await trio.sleep(31)
    day.check(failed=19, switched_off=True, switched_off_total=1, open=2)
    before = len(day.calls)
    day.send(3)
    await trio.sleep(1)
    day.check(silenced=3)
    assert len(day.calls) == before
    day.deliveries.switch_on()
    await trio.sleep(_DUE[-1])
    day.check(failed=21, silenced=3, open=0, switched_off=False)


async def test_tries_and_waiting_deliveries_are_bounded(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """Sixteen at once, ten thousand waiting; the rest is dropped and counted."""

    async def never(_: int) -> int:
        await trio.sleep(3600)
        return 200

    day = begin(answer=never)
    day.send(40)
    await trio.sleep(29)
    assert day.times == [0.0] * 16 + [10.0] * 16 + [20.0] * 8
    day.check(open=40, tries=32)
    full = begin(answer=never)
    full.send(10_007)
    full.check(open=10_000, dropped=7)
