"""An account whose session talks to a real soketi, with its wire written down."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from bridge.http.streams import OpenTcp
from bridge.pusher.connection import Channel, Deliver
from bridge.pusher.coverage import Coverage, Stalls
from bridge.pusher.protocol import ChannelEvent
from bridge.pusher.session import Session
from bridge.pusher.websocket import Backpressure, Receive, WebSocket, open_websocket
from bridge.settings import PusherSettings
from tests.kit.publisher import Soketi
from tests.pusher.courses import Ear


DEADLINE_SECONDS = 15.0

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
"""Opcodes of frames (RFC 6455 section 5.2)."""

Sign = Callable[[str, str], str]


class Signer:
    """Signs as dryAPI's endpoint would, without the endpoint."""

    def __init__(self, *signs: Sign) -> None:
        self._signs = signs
        self.asked: list[str] = []

    async def authorize(self, socket_id: str, channel: str) -> str:
        """Sign with the next way of signing; the last one serves all that follow."""
        self.asked.append(socket_id)
        await trio.lowlevel.checkpoint()
        sign = self._signs[min(len(self.asked), len(self._signs)) - 1]
        return sign(socket_id, channel)


class Wire:
    """What went over one connection."""

    def __init__(self) -> None:
        self.dialled_at = trio.current_time()
        self.ended_at: float | None = None
        self.sent = bytearray()
        self.received = bytearray()

    @property
    def request_line(self) -> str:
        """The first line of the upgrade."""
        return bytes(self.sent).partition(b"\r\n")[0].decode()

    @property
    def status_line(self) -> str:
        """The first line of the answer to it."""
        return bytes(self.received).partition(b"\r\n")[0].decode()

    @property
    def said(self) -> list[dict[str, Any]]:
        """The client's Pusher frames."""
        return _texts(self.sent)

    @property
    def heard(self) -> list[dict[str, Any]]:
        """The server's Pusher frames."""
        return _texts(self.received)

    @property
    def opcodes_said(self) -> list[int]:
        """The kinds of the client's WebSocket frames."""
        return [opcode for opcode, _ in frames(self.sent)]

    @property
    def opcodes_heard(self) -> list[int]:
        """The kinds of the server's WebSocket frames."""
        return [opcode for opcode, _ in frames(self.received)]

    @property
    def socket_id(self) -> str:
        """The identity that the server gave the connection."""
        data: dict[str, str] = json.loads(self.heard[0]["data"])
        return data["socket_id"]


def frames(wire: bytearray) -> list[tuple[int, bytes]]:
    """Read one direction's bytes as frames, the HTTP head passed over."""
    view, at, found = bytes(wire), wire.find(b"\r\n\r\n") + 4, []
    while at + 2 <= len(view):
        opcode, length = view[at] & 0x0F, view[at + 1] & 0x7F
        masked, at = view[at + 1] & 0x80, at + 2
        if length > 125:
            width = 2 if length == 126 else 8
            length, at = int.from_bytes(view[at : at + width]), at + width
        mask = view[at : at + 4] if masked else b""
        at += len(mask)
        payload = view[at : at + length]
        if len(payload) < length:
            break
        at += length
        if mask:
            payload = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
        found.append((opcode, payload))
    return found


def _texts(wire: bytearray) -> list[dict[str, Any]]:
    return [json.loads(text) for opcode, text in frames(wire) if opcode == TEXT]


class _Tapped(trio.abc.Stream):
    """A stream that writes down what passes."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        wire: Wire,
        on_received: Callable[[Wire], None],
    ) -> None:
        self._stream = stream
        self._wire = wire
        self._on_received = on_received

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._wire.sent += data
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = b""
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        finally:
            # A cancelled read is an end too: nobody reads afterwards.
            if not data:
                self._wire.ended_at = trio.current_time()
        self._wire.received += data
        self._on_received(self._wire)
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


def tapped(wire: Wire, on_received: Callable[[Wire], None] = lambda _: None) -> OpenTcp:
    """Make what opens a TCP connection whose bytes are written down."""

    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        return _Tapped(await trio.open_tcp_stream(host, port), wire, on_received)

    return open_stream


class Account:
    """An account of its own, and its session."""

    def __init__(
        self,
        soketi: Soketi,
        client_id: str | None = None,
        *,
        authorizer: Signer | None = None,
        deliver: Deliver | None = None,
        pause: Backpressure = trio.lowlevel.checkpoint_if_cancelled,
        on_received: Callable[[Wire], None] = lambda _: None,
        stalls: Stalls | None = None,
        **settings: Any,
    ) -> None:
        client_id = client_id or uuid.uuid4().hex
        self.channel = f"private-client.{client_id}"
        self.events: list[ChannelEvent] = []
        self.wires: list[Wire] = []
        self.connection: WebSocket | None = None
        self.ear = Ear()
        self._on_received = on_received
        self._settings = PusherSettings(
            **{"url": soketi.url, "app_key": soketi.app.key, **settings}
        )
        channel = Channel(
            client_id,
            self._settings,
            (authorizer or Signer(soketi.sign_channel)).authorize,
            self._connect,
            deliver or self._deliver,
            Coverage(self.ear.subscribed, self.ear.interrupted),
            pause,
            stalls=stalls or Stalls(),
        )
        self.session = Session(channel)

    @property
    def wire(self) -> Wire:
        """The last connection's bytes."""
        return self.wires[-1]

    @property
    def subscribed(self) -> bool:
        """Whether events can arrive at this moment."""
        return self.session.statistics.subscribed

    @property
    def data(self) -> list[object]:
        """The payloads that were delivered."""
        return [event.data for event in self.events]

    async def say(self, event: str, **members: object) -> None:
        """Send a frame of the test's over the session's connection."""
        assert self.connection is not None
        await self.connection.send(json.dumps({"event": event, **members}))

    def _deliver(self, events: Sequence[ChannelEvent], received_at_us: int) -> None:
        assert received_at_us > 0
        self.events += events

    @asynccontextmanager
    async def _connect(
        self, url: str, receive: Receive, backpressure: Backpressure
    ) -> AsyncIterator[WebSocket]:
        async with open_websocket(
            url,
            receive,
            backpressure,
            max_message_bytes=self._settings.max_message_bytes,
            open_tcp=self._open_stream,
        ) as connection:
            self.connection = connection
            yield connection

    async def _open_stream(self, host: str, port: int) -> trio.abc.Stream:
        self.wires.append(Wire())
        return await tapped(self.wire, self._on_received)(host, port)


async def until(
    condition: Callable[[], bool], deadline_seconds: float = DEADLINE_SECONDS
) -> None:
    """Wait for something that a real server brings about."""
    with trio.fail_after(deadline_seconds):
        while not condition():  # noqa: ASYNC110 - a counter has no event
            await trio.sleep(0.01)


async def until_it_is(
    ask: Callable[[], Awaitable[object]],
    value: object,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> None:
    """Ask a server until it answers so."""
    with trio.fail_after(deadline_seconds):
        while await ask() != value:  # noqa: ASYNC110 - another process's number
            await trio.sleep(0.02)


@asynccontextmanager
async def running(account: Account) -> AsyncIterator[Account]:
    """Run an account's session in the background."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(account.session.run)
        yield account
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def subscribed(
    soketi: Soketi, *arguments: Any, **named: Any
) -> AsyncIterator[Account]:
    """Run the session of an account, made as `Account` is, once it is subscribed."""
    async with running(Account(soketi, *arguments, **named)) as account:
        await until(lambda: account.subscribed)
        yield account
