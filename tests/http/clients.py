"""An application, ports that serve it, and clients that don't behave."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle

import httpx  # noqa: TID251 - the good client of these tests
import trio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bridge.http.server import Limits, serve
from bridge.http.tls import ReloadingContext


# Real time, so short that a test takes tenths of a second: only for bad clients.
BRIEF = Limits(phase_seconds=0.3, crowded_seconds=0.2)

# What a deadline may be late by: other tests hold the processors.
PATIENCE_SECONDS = 4.0

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: here\r\n"


class _Lasting(Response):
    """An answer without an end, in pieces of one size."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        head = {"type": "http.response.start", "status": 200}
        await send({**head, "headers": [(b"content-type", b"text/event-stream")]})
        body = b"x" * int(scope["path_params"]["size"])
        while True:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await trio.sleep(0.02)


def application() -> Starlette:
    """Make an application that reads all, nothing, sends much or is slow."""

    async def size(request: Request) -> Response:
        try:
            return PlainTextResponse(str(len(await request.body())))
        except ClientDisconnect:
            return PlainTextResponse("never seen")

    async def refuse(_: Request) -> Response:
        return PlainTextResponse("no", 401)

    async def flood(_: Request) -> Response:
        return Response(b"x" * 32 * 1024 * 1024)

    async def give_up(request: Request) -> Response:
        with trio.move_on_after(0.1):
            await request.body()
        return PlainTextResponse("too slow", 408)

    async def work(request: Request) -> Response:
        await trio.sleep(float(request.path_params["seconds"]))
        return PlainTextResponse("done")

    async def fail(_: Request) -> Response:
        raise LookupError

    async def last(_: Request) -> Response:
        return _Lasting()

    return Starlette(
        routes=[
            Route("/", size, methods=["GET", "POST"]),
            Route("/refuse", refuse, methods=["POST"]),
            Route("/give-up", give_up, methods=["POST"]),
            Route("/flood", flood),
            Route("/last/{size}", last),
            Route("/work/{seconds}", work),
            Route("/fail", fail),
        ]
    )


@asynccontextmanager
async def served(
    limits: Limits | None = None, tls: ReloadingContext | None = None
) -> AsyncIterator[int]:
    """Serve the application for the block; give the port."""
    async with trio.open_nursery() as nursery:
        serving = partial(serve, tls=tls, limits=limits, setting="webhook.listen")
        port: int = await nursery.start(serving, application(), "127.0.0.1:0")
        yield port
        nursery.cancel_scope.cancel()


async def connected(port: int) -> trio.SocketStream:
    """Connect as a client of the tests' own."""
    return await trio.open_tcp_stream("127.0.0.1", port)


async def until_end(stream: trio.abc.ReceiveStream) -> tuple[bytes, float]:
    """Read to the end; give what came, and after how many seconds it ended."""
    begun, received = trio.current_time(), b""
    try:
        while data := await stream.receive_some(65536):
            received += data
    except trio.BrokenResourceError:
        pass
    return received, trio.current_time() - begun


async def said(port: int, *sent: bytes) -> bytes:
    """Send pieces one after the other, and then the end; return the answer."""
    async with await connected(port) as stream:
        for piece in sent:
            await stream.send_all(piece)
            await trio.sleep(0.01)
        return (await until_end(stream))[0]


async def trickle(stream: trio.abc.SendStream, first: bytes, *pieces: bytes) -> None:
    """Send something, then one piece after the other until the connection ends."""
    try:
        await stream.send_all(first)
        for piece in cycle(pieces):
            await trio.sleep(0.05)
            await stream.send_all(piece)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def asked(port: int, *, seconds: float = 30.0) -> str:
    """Ask as a good client does, on a connection of its own."""
    async with httpx.AsyncClient(trust_env=False, timeout=seconds) as client:
        return (await client.post(f"http://127.0.0.1:{port}/", content=b"five!")).text


def descriptors() -> int:
    """Count the process's open descriptors."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - the count alone
