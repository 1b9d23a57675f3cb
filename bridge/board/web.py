"""
The board's web server: the page, previews, and the stream of events.

All browsers get the same bytes, encoded once. A browser that is slow misses updates and
gets a new snapshot instead, so nothing queues up for it.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Final

import trio
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.board.board import Board, Bounds
from bridge.http.hosts import HostCheck


__all__ = ["HEADERS", "PAGE", "TYPES", "Stream", "application"]

PAGE: Final = Path(__file__).parent / "page"

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Whatever text of a record gets into the page: only the page's own files run.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

# An image and nothing else, however it is opened, and only on the board's own page. It
# never changes: another picture has another address.
_PICTURE: Final = {
    "Cache-Control": "private, max-age=3600, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}

# An update comes at least this often: the page knows by it that the board is there.
_FIGURES_SECONDS: Final = 1.0

_STREAM: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would hold events back until it has many.
    (b"x-accel-buffering", b"no"),
]
_GZIP: Final = (b"content-encoding", b"gzip")
_GZIP_HEAD: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


def application(board: Board, stream: Stream, hosts: Iterable[str]) -> ASGIApp:
    """Make the application, which answers to some names besides this machine's own."""

    async def preview(request: Request) -> Response:
        picture = board.picture(request.path_params["request_id"])
        if picture is None:
            return PlainTextResponse("That preview is no longer kept.\n", 404)
        headers = {**_PICTURE, "Content-Type": picture.content_type}
        if request.query_params.get("v") != str(picture.version):
            # A newer one than the client asked for, which has another address.
            headers["Cache-Control"] = "no-store"
        return Response(picture.data, headers=headers)

    # Read once: no request's path ever reaches the disk.
    routes = [_file(path) for path in sorted(PAGE.iterdir()) if path.suffix in TYPES]
    routes.append(Route("/events", stream, methods=["GET"]))
    routes.append(Route("/previews/{request_id:path}", preview))
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    hint = "board.hosts (BRIDGE_BOARD_HOSTS)"
    return _secured(HostCheck(app, hosts, hint=hint))


def _file(path: Path) -> Route:
    """Make the route of one of the page's files."""
    data = path.read_bytes()
    headers = {
        # A browser asks each time: after an upgrade, old and new files never mix.
        "Cache-Control": "no-cache",
        "Content-Type": TYPES[path.suffix],
        "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
    }

    async def file(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        # A proxy that compresses marks it as weak.
        if headers["ETag"] in {
            one.strip().removeprefix("W/") for one in known.split(",")
        }:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers)

    return Route("/" if path.name == "index.html" else f"/{path.name}", file)


def _secured(app: ASGIApp) -> ASGIApp:
    """Add the security headers to each answer."""

    async def secured(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await app(scope, receive, send_secured)

    return secured


class _Event:
    """An event of the stream, in both encodings."""

    def __init__(self, name: bytes, data: bytes) -> None:
        # JSON has no line breaks, which would end it.
        self.plain = b"retry: 2000\nevent: %s\ndata: %s\n\n" % (name, data)

    @cached_property
    def packed(self) -> bytes:
        # It refers to nothing before it, so it continues the gzip of any browser.
        deflate = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        return deflate.compress(self.plain) + deflate.flush(zlib.Z_SYNC_FLUSH)


class Stream:
    """
    The server-sent events, an ASGI application.

    Attributes:
        browsers: How many are connected.
    """

    def __init__(self, board: Board, bounds: Bounds) -> None:
        self.browsers = 0
        self._board = board
        self._max_browsers = bounds.max_browsers
        self._seconds = 1 / bounds.updates_per_second
        # The latest update, its number, and what is set when the next one comes.
        self._update = _Event(b"", b"")
        self._number = 0
        self._next = trio.Event()
        # As of some time since the latest update; made when a browser needs it.
        self._snapshot: _Event | None = None

    async def run(self) -> None:
        """Make updates until cancelled."""
        made_at = trio.current_time()
        while True:
            await trio.sleep(self._seconds)
            is_due = trio.current_time() >= made_at + _FIGURES_SECONDS
            if is_due or self._board.has_changes():
                made_at = trio.current_time()
                self._update = _Event(b"update", self._board.update(self._figures()))
                self._snapshot = None
                self._number += 1
                self._next.set()
                self._next = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events to a browser until it disconnects."""
        if self.browsers >= self._max_browsers:
            full = f"The board serves {self.browsers} browsers, its maximum.\n"
            await PlainTextResponse(full, 503)(scope, receive, send)
            return
        is_packed = "gzip" in Headers(scope=scope).get("accept-encoding", "")
        headers = [*_STREAM, _GZIP] if is_packed else _STREAM
        head = {"type": "http.response.start", "status": 200, "headers": headers}
        self.browsers += 1
        try:
            await send(head)
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body"})
            else:
                await self._send_all(send, is_packed=is_packed)
        finally:
            self.browsers -= 1

    async def _send_all(self, send: Send, *, is_packed: bool) -> None:
        head = _GZIP_HEAD if is_packed else b""
        number, event = self._number, self._snapshot_now()
        while True:
            data = event.packed if is_packed else event.plain
            await send(
                {"type": "http.response.body", "body": head + data, "more_body": True}
            )
            head = b""
            # After a slow send the next update is waited for, however many were missed.
            await self._next.wait()
            is_following = self._number == number + 1
            event = self._update if is_following else self._snapshot_now()
            number = self._number

    def _snapshot_now(self) -> _Event:
        if self._snapshot is None:
            data = self._board.snapshot(self._figures())
            self._snapshot = _Event(b"snapshot", data)
        return self._snapshot

    def _figures(self) -> dict[str, object]:
        return self._board.figures(int(time.time() * 1000), time.monotonic())
