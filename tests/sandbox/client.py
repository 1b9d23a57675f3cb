"""A Pusher client for tests: it sends what a test sends and nothing by itself."""

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
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from bridge.sandbox import Sandbox


_DEADLINE_SECONDS = 10.0


async def wait_until(
    condition: Callable[[], object], *, seconds: float = _DEADLINE_SECONDS
) -> None:
    """Look again and again until something is so; fails after the deadline."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what it waits for sets no event
            await trio.sleep(0.01)


class Client:
    """
    One connection.

    Attributes:
        status: The upgrade's status.
        extensions: How many the server agreed on, though one is offered.
        close: The code of its close frame.
        pongs: Their payloads.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.status = 0
        self.extensions = 0
        self.close: int | None = None
        self.pongs: list[bytes] = []
        self._websocket = WSConnection(ConnectionType.CLIENT)
        self._ended = False
        self._messages: deque[str] = deque()
        self._part = ""

    async def upgrade(self, target: str) -> None:
        """Send the upgrade and wait for its answer."""
        await self.emit(
            Request(host="sandbox", target=target, extensions=[PerMessageDeflate()])
        )
        while not self.status and not self._ended:
            await self._read()

    async def emit(self, event: Event) -> None:
        """Send any WebSocket frame."""
        await self.stream.send_all(self._websocket.send(event))

    async def _read(self) -> None:
        with trio.fail_after(_DEADLINE_SECONDS):
            data = await self.stream.receive_some(65536)
        self._ended = not data
        if data:
            self._websocket.receive_data(bytes(data))
            for event in self._websocket.events():
                await self._take(event)

    async def _take(self, event: Event) -> None:
        if isinstance(event, AcceptConnection):
            self.status, self.extensions = 101, len(event.extensions)
        elif isinstance(event, RejectConnection):
            self.status = event.status_code
        elif isinstance(event, TextMessage):
            self._part += event.data
            if event.message_finished:
                self._messages.append(self._part)
                self._part = ""
        elif isinstance(event, Pong):
            self.pongs.append(bytes(event.payload))
        elif isinstance(event, CloseConnection):
            self.close = event.code
            if self._websocket.state.name == "REMOTE_CLOSING":
                await self.emit(event.response())

    async def receive_text(self) -> str | None:
        """Wait for the next message; None at the end of the connection."""
        while not self._messages and not self._ended and self.close is None:
            await self._read()
        return self._messages.popleft() if self._messages else None

    async def receive(self) -> Any:
        """Wait for the next message and decode it; None at the end."""
        text = await self.receive_text()
        return None if text is None else json.loads(text)

    async def wait_closed(self) -> int | None:
        """Read to the end; gives the code of the close frame, if there was one."""
        while not self._ended:
            await self._read()
        return self.close

    async def send(self, event: str, data: Any = None, **more: Any) -> None:
        """Send a message of the protocol."""
        message = {"event": event, "data": data or {}, **more}
        await self.emit(TextMessage(json.dumps(message)))

    async def established(self) -> str:
        """Take the first message; gives the socket id."""
        first = await self.receive()
        assert first["event"] == "pusher:connection_established"
        return str(json.loads(first["data"])["socket_id"])


@asynccontextmanager
async def connect(
    base: str, target: str = "/app/depin-api-prod-key?protocol=7"
) -> AsyncIterator[Client]:
    """Connect to a sandbox and upgrade; the connection ends with the block."""
    url = urlsplit(base)
    assert url.hostname is not None
    assert url.port is not None
    async with await trio.open_tcp_stream(url.hostname, url.port) as stream:
        client = Client(stream)
        await client.upgrade(target)
        yield client


@asynccontextmanager
async def subscribed(sandbox: Sandbox, base: str) -> AsyncIterator[Client]:
    """Connect and subscribe to the account's channel."""
    channel = sandbox.config.channel
    async with connect(base) as client:
        auth = sandbox.config.app.channel_auth(await client.established(), channel)
        await client.send("pusher:subscribe", {"channel": channel, "auth": auth})
        answer = await client.receive()
        assert answer["event"] == "pusher_internal:subscription_succeeded"
        yield client
