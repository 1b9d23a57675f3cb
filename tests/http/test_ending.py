"""Tests of how serving ends, whatever its clients are at."""

from __future__ import annotations

from functools import partial

import pytest
import structlog
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bridge.http.server import Limits, serve
from tests.http.clients import (
    GET,
    PATIENCE_SECONDS,
    POST,
    application,
    connected,
    descriptors,
    until_end,
)


# Where a client may be when serving ends; none of them is waited for.
_IDLE = {
    "silent": b"",
    "in its head": b"GET / HTTP/1.1\r\n",
    "answered": GET,
    "reading its last answer": GET[:-2] + b"Connection: close\r\n\r\n",
}
# Of these a request is under way.
_UNDER_WAY = {
    "in its body": POST + b"Content-Length: 9\r\n\r\n",
    "not reading": GET.replace(b"/", b"/flood", 1),
    "at an answer without an end": GET.replace(b"/", b"/last/10", 1),
}


async def _ended(firsts: dict[str, bytes]) -> tuple[float, int]:
    """Serve such clients and cancel; return the seconds, and descriptors left over."""
    before = descriptors()
    streams = []
    async with trio.open_nursery() as nursery:
        serving = partial(serve, application(), "127.0.0.1:0", limits=Limits())
        port: int = await nursery.start(serving)
        for first in firsts.values():
            streams.append(await connected(port))
            await streams[-1].send_all(first)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
        begun = trio.current_time()
    seconds = trio.current_time() - begun
    for stream in streams:
        await stream.aclose()
    return seconds, descriptors() - before


async def test_nobody_who_has_no_request_is_waited_for() -> None:
    """Their connections end with the port, and leave no descriptor."""
    seconds, left = await _ended(_IDLE)
    assert seconds < 0.9
    assert left <= 0


async def test_requests_under_way_end_after_the_grace() -> None:
    """One that waits for its client gets a second, and leaves no descriptor."""
    seconds, left = await _ended(_IDLE | _UNDER_WAY)
    assert 0.9 < seconds < 1 + PATIENCE_SECONDS
    assert left <= 0


async def test_port_is_closed_while_requests_end() -> None:
    """No new client is accepted while it drains; connected ones get the response."""
    begun = trio.Event()

    async def work(_: Request) -> Response:
        begun.set()
        await trio.sleep(0.4)
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", work)])
    answers: list[bytes] = []

    async def ask(port: int) -> None:
        stream = await connected(port)
        # A second request is behind it: it comes too late.
        await stream.send_all(GET + GET)
        answers.append((await until_end(stream))[0])
        await stream.aclose()

    async with trio.open_nursery() as clients, trio.open_nursery() as nursery:
        port: int = await nursery.start(serve, app, "127.0.0.1:0")
        clients.start_soon(ask, port)
        await begun.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match="all attempts to connect"):
                await connected(port)
    (answer,) = answers
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in answer
    assert answer.endswith(b"done")


async def test_application_that_fails_at_the_end_fails_alone() -> None:
    """What it raises after the drain timeout is logged, and stops nothing else."""
    begun = trio.Event()

    async def fail_at_the_end(_: Request) -> Response:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                raise LookupError

    app = Starlette(routes=[Route("/", fail_at_the_end)])
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve, app, "127.0.0.1:0")
            stream = await connected(port)
            await stream.send_all(GET)
            await begun.wait()
            nursery.cancel_scope.cancel()
        await stream.aclose()
    assert logs[-1]["event"] == "port.application_failed"


async def test_cancel_at_any_moment_leaves_nothing() -> None:
    """However far a request has come, no descriptor stays behind."""
    before = descriptors()
    for checkpoints in range(40):
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve, application(), "127.0.0.1:0")
            stream = await connected(port)
            await stream.send_all(GET[:-2] + b"Connection: close\r\n\r\n")
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await stream.aclose()
        assert descriptors() <= before
