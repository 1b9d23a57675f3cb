"""Webhooks over a real port: by the sandbox's own sender, and byte by byte."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio

from bridge.errors import OutboxFullError
from bridge.sandbox import Sandbox
from bridge.serving import serve
from bridge.settings import Secret, WebhookSettings
from bridge.webhooks.receiver import Receiver, Recipient
from bridge.webhooks.statistics import Outcome, WebhookStatistics
from bridge.webhooks.steady import steady_clock
from tests.sandbox.client import wait_until
from tests.sandbox.conftest import http, start  # noqa: F401 - fixtures
from tests.webhooks.making import CLIENT_ID, SECRET, body_of, completed, make_of, signed
from tests.webhooks.shelf import Shelf


_PATH = "/webhooks/dryapi"
_MAX_BYTES = 32 * 1024

_Start = Callable[..., Any]


class _Port:
    """A receiver on a port of its own."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.statistics = WebhookStatistics([CLIENT_ID])
        self.number = 0
        self._receiver = Receiver(
            [Recipient(CLIENT_ID, Secret(f"old {SECRET}"), make_of())],
            take=self.shelf.take,
            expect=lambda _: None,
            statistics=self.statistics,
            settings=WebhookSettings(max_body_bytes=_MAX_BYTES),
            steady_us=steady_clock(),
            is_single=True,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.number}{_PATH}"

    @property
    def outcomes(self) -> dict[str, int]:
        counts = self.statistics.deliveries
        return {outcome.value: count for (_, outcome), count in counts.items() if count}

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(one.record.value) for one in self.shelf.deliveries]

    async def open(self, nursery: trio.Nursery) -> None:
        self.number = await nursery.start(serve, self._receiver.app, "127.0.0.1:0")

    async def say(self, *pieces: bytes, ends: bool = False) -> bytes:
        """Send bytes, each some time after the other; give what is answered."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.number)
        async with stream:
            for piece in pieces:
                await stream.send_all(piece)
                await trio.sleep(0.01)
            if ends:
                await stream.send_eof()
            answered = b""
            with trio.fail_after(10):
                while b"\r\n\r\n" not in answered:
                    data = await stream.receive_some()
                    if not data:
                        break
                    answered += data
            return answered


@pytest.fixture
async def port(nursery: trio.Nursery) -> AsyncIterator[_Port]:
    """Open a port, with a shelf behind it."""
    port = _Port()
    await port.open(nursery)
    yield port
    nursery.cancel_scope.cancel()


def _head(body: bytes, *more: str, length: int | None = None) -> bytes:
    """Write the head of a signed request."""
    lines = [f"POST {_PATH} HTTP/1.1", "Host: bridge", *more]
    lines += [f"{name}: {value}" for name, value in signed(body, time.time()).items()]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def _status(answered: bytes) -> int:
    return int(answered.split(b" ", 2)[1]) if answered else 0


# -- By the sandbox's own sender ------------------------------------------------------


@pytest.mark.parametrize("prefix", ["DryAPI", "DeAPI"])
async def test_the_sandboxs_webhooks_are_taken(
    start: _Start,  # noqa: F811
    http: httpx.AsyncClient,  # noqa: F811
    port: _Port,
    prefix: str,
) -> None:
    """What it sends of jobs that finish and fail becomes their events."""
    options = {"webhook_secret": SECRET, "webhook_prefix": prefix}
    sandbox, base = await start(webhook_url=port.url, **options)
    jobs = {}
    for fails in (False, True):
        body = {"interval_seconds": 0, "steps": 1, "fail": fails}
        answer = await http.post(f"{base}/jobs", json=body)
        jobs[fails] = answer.json()["request_id"]
    await http.post(f"{base}/sandbox/webhooks/validate")
    await wait_until(lambda: sandbox.statistics.webhooks.delivered == 5)
    assert port.outcomes == {"taken": 4, "validation": 1}
    told = {(event["request_id"], event["status"]): event for event in port.events}
    assert set(told) == {
        (jobs[fails], status)
        for fails, end in ((False, "done"), (True, "error"))
        for status in ("processing", end)
    }
    done, error = told[jobs[False], "done"], told[jobs[True], "error"]
    assert done["result_url"].startswith(base)
    assert done["job_type"] == "txt2img"
    assert error["error_code"]
    assert error["error_message"]
    for delivery in port.shelf.deliveries:
        is_end = delivery.record.status in {"done", "error"}
        now_us = time.time_ns() // 1000
        assert delivery.ended_us is None or abs(now_us - delivery.ended_us) < 60 * 10**6
        assert (delivery.ended_us is not None) == is_end
    assert sandbox.statistics.webhooks.tries == 5


async def test_a_bridge_without_room_gets_it_again(
    start: _Start,  # noqa: F811
    http: httpx.AsyncClient,  # noqa: F811
    port: _Port,
) -> None:
    """503 has the sender come again, with the same id and a new signature."""
    port.shelf.error = OutboxFullError("full")
    sandbox: Sandbox
    sandbox, base = await start(
        webhook_url=port.url, webhook_secret=SECRET, webhook_retry_scale=0.001
    )
    body = {"interval_seconds": 0, "steps": 0, "fail": False}
    await http.post(f"{base}/jobs", json=body)
    await wait_until(lambda: sandbox.statistics.webhooks.tries == 4)
    port.shelf.error = None
    await wait_until(lambda: sandbox.statistics.webhooks.delivered == 2)
    assert len(port.events) == 2
    assert port.outcomes["taken"] == 2
    assert port.outcomes["unavailable"] == sandbox.statistics.webhooks.retries
    assert sandbox.statistics.webhooks.faults["status"] == port.outcomes["unavailable"]


async def test_a_wrong_secret_is_told_to_the_operator(
    start: _Start,  # noqa: F811
    http: httpx.AsyncClient,  # noqa: F811
    port: _Port,
) -> None:
    """The sender gets 401 and goes on trying; nothing is taken."""
    sandbox, base = await start(webhook_url=port.url, webhook_secret="another")
    await http.post(f"{base}/sandbox/webhooks/validate")
    await wait_until(lambda: sandbox.statistics.webhooks.tries == 1)
    assert port.outcomes == {"wrong_signature": 1}


# -- Byte by byte ---------------------------------------------------------------------


async def test_a_whole_request(port: _Port) -> None:
    """It is answered with 200, and a second one on the same connection, too."""
    body = body_of("job.completed", completed())
    whole = _head(body, length=len(body)) + body
    assert _status(await port.say(whole)) == 200
    stream = await trio.open_tcp_stream("127.0.0.1", port.number)
    async with stream:
        for _ in range(2):
            await stream.send_all(whole)
            assert b'{"status":"known"}' in await _answer(stream)
    assert port.outcomes == {"taken": 1, "known": 2}


async def _answer(stream: trio.SocketStream) -> bytes:
    answered = b""
    with trio.fail_after(10):
        while not answered.endswith(b"}"):
            data = await stream.receive_some()
            assert data
            answered += data
    return answered


async def test_a_request_byte_by_byte(port: _Port) -> None:
    """However it is cut, it is the same request."""
    body = body_of("job.completed", completed())
    whole = _head(body, length=len(body)) + body
    pieces = [whole[at : at + 97] for at in range(0, len(whole), 97)]
    assert _status(await port.say(*pieces)) == 200
    assert port.outcomes == {"taken": 1}


async def test_a_chunked_request(port: _Port) -> None:
    """Its body is what the chunks hold."""
    body = body_of("job.completed", completed())
    chunks = [body[:5], body[5:]]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + b"0\r\n\r\n"
    head = _head(body, "Transfer-Encoding: chunked")
    assert _status(await port.say(head, sent)) == 200
    assert port.outcomes == {"taken": 1}


async def test_a_sender_that_waits_for_leave(port: _Port) -> None:
    """As curl does with larger bodies: it is told to go on."""
    body = body_of("job.completed", completed())
    stream = await trio.open_tcp_stream("127.0.0.1", port.number)
    async with stream:
        await stream.send_all(_head(body, "Expect: 100-continue", length=len(body)))
        with trio.fail_after(10):
            answered = await stream.receive_some()
        assert answered.startswith(b"HTTP/1.1 100 ")
        await stream.send_all(body)
        assert b'{"status":"taken"}' in await _answer(stream)


@pytest.mark.parametrize("length", [1, 50, -1])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_that_is_cut_takes_nothing(
    port: _Port, *, is_chunked: bool, length: int
) -> None:
    """Though its beginning be a whole delivery: what is missing may be signed."""
    body = body_of("job.completed", completed())
    more = body + b" " * 10
    cut = more[:length]
    if is_chunked:
        sent = _head(cut, "Transfer-Encoding: chunked")
        sent += b"%x\r\n%b\r\n" % (len(cut), cut)
    else:
        sent = _head(cut, length=len(more)) + cut
    assert _status(await port.say(sent, ends=True)) in {0, 400}
    await wait_until(lambda: port.outcomes)
    assert port.outcomes == {"broken_off": 1}
    assert port.events == []


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_that_is_too_large(port: _Port, *, is_chunked: bool) -> None:
    """The sender can read that it is, while it is still sending."""
    body = b" " * (_MAX_BYTES + 1)
    if is_chunked:
        head = _head(body, "Transfer-Encoding: chunked")
        sent = b"%x\r\n%b\r\n" % (len(body), body)
    else:
        head, sent = _head(body, length=len(body)), body
    assert _status(await port.say(head, sent)) == 413
    assert port.outcomes == {"too_large": 1}


@pytest.mark.parametrize(
    "line", ["Content-Length: 5", "Content-Length: x", "Transfer-Encoding: gzip"]
)
async def test_a_body_of_two_lengths(port: _Port, line: str) -> None:
    """Nobody guesses where a request ends."""
    body = body_of("job.completed", completed())
    sent = _head(body, line, length=len(body)) + body
    assert _status(await port.say(sent)) in {400, 501}
    assert port.outcomes == {}
    assert port.events == []


async def test_two_signatures(port: _Port) -> None:
    """A header that comes twice is refused, on the wire as well."""
    body = body_of("job.completed", completed())
    right = signed(body, time.time())["X-DryAPI-Signature"]
    sent = _head(body, f"X-DryAPI-Signature: {right}", length=len(body)) + body
    assert _status(await port.say(sent)) == 401
    assert port.outcomes == {"repeated_header": 1}


async def test_an_answer_that_nobody_waits_for(port: _Port) -> None:
    """A sender that hangs up after its request has it taken all the same."""
    body = body_of("job.completed", completed())
    stream = await trio.open_tcp_stream("127.0.0.1", port.number)
    await stream.send_all(_head(body, length=len(body)) + body)
    await stream.aclose()
    await wait_until(lambda: port.outcomes)
    assert port.outcomes == {Outcome.TAKEN: 1}
