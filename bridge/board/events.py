"""
What browsers are told, and when: server-sent events.

Owns that all of them are told at the same moments, so that those who look at the same
get the same bytes, made once. Of each only what it was told last is kept: one that is
slow misses moments, and is told then what is true by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from bridge.board.board import Board, Bounds, Filter, View
from bridge.board.figures import Figures


__all__ = ["Events"]

# Also if nothing else has changed: a page tells by it that somebody is there.
_FIGURES_SECONDS: Final = 1.0

_RETRY: Final = b"retry: 2000\n\n"

# A filter is a few letters and words: a hostile one costs no more.
_MAX_TEXT: Final = 300
_MAX_STATUSES: Final = 20


class Events:
    """
    The moments at which browsers are told, and how many of those there are.

    Args:
        board: What is told of.
        limits: How many browsers, how often.
        clock: Seconds since the epoch.
        monotonic: Seconds that only go forward.
    """

    def __init__(
        self,
        board: Board,
        limits: Bounds,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.browsers = 0
        self._board = board
        self._max_browsers = limits.max_browsers
        self._seconds = 1 / limits.updates_per_second
        self._clock = clock
        self._monotonic = monotonic
        self._moment = trio.Event()
        # What has been made since the last moment, for whoever else looks at the same.
        self._figures: Figures | None = None
        self._updates: dict[View, tuple[bytes, View]] = {}

    async def run(self) -> None:
        """Let moments pass until cancelled."""
        while True:
            await trio.sleep(self._seconds)
            self._figures = None
            self._updates.clear()
            self._moment.set()
            self._moment = trio.Event()

    async def answer(self, request: Request) -> Response:
        """Answer a browser that wants to be told."""
        if request.method == "HEAD":
            return Response(headers=_HEADERS)
        if self.browsers >= self._max_browsers:
            return PlainTextResponse(
                f"The board serves {self.browsers} browsers already, its maximum.\n",
                503,
            )
        return _Stream(self, _filter(request))

    async def tell(self, wanted: Filter, send: Send) -> None:
        """
        Tell one browser until it has gone.

        Args:
            wanted: Which jobs it wants.
            send: As in ASGI; raises an OSError when the browser has gone.
        """
        self.browsers += 1
        self._figures = None
        try:
            data, view = self._board.snapshot(wanted, self._figures_of_now())
            await _send(send, _RETRY + _event(b"snapshot", data))
            told_at = trio.current_time()
            while True:
                # Whoever takes long comes back late, and waits for the next moment.
                await self._moment.wait()
                is_due = trio.current_time() >= told_at + _FIGURES_SECONDS
                if is_due or view.version != self._board.version:
                    told_at = trio.current_time()
                    data, view = self._update(view)
                    await _send(send, data)
        finally:
            self.browsers -= 1

    def _update(self, view: View) -> tuple[bytes, View]:
        """Make an update, or take that of another browser with the same view."""
        made = self._updates.get(view)
        if made is None:
            data, now = self._board.update(view, self._figures_of_now())
            made = self._updates[view] = _event(b"update", data), now
        return made

    def _figures_of_now(self) -> Figures:
        if self._figures is None:
            now_ms = int(self._clock() * 1000)
            self._figures = self._board.figures(
                now_ms, self._monotonic(), self.browsers
            )
        return self._figures


_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # nginx would hold events back until it has many.
    "X-Accel-Buffering": "no",
}


class _Stream(Response):
    """An answer that lasts for as long as its browser stays."""

    def __init__(self, events: Events, wanted: Filter) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._wanted = wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, and tell what there is."""
        del scope, receive
        head = {"type": "http.response.start", "status": 200}
        await send({**head, "headers": self.raw_headers})
        await self._events.tell(self._wanted, send)


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


def _event(name: bytes, data: bytes) -> bytes:
    # JSON has no line breaks, which would end it.
    return b"event: %s\ndata: %s\n\n" % (name, data)


def _filter(request: Request) -> Filter:
    words = request.query_params.get("status", "").split(",")[:_MAX_STATUSES]
    return Filter(
        frozenset(word[:_MAX_TEXT] for word in words if word),
        request.query_params.get("id", "")[:_MAX_TEXT],
    )
