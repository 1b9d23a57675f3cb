"""Tests of HTTP/1.1 as good clients speak it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import httpx  # noqa: TID251 - the good client of these tests
import pytest
import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.http.server import Limits, serve
from tests.http.clients import (
    GET,
    PATIENCE_SECONDS,
    POST,
    said,
    served,
)


_ANSWER = b"HTTP/1.1 200 "


async def test_body_comes_whole() -> None:
    """A megabyte arrives, with its length or in chunks."""
    size = 1024 * 1024

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield b"x" * (size // 16)

    async with (
        served() as port,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        url = f"http://127.0.0.1:{port}/"
        assert (await client.post(url, content=b"x" * size)).text == str(size)
        assert (await client.post(url, content=chunks())).text == str(size)


async def test_refusal_is_read_by_a_client_that_still_sends() -> None:
    """An application that reads no body can respond all the same."""
    async with served() as port, httpx.AsyncClient(trust_env=False) as client:
        for size in (10, 100_000, 1_000_000):
            answer = await client.post(
                f"http://127.0.0.1:{port}/refuse", content=b"x" * size
            )
            assert (answer.status_code, answer.text) == (401, "no")


_POST = POST + b"Content-Length: %d\r\n\r\n"
_ASKS = POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        ([_POST % 20_000 + b"x" * 20_000], [(200, b"20000")]),
        ([_POST.replace(b"/", b"/refuse", 1) % 4 + b"body"], [(401, b"no")]),
        # The client goes on once the application reads.
        ([_ASKS, b"five!"], [(100, b""), (200, b"5")]),
        ([_ASKS.replace(b"/", b"/refuse", 1)], [(401, b"no")]),
        ([GET.replace(b"GET", b"HEAD")], [(200, b"")]),
        # However the bytes are cut, the request is the same.
        *(
            ([(_POST % 5)[:cut], (_POST % 5)[cut:] + b"five!"], [(200, b"5")])
            for cut in range(1, len(_POST % 5), 8)
        ),
    ],
)
async def test_each_request_has_its_answer(
    sent: list[bytes], answers: list[tuple[int, bytes]]
) -> None:
    """Status and body."""
    async with served() as port:
        parts = (await said(port, *sent)).split(b"HTTP/1.1 ")[1:]
    found = [(int(part[:3]), part.partition(b"\r\n\r\n")[2]) for part in parts]
    assert found == answers
    # Also of an answer to HEAD.
    assert all(
        (b"content-length: " in part) != part.startswith(b"100") for part in parts
    )


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
    ],
    ids=["1.0", "close"],
)
async def test_client_that_wants_one_answer_gets_the_end_with_it(head: bytes) -> None:
    """It need not wait for any deadline."""
    async with served() as port:
        with trio.fail_after(PATIENCE_SECONDS):
            answer = await said(port, head)
        assert answer.startswith(_ANSWER)
        assert b"connection: close" in answer.lower()


async def _silent(_: Scope, __: Receive, ___: Send) -> None:
    """Answer nothing."""


async def _broken(_: Scope, __: Receive, send: Send) -> None:
    """Stop in the middle of an answer."""
    head = {"type": "http.response.start", "status": 200, "headers": []}
    await send(head)
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise LookupError


async def _patient(_: Scope, receive: Receive, send: Send) -> None:
    """Answer in pieces, and wait for the client to go."""
    head = {"type": "http.response.start", "status": 200, "headers": []}
    assert (await receive())["type"] == "http.request"
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            assert (await receive())["type"] == "http.disconnect"
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait)
        await send(head)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (_silent, (b"HTTP/1.1 500 ", b"onnection: close\r\n\r\n")),
        (_broken, (_ANSWER, b"4\r\nhalf\r\n")),
        (_patient, (_ANSWER, b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")),
    ],
)
async def test_any_application_ends_its_exchange(
    app: ASGIApp, expected: tuple[bytes, bytes], nursery: trio.Nursery
) -> None:
    """An application that responds not at all, or half, or late, blocks no client."""
    serving = partial(serve, limits=Limits(phase_seconds=0.5))
    port: int = await nursery.start(serving, app, "127.0.0.1:0")
    answer = await said(port, GET)
    assert answer.startswith(expected[0])
    assert answer.endswith(expected[1])
    nursery.cancel_scope.cancel()
