"""An account whose session talks to a real soketi, and the frames of its wire."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from wsproto.frame_protocol import FrameProtocol, Opcode

from bridge.pusher.connection import Channel, Deliver
from bridge.pusher.coverage import Coverage
from bridge.pusher.protocol import ChannelEvent
from bridge.pusher.session import Session
from bridge.pusher.websocket import Backpressure, Receive, WebSocket, open_websocket
from bridge.settings import PusherSettings
from tests.kit.publisher import Soketi
from tests.kit.scripted import PassingStream
from tests.pusher.courses import Ear


DEADLINE_SECONDS = 15.0


class Signer:
    """Signs as dryAPI's endpoint would; the first signature may be a wrong one."""

    def __init__(self, soketi: Soketi, *, first: str | None = None) -> None:
        self._sign = soketi.sign_channel
        self._first = first
        self.asked: list[str] = []

    async def authorize(self, socket_id: str, channel: str) -> str:
        """Sign."""
        self.asked.append(socket_id)
        await trio.lowlevel.checkpoint()
        first, self._first = self._first, None
        return first or self._sign(socket_id, channel)


class Wire(PassingStream):
    """One connection, and what went over it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self._sent = bytearray()
        self._received = bytearray()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, and keep it."""
        self._sent += data
        await super().send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive, and keep it."""
        data = await super().receive_some(max_bytes)
        self._received += data
        return data

    @property
    def request_line(self) -> str:
        """The first line of the upgrade."""
        return self._sent.partition(b"\r\n")[0].decode()

    @property
    def said(self) -> list[dict[str, Any]]:
        """The client's Pusher frames."""
        return [json.loads(text) for text in _texts(self._sent, client=False)]

    @property
    def heard(self) -> list[dict[str, Any]]:
        """The server's Pusher frames."""
        return [json.loads(text) for text in _texts(self._received, client=True)]

    @property
    def opcodes_said(self) -> list[Opcode]:
        """The kinds of the client's WebSocket frames."""
        return [opcode for opcode, _ in _frames(self._sent, client=False)]

    @property
    def opcodes_heard(self) -> list[Opcode]:
        """The kinds of the server's WebSocket frames."""
        return [opcode for opcode, _ in _frames(self._received, client=True)]

    @property
    def socket_id(self) -> str:
        """The identity that the server gave the connection."""
        data: dict[str, str] = json.loads(self.heard[0]["data"])
        return data["socket_id"]


def _frames(wire: bytearray, *, client: bool) -> list[tuple[Opcode, Any]]:
    """Read what came after the HTTP head as frames."""
    protocol = FrameProtocol(client=client, extensions=[])
    protocol.receive_bytes(bytes(wire.partition(b"\r\n\r\n")[2]))
    frames = protocol.received_frames()
    return [(each.opcode, each.payload) for each in frames if each.message_finished]


def _texts(wire: bytearray, *, client: bool) -> list[str]:
    frames = _frames(wire, client=client)
    return [payload for opcode, payload in frames if opcode is Opcode.TEXT]


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
        max_message_bytes: int | None = None,
        **settings: Any,
    ) -> None:
        client_id = client_id or uuid.uuid4().hex
        self.channel = f"private-client.{client_id}"
        self.events: list[ChannelEvent] = []
        self.dials: list[float] = []
        self.wires: list[Wire] = []
        self.connection: WebSocket | None = None
        self.ear = Ear()
        self._limits: dict[str, Any] = {}
        if max_message_bytes is not None:
            self._limits["max_message_bytes"] = max_message_bytes
        self._settings = PusherSettings(
            **{"url": soketi.url, "app_key": soketi.app.key, **settings}
        )
        channel = Channel(
            client_id,
            self._settings,
            (authorizer or Signer(soketi)).authorize,
            self._connect,
            deliver or self._deliver,
            Coverage(self.ear.subscribed, self.ear.interrupted),
            pause,
        )
        self.session = Session(channel)

    @property
    def wire(self) -> Wire:
        """The last connection."""
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
            open_tcp=self._open_stream,
            **self._limits,
        ) as connection:
            self.connection = connection
            yield connection

    async def _open_stream(self, host: str, port: int) -> trio.abc.Stream:
        self.dials.append(trio.current_time())
        self.wires.append(Wire(await trio.open_tcp_stream(host, port)))
        return self.wire


async def until(
    condition: Callable[[], bool], deadline_seconds: float = DEADLINE_SECONDS
) -> None:
    """Wait until a real server has done something."""
    with trio.fail_after(deadline_seconds):
        while not condition():  # noqa: ASYNC110 - a counter has no event
            await trio.sleep(0.01)


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
