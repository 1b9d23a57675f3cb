"""
The Pusher endpoint at `/app/{key}`: protocol 7 as soketi 1.6.1 speaks it.

A connection has a reader and a writer. What it is sent waits in a bounded queue, and
beyond the bound messages are dropped silently, as soketi does to slow readers.
"""

from __future__ import annotations

import math
import random
import re
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import msgspec
import structlog
import trio
from starlette.types import Scope
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from bridge.sandbox.config import EVENT_NAME, SandboxConfig, Statistics, equal
from bridge.sandbox.simulation import Emission


__all__ = ["Endpoint", "Refusal"]

# How a new connection is refused: the upgrade is answered with 503, the connection is
# reset, or `pusher:error` 4200 follows the upgrade.
Refusal = Literal["http", "reset", "error"]

# soketi's default: a client must send something within this time.
_ACTIVITY_SECONDS = 30
# soketi closes a connection to which it has sent no message for this long; what the
# client sends doesn't count (measured with 1.6.1).
_IDLE_SECONDS = 120.0
# uWebSockets' maxBackpressure in soketi.
_MAX_QUEUED_BYTES = 1024 * 1024
# No client of this protocol sends more: an authorized subscription has 200 bytes, a
# client event 10 KB.
_MAX_MESSAGE_BYTES = 1024 * 1024
# How long a closed connection waits for the client to end it.
_LINGER_SECONDS = 2.0
_CHUNK_BYTES = 64 * 1024

# The characters that Pusher allows, and soketi's eventLimits.maxNameLength.
_CHANNEL_NAME = re.compile(r"[-a-zA-Z0-9_=@,.;]{1,200}")

_RESTART = "Server closed. Please reconnect shortly."

# Ends without a close frame.
_ENDS = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)

_log = structlog.get_logger("bridge.sandbox")


class _Message(msgspec.Struct):
    # In soketi's order; what is unset is left out.
    event: str
    channel: str | msgspec.UnsetType | None = msgspec.UNSET
    data: Any = msgspec.UNSET


def _encode(
    event: str, data: object, channel: str | msgspec.UnsetType | None = msgspec.UNSET
) -> str:
    return msgspec.json.encode(_Message(event, channel, data)).decode()


class _Connection:
    """One client's connection, from the upgrade to its end."""

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        config: SandboxConfig,
        statistics: Statistics,
        subscribed: trio.Event,
    ) -> None:
        self.channels: set[str] = set()
        # Two numbers, as soketi makes them.
        self._socket_id = f"{random.randrange(10**10)}.{random.randrange(10**10)}"
        self._stream = stream
        self._config = config
        self._statistics = statistics
        self._subscribed = subscribed
        self._websocket = WSConnection(ConnectionType.SERVER)
        self._received = bytearray()
        self._queue = bytearray()
        self._wake = trio.Event()
        self._closing = False
        self._idle_at = trio.current_time() + _IDLE_SECONDS
        self._scope = trio.CancelScope()

    def accept(self, scope: Scope, data: bytes, refused: int | None) -> bool:
        """Answer the upgrade, or refuse it with a status."""
        websocket = self._websocket
        answer: AcceptConnection | RejectConnection = AcceptConnection()
        if refused is not None:
            answer = RejectConnection(status_code=refused)
        try:
            path = scope["raw_path"].decode()
            websocket.initiate_upgrade_connection(scope["headers"], path)
        except RemoteProtocolError:
            answer = RejectConnection(status_code=400)
        # Without extensions: soketi agrees on no compression either.
        self._queue += websocket.send(answer)
        if isinstance(answer, AcceptConnection):
            list(websocket.events())  # the request
            websocket.receive_data(data)
            return True
        self._closing = True
        return False

    def greet(self) -> None:
        """Send the first message of a connection; its `data` is a JSON string."""
        about = {"socket_id": self._socket_id, "activity_timeout": _ACTIVITY_SECONDS}
        text = msgspec.json.encode(about).decode()
        self.offer(_encode("pusher:connection_established", text))

    def offer(self, text: str) -> None:
        """Queue a message, or drop and count it if the client reads too slowly."""
        self._idle_at = trio.current_time() + _IDLE_SECONDS
        if self._closing:
            return
        if len(self._queue) <= _MAX_QUEUED_BYTES:
            self._enqueue(self._websocket.send(TextMessage(text)))
        else:
            self._statistics.frames_dropped += 1
            self._statistics.bytes_dropped += len(text)

    def _enqueue(self, data: bytes) -> None:
        self._queue += data
        self._wake.set()

    def refuse(self, code: int, message: str) -> None:
        """Send `pusher:error`, then close with its code."""
        # soketi's `data` is an object here, not a string.
        self.offer(_encode("pusher:error", {"code": code, "message": message}))
        self.close(code)

    def close(self, code: int) -> None:
        """Close once everything queued is sent; soketi gives no reason."""
        if not self._closing:
            self._finish(CloseConnection(code=code, reason=""))

    def _finish(self, close: CloseConnection) -> None:
        self._closing = True
        with suppress(LocalProtocolError):  # The client has closed already.
            self._enqueue(self._websocket.send(close))

    def reset(self) -> None:
        """End it by a TCP reset: what is queued or in flight is lost."""
        _reset_when_closed(self._stream)
        self._closing = True
        self._scope.cancel()

    async def run(self) -> None:
        """Read and write until either side has ended the connection."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    self._scope.cancel()
        finally:
            self._statistics.subscriptions -= len(self.channels)

    async def _write(self) -> None:
        with suppress(*_ENDS):
            while True:
                self._wake = trio.Event()
                while self._queue:
                    chunk = bytes(self._queue[:_CHUNK_BYTES])
                    # A client that reads nothing for this long is gone; soketi ends
                    # it without a close frame as well.
                    with trio.fail_after(_IDLE_SECONDS):
                        await self._stream.send_all(chunk)
                    del self._queue[: len(chunk)]
                if self._closing:
                    break
                with trio.move_on_at(self._idle_at):
                    await self._wake.wait()
                if trio.current_time() >= self._idle_at:
                    self.close(4201)
            await self._stream.send_eof()
            await trio.sleep(_LINGER_SECONDS)
        self._scope.cancel()

    async def _read(self) -> None:
        with suppress(*_ENDS):
            while self._closing or self._take_events():
                data = await self._stream.receive_some(_CHUNK_BYTES)
                if not data:
                    return
                if not self._closing:
                    self._websocket.receive_data(bytes(data))

    def _take_events(self) -> bool:
        """Handle what was received; False if the connection must end at once."""
        for event in self._websocket.events():
            if isinstance(event, TextMessage | BytesMessage):
                self._take_part(event)
            elif isinstance(event, Ping):
                # Not a message of the protocol: the connection stays idle.
                self._enqueue(self._websocket.send(event.response()))
            elif isinstance(event, CloseConnection):
                if self._websocket.state is not ConnectionState.REMOTE_CLOSING:
                    return False  # A broken frame, or text that isn't UTF-8.
                self._finish(event.response())
            if self._closing:
                break
        return True

    def _take_part(self, event: TextMessage | BytesMessage) -> None:
        data = event.data
        self._received += data.encode() if isinstance(data, str) else data
        if len(self._received) > _MAX_MESSAGE_BYTES:
            self.close(1009)
        elif event.message_finished:
            # soketi ignores what it can't read.
            with suppress(msgspec.DecodeError, RecursionError, UnicodeError):
                self._handle(msgspec.json.decode(self._received, type=_Message))
            self._received.clear()

    def _handle(self, message: _Message) -> None:
        data = message.data if isinstance(message.data, dict) else {}
        channel = data.get("channel")
        if message.event == "pusher:ping":
            self.offer(_encode("pusher:pong", {}))
        elif message.event == "pusher:subscribe" and isinstance(channel, str):
            self._subscribe(channel, data.get("auth"))
        elif message.event == "pusher:unsubscribe" and isinstance(channel, str):
            self._statistics.subscriptions -= channel in self.channels
            self.channels.discard(channel)
        elif message.event.startswith("client-"):
            text = "The app does not have client messaging enabled."
            error = {"code": 4301, "message": text}
            self.offer(_encode("pusher:error", error, message.channel))

    def _subscribe(self, channel: str, auth: object) -> None:
        fault = self._fault(channel, auth)
        if fault is not None:
            _log.warning("sandbox.subscription_refused", channel=channel)
            self.offer(_encode("pusher:subscription_error", fault, channel))
            return
        if channel not in self.channels:
            self.channels.add(channel)
            self._statistics.subscriptions += 1
            _log.info("sandbox.subscribed", socket_id=self._socket_id, channel=channel)
        # For one that it has already: soketi answers each time, without `data`.
        succeeded = "pusher_internal:subscription_succeeded"
        self.offer(_encode(succeeded, msgspec.UNSET, channel))
        if channel == self._config.channel:
            self._subscribed.set()

    def _fault(self, channel: str, auth: object) -> dict[str, Any] | None:
        """Say why a subscription is refused, as soketi does."""
        if not _CHANNEL_NAME.fullmatch(channel):
            return {"error": "The channel name is not allowed.", "status": 4009}
        if not channel.startswith(("private-", "presence-")):
            return None
        expected = self._config.app.channel_auth(self._socket_id, channel)
        # dryAPI has no presence channels.
        is_private = channel.startswith("private-")
        if is_private and isinstance(auth, str) and equal(auth, expected):
            return None
        text = "The connection is unauthorized."
        return {"type": "AuthError", "error": text, "status": 401}


def _reset_when_closed(stream: trio.abc.HalfCloseableStream) -> None:
    # Streams in memory have no socket.
    if isinstance(stream, trio.SocketStream):
        # On, and no seconds to linger: the kernel sends a reset.
        linger = struct.pack("ii", 1, 0)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


class Endpoint:
    """All connections at `/app/{key}`; it publishes the simulation's events to them."""

    def __init__(self, config: SandboxConfig, statistics: Statistics) -> None:
        self._config = config
        self._statistics = statistics
        self._connections: set[_Connection] = set()
        self._subscribed = trio.Event()
        self._refusal: Refusal = "http"
        self._refuses_until = -math.inf
        self._stopping = False
        self._gone = trio.Event()

    async def wait_for_subscriber(self) -> None:
        """Wait until the channel has had a subscriber: no deadline, it may never."""
        await self._subscribed.wait()

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """Offer events to the channel's subscribers."""
        channel = self._config.channel
        for emission in emissions:
            text = _encode(EVENT_NAME, emission.data, channel)
            for connection in self._connections:
                if channel in connection.channels:
                    connection.offer(text)
            self._statistics.accepted(emission.status)
        # The connections' writers run now, before their queues grow long.
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Return: there is no other server."""

    async def serve(self, scope: Scope, stream: trio.abc.Stream, data: bytes) -> None:
        """Serve one client to its end; see `bridge.http.server.Upgrade`."""
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        statistics = self._statistics
        is_refused = trio.current_time() < self._refuses_until
        refusal = self._refusal if is_refused else None
        statistics.connections_refused += is_refused
        if refusal == "reset":
            _reset_when_closed(stream)
            return
        connection = _Connection(stream, self._config, statistics, self._subscribed)
        key = scope["path"].removeprefix("/app/")
        status = 503 if refusal == "http" else None
        if not scope["path"].startswith("/app/") or not key or "/" in key:
            status = 404
        if not connection.accept(scope, data, status):
            await connection.run()
            return
        self._connections.add(connection)
        statistics.connections += 1
        statistics.connections_total += 1
        try:
            if self._stopping or is_refused:
                connection.refuse(4200, _RESTART)
            elif key != self._config.app_key:
                connection.refuse(4001, f"App key {key} does not exist.")
            else:
                connection.greet()
            await connection.run()
        finally:
            statistics.connections -= 1
            self._connections.remove(connection)
            if not self._connections:
                self._gone.set()

    def refuse(self, seconds: float, by: Refusal) -> None:
        """Refuse new connections from now on; 0 seconds ends it."""
        self._refuses_until, self._refusal = trio.current_time() + seconds, by

    def drop(self, code: int | None, message: str | None) -> int:
        """
        End every connection now.

        Args:
            code: The close frame's code; None resets the connections instead.
            message: A `pusher:error` before the close frame; None for none.

        Returns:
            How many were ended.
        """
        for connection in self._connections:
            if code is None:
                connection.reset()
            elif message is None:
                connection.close(code)
            else:
                connection.refuse(code, message)
        return len(self._connections)

    async def stop(self) -> None:
        """Close every connection as soketi does on SIGTERM, and wait for their end."""
        self._stopping = True
        self._gone = trio.Event()
        self.drop(4200, _RESTART)
        with trio.move_on_after(_LINGER_SECONDS):
            if self._connections:
                await self._gone.wait()
