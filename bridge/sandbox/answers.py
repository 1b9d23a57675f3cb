"""
Answers on command, in place of dryAPI's own, and what dryAPI was asked.

This is for dryAPI's own interface. The commands themselves are in `control`.
"""

from __future__ import annotations

import time
from collections import deque
from email.utils import formatdate
from typing import Annotated

import msgspec
import trio
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.sandbox.http import fields


__all__ = ["Answer", "Answers", "Asked"]

# Commands, and the Pusher API.
_LEFT_ALONE = ("/sandbox/", "/apps/")
_YEAR_SECONDS = 31_536_000.0
_KEPT_REQUESTS = 10_000
_MAX_BODY_BYTES = 64 * 1024

_Seconds = Annotated[float, msgspec.Meta(ge=0, le=_YEAR_SECONDS)]


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What requests are answered with, and for how long.

    Attributes:
        path: What their path begins with.
        seconds: For how long; 0 ends what was ordered for this path.
        times: For how many requests, after those of earlier orders; None for all, in
            place of earlier orders.
        delay_seconds: How long an answer takes.
        status: Its status; None for dryAPI's own answer.
        headers: Its headers, or more headers for dryAPI's own; None leaves one out.
        body: Its body.
    """

    path: str
    seconds: _Seconds = _YEAR_SECONDS
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    delay_seconds: _Seconds = 0.0
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    headers: dict[str, str | None] = {}
    body: str = ""


class Asked(msgspec.Struct):
    """
    A request as it came.

    Attributes:
        method: Its method.
        path: Its path.
        authorization: This header; empty without one.
        accept: This header, likewise.
        at: When it came, in seconds since the epoch.
        fields: The members of a body that is a JSON object or a form.
    """

    method: str
    path: str
    authorization: str
    accept: str
    at: float
    fields: dict[str, object] = {}


class _Order:
    # An answer with what is left of it.
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.until = trio.current_time() + answer.seconds
        self.times = answer.times

    @property
    def is_due(self) -> bool:
        return self.times != 0 and trio.current_time() < self.until


class Answers:
    """
    The orders that are in force.

    Attributes:
        requests: What was asked, the newest 10,000.
    """

    def __init__(self) -> None:
        self.requests: deque[Asked] = deque(maxlen=_KEPT_REQUESTS)
        self._orders: list[_Order] = []

    def order(self, answer: Answer) -> None:
        """Answer so from now on."""
        self._orders = [
            order
            for order in self._orders
            if order.is_due
            and (answer.times is not None or order.answer.path != answer.path)
        ]
        self._orders.append(_Order(answer))

    def around(self, application: ASGIApp) -> ASGIApp:
        """Give an application that answers as ordered, and else as this one."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"].startswith(_LEFT_ALONE):
                await application(scope, receive, send)
            else:
                await self._serve(application, scope, receive, send)

        return serve

    def _next(self, path: str) -> Answer:
        for order in self._orders:
            if path.startswith(order.answer.path) and order.is_due:
                if order.times is not None:
                    order.times -= 1
                return order.answer
        return Answer(path)

    async def _serve(
        self, application: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        answer = self._next(scope["path"])
        given = Headers(scope=scope)
        asked = Asked(
            scope["method"],
            scope["path"],
            given.get("authorization", ""),
            given.get("accept", ""),
            time.time(),
        )
        self.requests.append(asked)
        body = bytearray()

        async def read() -> Message:
            message = await receive()
            if len(body) <= _MAX_BODY_BYTES:
                body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                asked.fields = fields(Request(scope), bytes(body))
            return message

        async def write(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = {"date": formatdate(usegmt=True)} | {
                    name.lower(): value for name, value in answer.headers.items()
                }
                message["headers"] = [
                    (name, value)
                    for name, value in message["headers"]
                    if name.decode("latin-1") not in added
                ] + [
                    (name.encode("latin-1"), value.encode("latin-1"))
                    for name, value in added.items()
                    if value is not None
                ]
            await send(message)

        if answer.status is None:
            await trio.sleep(answer.delay_seconds)
            await application(scope, read, write)
            return
        while (await read()).get("more_body", False):
            pass
        await trio.sleep(answer.delay_seconds)
        content = answer.body.encode()
        length = (b"content-length", str(len(content)).encode())
        await write(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [length],
            }
        )
        await write({"type": "http.response.body", "body": content})
