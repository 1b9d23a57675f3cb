"""Webhooks: their bodies, their signatures, and how often they are tried."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import ssl
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import partial
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
from bridge.http.tls import ReloadingContext
from bridge.sandbox import SandboxConfig
from bridge.sandbox.config import Addresses, WebhookStatistics
from bridge.sandbox.webhooks import Webhooks
from tests.sandbox.client import wait_until
from tests.sandbox.conftest import Start


_SECRET = "whsec_sésame-of-both-sides"

# The documented waits in minutes, and when the ten tries are due.
_WAITS = [60.0 * minutes for minutes in (1, 2, 5, 10, 30, 60, 180, 360, 720)]
_DUE = list(itertools.accumulate(_WAITS, initial=0.0))
_EPOCH = 1_800_000_000.0

# The members of each event's data, beside those that all have.
_MEMBERS = {
    "job.processing": {"started_at"},
    "job.completed": {"completed_at", "result_url", "processing_time_ms"},
    "job.failed": {"failed_at", "error_code", "error_message"},
}
_CODES = {
    *("WORKER_TIMEOUT", "PROCESSING_ERROR", "AGE_RESTRICTED", "INVALID_INPUT"),
    *("CONTEXT_LENGTH_EXCEEDED", "UNKNOWN_ERROR"),
}


# -- Over HTTP -----------------------------------------------------------------


class _Receiver:
    """A server that keeps what it gets."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[httpx.Headers, bytes]] = []
        self.answers: list[int] = []

    async def take(self, request: Request) -> Response:
        """Keep a request; a redirect that were followed would come here again."""
        self.calls.append((httpx.Headers(request.headers), await request.body()))
        status = self.answers.pop(0) if self.answers else 204
        return Response(status_code=status, headers={"Location": "/hook"})

    def bodies(self) -> list[dict[str, Any]]:
        """Give the bodies, decoded."""
        return [json.loads(body) for _, body in self.calls]


@pytest.fixture
async def receiver(nursery: trio.Nursery) -> _Receiver:
    """Serve a receiver on a free port."""
    receiver = _Receiver()
    routes = [Route("/hook", receiver.take, methods=["GET", "POST"])]
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
    failed = [await _start_job(http, base, steps=0, fail=True) for _ in range(20)]
    ended = await _start_job(http, base, interval_seconds=3600)
    why = {"error_code": "QUOTA", "error_message": "no more"}
    await http.post(f"{base}/sandbox/jobs/{ended}/fail", json=why)
    await wait_until(lambda: sandbox.statistics.webhooks.delivered == 43)
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
        data, members = body["data"], _MEMBERS[body["event"]]
        names = {"job_request_id", "job_type", "status", "previous_status"}
        assert set(data) == names | members
        (moment,) = (data[name] for name in members if name.endswith("_at"))
        assert datetime.fromisoformat(moment).utcoffset() is not None
        known[data["job_request_id"], body["event"]] = data
    assert len({body["delivery_id"] for body in receiver.bodies()}) == 43
    for job, event, *statuses in (
        (done, "processing", "pending", "processing"),
        (done, "completed", "processing", "done"),
        *((job, "failed", "processing", "error") for job in failed),
        (ended, "failed", "pending", "error"),
    ):
        data = known[job, f"job.{event}"]
        assert [data["previous_status"], data["status"]] == statuses
    assert {known[job, "job.failed"]["error_code"] for job in failed} <= _CODES
    assert known[ended, "job.failed"] | why == known[ended, "job.failed"]
    completed = known[done, "job.completed"]
    assert type(completed["processing_time_ms"]) is int
    result = await http.get(completed["result_url"])
    assert result.headers["content-type"] == "image/jpeg"
    shown = (await http.get(f"{base}/sandbox/statistics")).json()["webhooks"]
    assert (shown["delivered"], shown["tries"], shown["open"]) == (43, 43, 0)


async def test_webhooks_are_tried_again_switched_off_and_on(
    start: Start, http: httpx.AsyncClient, receiver: _Receiver
) -> None:
    """The same webhook comes again; after ten failed ones none until a command."""
    receiver.answers = [500, 307, 404, 204, *[503] * 100]
    sandbox, base = await start(webhook_url=receiver.url, webhook_retry_scale=0)
    validate, counts = f"{base}/sandbox/webhooks/validate", sandbox.statistics.webhooks
    answer = await http.post(validate)
    await wait_until(lambda: counts.delivered)
    assert len({raw for _, raw in receiver.calls}) == 1
    body = receiver.bodies()[0]
    assert (body["event"], body["data"]) == ("webhook.validation", {})
    assert body["delivery_id"] == answer.json()["delivery_id"]
    assert {sent["x-dryapi-delivery-id"] for sent, _ in receiver.calls} == {
        body["delivery_id"]
    }
    assert (counts.tries, counts.retries) == (4, 3)
    nothing = dict.fromkeys(("timeout", "unreachable"), 0)
    assert counts.faults == nothing | {"redirect": 1, "status": 2}
    for _ in range(10):
        await http.post(validate)
    await wait_until(lambda: counts.switched_off, seconds=30)
    assert len(receiver.calls) == 104
    await _start_job(http, base)
    await wait_until(lambda: counts.silenced == 2)
    answer = await http.post(f"{base}/sandbox/webhooks/switch-on")
    assert answer.json()["webhooks"]["switched_off"] is False
    await _start_job(http, base, fail=True, steps=0)
    await wait_until(lambda: counts.delivered == 3)
    events = sorted(body["event"] for body in receiver.bodies()[104:])
    assert events == ["job.failed", "job.processing"]


async def test_https_is_checked(
    start: Start,
    http: httpx.AsyncClient,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A certificate of an unknown CA is a fault, until SSL_CERT_FILE names the CA."""
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    receiver = _Receiver()
    app = Starlette(routes=[Route("/hook", receiver.take, methods=["POST"])])
    tls = ReloadingContext(lambda: context, [], "the receiver's certificate")
    port = await nursery.start(partial(serve, app, "127.0.0.1:0", tls=tls))
    for delivered in (0, 1):
        sandbox, base = await start(webhook_url=f"https://localhost:{port}/hook")
        await http.post(f"{base}/sandbox/webhooks/validate")
        counts = sandbox.statistics.webhooks
        await wait_until(lambda: counts.tries == 1)  # noqa: B023
        assert counts.delivered == len(receiver.calls) == delivered
        assert counts.faults["unreachable"] == 1 - delivered
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


# -- Under trio's clock --------------------------------------------------------


class _Day:
    """
    Webhooks over virtual days, to a receiver with given answers.

    Each answer is a status, or the seconds before 200, or None for no connection; the
    last one is that of all that follow.
    """

    def __init__(self, *answers: float | None, **options: Any) -> None:
        self.calls: list[tuple[float, httpx.Request]] = []
        self.statistics = WebhookStatistics()
        self._answers = answers
        self._began = trio.current_time()
        config = SandboxConfig(webhook_url="http://receiver/hook", **options)
        self.webhooks = Webhooks(
            config,
            Addresses("", config.app),
            self.statistics,
            transport=httpx.MockTransport(self._take),
            now=lambda: _EPOCH + self.seconds,
        )

    @property
    def seconds(self) -> float:
        """How long it has gone on."""
        return trio.current_time() - self._began

    @property
    def times(self) -> list[float]:
        """When tries came."""
        return [round(at, 3) for at, _ in self.calls]

    async def _take(self, request: httpx.Request) -> httpx.Response:
        self.calls.append((self.seconds, request))
        answer = self._answers[min(len(self.calls), len(self._answers)) - 1]
        if answer is None:
            raise httpx.ConnectError("refused")
        if answer < 200:
            await trio.sleep(answer)
        return httpx.Response(200 if answer < 200 else int(answer))

    def send(self, count: int = 1) -> None:
        """Send webhooks."""
        for _ in range(count):
            self.webhooks.send("job.completed", {})

    def check(self, **expected: object) -> None:
        """Compare counts; whatever happened, each webhook is in one place."""
        counts = vars(self.statistics)
        assert {name: counts[name] for name in expected} == expected
        places = ("delivered", "failed", "dropped", "silenced", "open")
        assert sum(counts["by_event"].values()) == sum(counts[each] for each in places)


_Begin = Callable[..., _Day]


@pytest.fixture
async def begin(nursery: trio.Nursery) -> _Begin:
    """Start webhooks that get these answers."""

    def start(*answers: float | None, **options: Any) -> _Day:
        day = _Day(*answers, **options)
        nursery.start_soon(day.webhooks.run)
        return day

    return start


async def test_ten_tries_come_at_the_documented_times(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """Id and body stay, timestamp and signature are the try's; 10 s for an answer."""
    day, later = begin(500), begin(500, 404, 302, 429, 299)
    short, slow = begin(500, webhook_retry_scale=0.001), begin(None, 10.1, 9.9)
    for one in (day, later, short, slow):
        one.send()
    await trio.sleep(10 * _DUE[-1])
    assert day.times == _DUE
    assert later.times == _DUE[:5]
    assert short.times == [pytest.approx(due / 1000) for due in _DUE]
    requests = [request for _, request in day.calls]
    assert len({request.content for request in requests}) == 1
    assert len({each.headers["X-DryAPI-Delivery-Id"] for each in requests}) == 1
    stamps = [int(request.headers["X-DryAPI-Timestamp"]) for request in requests]
    assert stamps == [int(_EPOCH + due) for due in _DUE]
    assert len({each.headers["X-DryAPI-Signature"] for each in requests}) == 10
    day.check(failed=1, tries=10, retries=9, open=0, failed_in_a_row=1)
    later.check(delivered=1, tries=5, retries=4)
    assert slow.times == [0, 60, 190]
    nothing = dict.fromkeys(("redirect", "status"), 0)
    slow.check(delivered=1, faults=nothing | {"unreachable": 1, "timeout": 1})


async def test_ten_failed_webhooks_in_a_row_switch_them_off(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """A delivered one starts the count again; a retry that is due later goes on."""
    day = begin(*[500] * 90, 200, 500)
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
    # The retry that is due now is the webhook's last.
    await trio.sleep(30)
    day.check(silenced=1, open=1)
    day.send(3)
    await trio.sleep(1)
    day.check(silenced=4)
    assert len(day.calls) == before
    day.webhooks.switch_on()
    await trio.sleep(_DUE[-1])
    day.check(failed=20, silenced=4, open=0, switched_off=False)


async def test_tries_and_waiting_webhooks_are_bounded(
    begin: _Begin, autojump_clock: MockClock
) -> None:
    """Sixteen at once, ten thousand waiting; the rest is dropped and counted."""
    day = begin(100)
    day.send(40)
    await trio.sleep(29)
    assert day.times == [0.0] * 16 + [10.0] * 16 + [20.0] * 8
    day.check(open=40, tries=32)
    full = begin(100)
    full.send(10_007)
    full.check(open=10_000, dropped=7)
