"""A Pusher client for tests: it says exactly what it is told and nothing by itself."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)

from bridge.sandbox import Sandbox
from bridge.sandbox.config import App


_DEADLINE_SECONDS = 10.0


async def wait_until(
    condition: Callable[[], object], *, seconds: float = _DEADLINE_SECONDS
) -> None:
    """Look again and again until something is so; fails after the deadline."""
    with trio.fail_after(seconds):
        while True:
            if condition():
                return
            await trio.sleep(0.01)


class Client:
    """One connection."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.websocket = WSConnection(ConnectionType.CLIENT)
        self.accept: AcceptConnection | None = None
        self.status: int | None = None
        self.close: tuple[int, str | None] | None = None
        self.pongs: list[bytes] = []
        self.ended = False
        self._texts: deque[str] = deque()
        self._parts: list[str] = []

    async def upgrade(self, target: str, *, offer: str | None = None) -> None:
        """Send the upgrade; `offer` is a Sec-WebSocket-Extensions header."""
        request = Request(host="sandbox", target=target)
        data = self.websocket.send(request)
        if offer is not None:
            header = f"\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n".encode()
            data = data.removesuffix(b"\r\n\r\n") + header
        await self.stream.send_all(data)
        while self.accept is None and self.status is None and not self.ended:
            await self._read()

    async def _read(self) -> None:
        with trio.fail_after(_DEADLINE_SECONDS):
            data = await self.stream.receive_some(65536)
        if not data:
            self.ended = True
            return
        self.websocket.receive_data(bytes(data))
        for event in self.websocket.events():
            await self._take(event)

    async def _take(self, event: Event) -> None:
        if isinstance(event, AcceptConnection):
            self.accept = event
        elif isinstance(event, RejectConnection):
            self.status = event.status_code
        elif isinstance(event, TextMessage):
            self._parts.append(event.data)
            if event.message_finished:
                self._texts.append("".join(self._parts))
                self._parts.clear()
        elif isinstance(event, CloseConnection):
            self.close = (event.code, event.reason)
            if self.websocket.state.name == "REMOTE_CLOSING":
                await self.stream.send_all(self.websocket.send(event.response()))
        elif isinstance(event, Pong):
            self.pongs.append(bytes(event.payload))

    async def receive_text(self) -> str | None:
        """Wait for the next message; None at the end of the connection."""
        while not self._texts and not self.ended and self.close is None:
            await self._read()
        return self._texts.popleft() if self._texts else None

    async def receive(self) -> Any:
        """Wait for the next message and decode it; None at the end."""
        text = await self.receive_text()
        return None if text is None else json.loads(text)

    async def wait_closed(self) -> tuple[int, str | None] | None:
        """Read to the end; returns what the close frame said, if there was one."""
        while not self.ended:
            await self._read()
        return self.close

    async def send(self, event: str, data: Any = None, **more: Any) -> None:
        """Send a message of the protocol."""
        await self.send_text(json.dumps({"event": event, "data": data or {}, **more}))

    async def send_text(self, text: str) -> None:
        """Send any text."""
        await self.stream.send_all(self.websocket.send(TextMessage(data=text)))

    async def send_event(self, event: Event) -> None:
        """Send any WebSocket frame."""
        await self.stream.send_all(self.websocket.send(event))

    async def ping(self, payload: bytes) -> None:
        """Send a WebSocket ping and wait for its pong."""
        await self.send_event(Ping(payload=payload))
        while payload not in self.pongs:
            await self._read()

    async def established(self) -> str:
        """Take the first frame; returns the socket id."""
        first = await self.receive()
        assert first["event"] == "pusher:connection_established"
        return str(json.loads(first["data"])["socket_id"])

    async def subscribe(self, channel: str, app: App, socket_id: str) -> Any:
        """Subscribe with a signature; returns the server's answer."""
        auth = app.channel_auth(socket_id, channel)
        await self.send("pusher:subscribe", {"channel": channel, "auth": auth})
        return await self.receive()


@asynccontextmanager
async def connect(
    base: str, target: str = "/app/depin-api-prod-key?protocol=7"
) -> AsyncIterator[Client]:
    """Connect to a sandbox and upgrade; the connection ends with the block."""
    url = urlsplit(base)
    assert url.hostname is not None
    assert url.port is not None
    stream = await trio.open_tcp_stream(url.hostname, url.port)
    async with stream:
        client = Client(stream)
        await client.upgrade(target)
        yield client


@asynccontextmanager
async def subscribed(sandbox: Sandbox, base: str) -> AsyncIterator[Client]:
    """Connect and subscribe to the account's channel."""
    async with connect(base) as client:
        socket_id = await client.established()
        config = sandbox.config
        answer = await client.subscribe(config.channel, config.app, socket_id)
        assert answer["event"] == "pusher_internal:subscription_succeeded"
        yield client
