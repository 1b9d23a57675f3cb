"""A Pusher server that does what a test says, and a session to try it on.

Each connection runs the next script of a list, the last one for all that
follow. Streams are trio's memory streams, so that a test may use
`autojump_clock` and hours pass at once; both ends speak real WebSocket.
Nothing here judges anything: tests do.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket  # noqa: TID251 - the server's side of the wire is ours to play
from wsproto import ConnectionType, WSConnection
from wsproto.events import TextMessage

from bridge.errors import RefusedError
from bridge.pusher.connection import Channel, Deliver
from bridge.pusher.coverage import Coverage, Stalls
from bridge.pusher.protocol import ChannelEvent
from bridge.pusher.session import Session
from bridge.pusher.websocket import Backpressure, open_websocket
from bridge.settings import PusherSettings


APP_KEY = "app-key"
CLIENT_ID = "42"
CHANNEL = f"private-client.{CLIENT_ID}"
URL = "ws://pusher.test"
MAX_MESSAGE_BYTES = 1_000_000

Script = Callable[[trio.abc.Stream], Awaitable[None]]


class Peer:
    """The server's end of one WebSocket."""

    def __init__(
        self, socket: trio_websocket.WebSocketConnection, path: str, socket_id: str
    ) -> None:
        self.socket = socket
        self.path = path
        self.socket_id = socket_id
        self.acknowledges = True
        self.repeats: list[float] = []
        self._subscribed = False

    @property
    def stream(self) -> trio.abc.Stream:
        """The bytes below, for what no WebSocket library would send."""
        stream: trio.abc.Stream = self.socket._stream  # noqa: SLF001
        return stream

    async def say(self, event: str, **members: object) -> None:
        """Send a frame."""
        await self.socket.send_message(json.dumps({"event": event, **members}))

    async def establish(self, **data: object) -> None:
        """Greet as soketi does, with `data` in place of its members."""
        greeting = {"socket_id": self.socket_id, "activity_timeout": 30, **data}
        await self.say("pusher:connection_established", data=json.dumps(greeting))

    async def read(self) -> dict[str, Any]:
        """Wait for a frame of the client's that isn't a repeated subscription."""
        while True:
            frame: dict[str, Any] = json.loads(await self.socket.get_message())
            if not self._subscribed or frame["event"] != "pusher:subscribe":
                return frame
            self.repeats.append(trio.current_time())
            if self.acknowledges:
                await self.acknowledge()

    async def read_until(self, event: str) -> dict[str, Any]:
        """Wait for a frame with this event's name, and ignore others."""
        while True:
            frame = await self.read()
            if frame["event"] == event:
                return frame

    async def subscribe(self) -> dict[str, Any]:
        """Wait for the subscription and acknowledge it as soketi does."""
        frame = await self.read_until("pusher:subscribe")
        await self.acknowledge()
        return frame

    async def acknowledge(self) -> None:
        """Acknowledge a subscription; soketi sends no `data` with it."""
        self._subscribed = True
        await self.say("pusher_internal:subscription_succeeded", channel=CHANNEL)

    async def publish(
        self,
        data: object = "{}",
        *,
        event: str = "request.status.updated",
        channel: str = CHANNEL,
    ) -> None:
        """Send an event of the channel."""
        await self.say(event, channel=channel, data=data)

    async def publish_at_once(self, *payloads: str) -> None:
        """Send events of the channel in one write, which is one read for the client."""
        event = {"event": "request.status.updated", "channel": CHANNEL}
        await self.say_at_once(*({**event, "data": payload} for payload in payloads))

    async def say_at_once(self, *frames: Mapping[str, object]) -> None:
        """Send frames in one write."""
        wire = self.socket._wsproto  # noqa: SLF001
        await self.stream.send_all(
            b"".join(wire.send(TextMessage(json.dumps(frame))) for frame in frames)
        )

    async def enrol(self, **data: object) -> None:
        """Greet and subscribe."""
        await self.establish(**data)
        await self.subscribe()

    async def answer_pings(self) -> None:
        """Answer pings until the client goes."""
        while True:
            await self.read_until("pusher:ping")
            await self.say("pusher:pong", data={})

    async def complain(self, code: int, message: str = "no") -> None:
        """Send `pusher:error` as soketi does, with an object."""
        await self.say("pusher:error", data={"code": code, "message": message})

    async def close(self, code: int) -> None:
        """End the connection with a close code."""
        await self.socket.aclose(code)


class ScriptedServer:
    """Runs one script a connection."""

    def __init__(self, scripts: Sequence[Script], nursery: trio.Nursery) -> None:
        self._scripts = list(scripts)
        self._nursery = nursery
        self.dials: list[float] = []
        self.targets: list[tuple[str, int]] = []
        self.live = 0

    async def open_stream(self, host: str, port: int) -> trio.abc.Stream:
        """Replace `trio.open_tcp_stream`."""
        self.dials.append(trio.current_time())
        self.targets.append((host, port))
        index = min(len(self.dials), len(self._scripts)) - 1
        # A client that is cancelled here has no stream yet, as with a real one.
        await trio.lowlevel.checkpoint()
        client, server = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, self._scripts[index], server)
        return client

    async def _serve(self, script: Script, stream: trio.abc.Stream) -> None:
        self.live += 1
        try:
            await script(stream)
        finally:
            self.live -= 1
            await trio.aclose_forcefully(stream)


class PassingStream(trio.abc.Stream):
    """A stream that passes everything on to another one; a test sees what passes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until sending might not block."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()


_socket_ids = iter(range(1, 1_000_000))


def spoken(script: Callable[[Peer], Awaitable[None]]) -> Script:
    """Make a script that begins after the upgrade; it may end when the client goes."""

    async def run(stream: trio.abc.Stream) -> None:
        socket = trio_websocket.WebSocketConnection(
            stream, WSConnection(ConnectionType.SERVER)
        )
        asking = trio.CancelScope()

        async def read() -> None:
            await socket._reader_task()  # noqa: SLF001
            # Nothing else shows that a client goes before it has asked.
            asking.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            request = None
            with asking:
                request = await socket._get_request()  # noqa: SLF001
            if request is not None:
                try:
                    await request.accept()
                    await script(Peer(socket, request.path, f"{next(_socket_ids)}.1"))
                except* trio_websocket.ConnectionClosed:
                    pass
            nursery.cancel_scope.cancel()

    return run


async def upgrade(stream: trio.abc.Stream) -> None:
    """Accept an upgrade and leave the stream to the test."""
    async with trio.open_nursery() as nursery:
        request = await trio_websocket.wrap_server_stream(nursery, stream)
        await request.accept()
        nursery.cancel_scope.cancel()


async def work(peer: Peer) -> None:
    """Be a server that works."""
    await peer.enrol()
    await peer.answer_pings()


def closing(code: int, *, say_so: bool = True) -> Script:
    """Make a script that closes with a code, without a greeting."""

    async def script(peer: Peer) -> None:
        if say_so:
            await peer.complain(code)
        await peer.close(code)

    return spoken(script)


async def end_at_once(stream: trio.abc.Stream) -> None:
    """End the connection before the upgrade."""


class FakeAuthorizer:
    """Gives signatures, or what a test wants instead."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.asked: list[str] = []

    async def authorize(self, socket_id: str, channel: str) -> str:
        """Sign, unless a failure is left."""
        assert channel == CHANNEL
        self.asked.append(socket_id)
        await trio.lowlevel.checkpoint()
        if self._failures:
            raise self._failures.pop(0)
        return f"{APP_KEY}:signature-for-{socket_id}"


class Deliveries:
    """Takes what the session delivers."""

    def __init__(self) -> None:
        self.runs: list[tuple[list[ChannelEvent], int]] = []

    def __call__(self, events: Sequence[ChannelEvent], received_at_us: int) -> None:
        """Take a run."""
        self.runs.append((list(events), received_at_us))

    @property
    def events(self) -> list[ChannelEvent]:
        """All events so far."""
        return [event for run, _ in self.runs for event in run]


def _microseconds() -> int:
    return int(trio.current_time() * 1_000_000)


class Stage:
    """A session and all that it plays with."""

    def __init__(
        self,
        server: ScriptedServer,
        authorizer: FakeAuthorizer | None = None,
        deliver: Deliver | None = None,
        *,
        listener: Any = None,
        wall_clock: Callable[[], int] = _microseconds,
        **more: Any,
    ) -> None:
        self.server = server
        self.authorizer = authorizer or FakeAuthorizer()
        self.deliveries = Deliveries()
        self._deliver = deliver or self.deliveries
        self._coverage = Coverage(clock=wall_clock)
        if listener is not None:
            told = listener.subscribed, listener.interrupted
            self._coverage = Coverage(*told, wall_clock)
        self._more = more

    def session(self, settings: Mapping[str, Any], **options: Any) -> Session:
        """Make the session; the options are those of its WebSockets."""
        all_settings = PusherSettings(**{"url": URL, "app_key": APP_KEY, **settings})
        channel = Channel(
            CLIENT_ID,
            all_settings,
            self.authorizer.authorize,
            partial(open_websocket, open_tcp=self.server.open_stream, **options),
            self._deliver,
            self._coverage,
            **self._more,
        )
        return Session(channel, jitter=random.Random(7))


@asynccontextmanager
async def staged(
    *scripts: Script,
    authorizer: FakeAuthorizer | None = None,
    deliver: Deliver | None = None,
    pause: Backpressure = trio.lowlevel.checkpoint_if_cancelled,
    listener: Any = None,
    has_jobs: Callable[[], bool] = lambda: False,
    stalls: Stalls | None = None,
    wall_clock: Callable[[], int] = _microseconds,
    **settings: Any,
) -> AsyncIterator[tuple[Stage, Session]]:
    """Run a session against scripts, in the background."""
    async with trio.open_nursery() as servers:
        stage = Stage(
            ScriptedServer(scripts, servers),
            authorizer,
            deliver,
            listener=listener,
            wall_clock=wall_clock,
            backpressure=pause,
            has_jobs=has_jobs,
            stalls=stalls or Stalls(),
        )
        session = stage.session(settings)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            if stalls is not None:
                nursery.start_soon(stalls.run)
            yield stage, session
            nursery.cancel_scope.cancel()
        servers.cancel_scope.cancel()


async def refusal(*scripts: Script, **settings: Any) -> tuple[RefusedError, Stage]:
    """Run a session that has to be refused."""
    async with trio.open_nursery() as servers:
        stage = Stage(ScriptedServer(scripts, servers))
        with pytest.raises(RefusedError) as caught:
            await stage.session(settings).run()
        servers.cancel_scope.cancel()
    return caught.value, stage
