"""
The Pusher endpoint at `/app/{key}`, with soketi's habits.

A connection has a reader and a writer; what it is sent waits in a queue with an end,
and past that end frames are dropped silently, as soketi does to slow readers. Messages
are built in `frames`.
"""

from __future__ import annotations

import math
import random
import socket
import struct
from collections import deque
from typing import Literal, Protocol

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
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from bridge.sandbox import frames
from bridge.sandbox.config import SandboxConfig, Statistics, equal


__all__ = [
    "LINGER_SECONDS",
    "Channels",
    "Connection",
    "Endpoint",
    "Refusal",
    "SocketFaults",
    "Subscriber",
    "reset_when_closed",
]


class Subscriber(Protocol):
    """One connection, as far as channels know it."""

    socket_id: str

    def offer(self, frame: bytes) -> None:
        """Take a frame to send, or drop it: never wait, never raise."""


class Channels:
    """The channels of the sandbox's own endpoint; empty ones are forgotten."""

    def __init__(self) -> None:
        self._subscribers: dict[str, dict[str, Subscriber]] = {}
        self._changed = trio.Event()

    def subscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Add a subscriber; adding it again changes nothing."""
        self._subscribers.setdefault(channel, {})[subscriber.socket_id] = subscriber
        self._changed.set()
        self._changed = trio.Event()

    def unsubscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Remove a subscriber if it is there."""
        subscribers = self._subscribers.get(channel, {})
        subscribers.pop(subscriber.socket_id, None)
        if not subscribers:
            self._subscribers.pop(channel, None)

    def count(self, channel: str) -> int:
        """Say how many are subscribed."""
        return len(self._subscribers.get(channel, ()))

    def publish(self, channel: str, frame: bytes, *, exclude: str | None = None) -> int:
        """
        Offer a frame to every subscriber of a channel.

        Args:
            channel: The channel's name.
            frame: The event, ready for the wire.
            exclude: The socket id of the publisher, who doesn't get it.

        Returns:
            To how many it was offered.
        """
        offered = 0
        for socket_id, subscriber in self._subscribers.get(channel, {}).items():
            if socket_id != exclude:
                subscriber.offer(frame)
                offered += 1
        return offered

    async def wait_for_subscriber(self, channel: str) -> None:
        """Return when the channel has a subscriber: no deadline, it may never."""
        while not self.count(channel):
            await self._changed.wait()


# How a new connection is turned away: the upgrade is answered with 503, the
# connection is reset, or `pusher:error` 4200 follows the upgrade.
Refusal = Literal["http", "reset", "error"]


class SocketFaults:
    """Whether new WebSocket connections are turned away."""

    def __init__(self) -> None:
        self._until = -math.inf
        self._by: Refusal = "http"

    def refuse(self, seconds: float, by: Refusal) -> None:
        """Turn away for so long from now on; 0 ends it."""
        self._until, self._by = trio.current_time() + seconds, by

    def refusal(self) -> Refusal | None:
        """Say how a connection that comes now is turned away; None lets it in."""
        return self._by if trio.current_time() < self._until else None


# soketi ends a connection to which it has sent no message for so long; what the
# client sends doesn't count (measured with 1.6.1).
_IDLE_SECONDS = 120.0
# uWebSockets' maxBackpressure in soketi.
_MAX_QUEUED_BYTES = 1024 * 1024
# No client of this protocol has more to say: an authorised subscription is 200
# bytes, a client event 10 KB.
_MAX_MESSAGE_BYTES = 1024 * 1024
# How long a closed connection waits for the other side's end.
LINGER_SECONDS = 2.0
# Small enough that the queue's length is true, large enough to save calls.
_WRITE_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024

_NO_BODY = b"Content-Length: 0\r\nConnection: close\r\n\r\n"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\n" + _NO_BODY
# What a proxy says while the server behind it is away.
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\n" + _NO_BODY

_log = structlog.get_logger("bridge.sandbox")


class Connection:
    """
    One client's connection.

    Attributes:
        socket_id: Two numbers, as soketi makes them.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        config: SandboxConfig,
        channels: Channels,
        statistics: Statistics,
    ) -> None:
        self.socket_id = f"{random.randrange(10**10)}.{random.randrange(10**10)}"
        self._stream = stream
        self._config = config
        self._channels = channels
        self._statistics = statistics
        self._websocket = WSConnection(ConnectionType.SERVER)
        self._parts = bytearray()
        self._subscriptions: set[str] = set()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = trio.Event()
        self._closing = False
        self._dropping = False
        self._idle_at = trio.current_time() + _IDLE_SECONDS
        self._scope = trio.CancelScope()

    async def accept(
        self, scope: Scope, data: bytes, *, is_allowed: bool = True
    ) -> str | None:
        """
        Accept the upgrade; at another path, or what is no upgrade, gets 404.

        Returns:
            The app key that was asked for, or None if there is no connection.
        """
        key = scope["path"].removeprefix("/app/")
        if not scope["path"].startswith("/app/") or not key or "/" in key:
            await self._turn_away(_NOT_FOUND)
            return None
        if not is_allowed:
            await self._turn_away(_UNAVAILABLE)
            return None
        try:
            path = scope["raw_path"].decode()
            self._websocket.initiate_upgrade_connection(scope["headers"], path)
            list(self._websocket.events())
            # Without extensions: soketi agrees on no compression either.
            await self._stream.send_all(self._websocket.send(AcceptConnection()))
            self._websocket.receive_data(data)
        except RemoteProtocolError:
            await self._turn_away(_NOT_FOUND)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        else:
            return str(key)
        return None

    async def _turn_away(self, answer: bytes) -> None:
        try:
            await self._stream.send_all(answer)
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def offer(self, frame: bytes) -> None:
        """Queue a message, or drop and count it if the client reads too slowly."""
        self._idle_at = trio.current_time() + _IDLE_SECONDS
        self._enqueue(frame)

    def _enqueue(self, frame: bytes) -> None:
        if self._closing:
            return
        if self._queued_bytes > _MAX_QUEUED_BYTES:
            self._statistics.frames_dropped += 1
            self._statistics.bytes_dropped += len(frame)
            if not self._dropping:
                self._dropping = True
                _log.warning("sandbox.slow_reader", socket_id=self.socket_id)
            return
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._wake.set()

    def refuse(self, code: int, message: str) -> None:
        """Send `pusher:error`, then close with its code."""
        self.offer(frames.error(code, message))
        self.close(code)

    def close(self, code: int) -> None:
        """Close once everything queued is sent; soketi gives no reason."""
        if self._closing:
            return
        try:
            frame = self._websocket.send(CloseConnection(code=code, reason=""))
        except LocalProtocolError:
            frame = b""  # The client has closed already.
        self._finish(frame)

    def reset(self) -> None:
        """End it by a TCP reset: what is queued or under way is lost."""
        reset_when_closed(self._stream)
        self._closing = True
        self._scope.cancel()

    def _finish(self, frame: bytes) -> None:
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Read and write until either side has ended the connection."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    self._scope.cancel()
        finally:
            for channel in tuple(self._subscriptions):
                self._leave(channel)

    async def _write(self) -> None:
        try:
            while True:
                batch = self._next_batch()
                if batch:
                    # A reader that takes nothing for so long is gone; soketi ends
                    # it without a close frame as well.
                    with trio.fail_after(_IDLE_SECONDS):
                        await self._stream.send_all(batch)
                    self._queued_bytes -= len(batch)
                elif self._closing:
                    await self._stream.send_eof()
                    await trio.sleep(LINGER_SECONDS)
                    return
                elif trio.current_time() >= self._idle_at:
                    self.close(4201)
                else:
                    self._wake = trio.Event()
                    with trio.move_on_at(self._idle_at):
                        await self._wake.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # The client is gone: nobody is left to tell.
        finally:
            self._scope.cancel()

    def _next_batch(self) -> bytes:
        batch: list[bytes] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0]) < _WRITE_BYTES):
            batch.append(self._queue.popleft())
            size += len(batch[-1])
        return b"".join(batch)

    async def _read(self) -> None:
        if not self._take_events():
            return
        try:
            while data := await self._stream.receive_some(_READ_BYTES):
                if not self._closing:
                    self._websocket.receive_data(bytes(data))
                    if not self._take_events():
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # An end without close frame is an end too.

    def _take_events(self) -> bool:
        # False once the connection must end at once, without a close frame.
        for event in self._websocket.events():
            if isinstance(event, TextMessage | BytesMessage):
                self._take_part(event)
            elif isinstance(event, Ping):
                # No message of Pusher's: the idle clock runs on.
                self._enqueue(self._websocket.send(event.response()))
            elif isinstance(event, CloseConnection):
                if self._websocket.state is not ConnectionState.REMOTE_CLOSING:
                    return False  # A broken frame, text that is no UTF-8.
                self._finish(self._websocket.send(event.response()))
            if self._closing:
                break
        return True

    def _take_part(self, event: TextMessage | BytesMessage) -> None:
        data = event.data
        self._parts += data.encode() if isinstance(data, str) else data
        if len(self._parts) > _MAX_MESSAGE_BYTES:
            self.close(1009)
        elif event.message_finished:
            text = self._parts.decode("utf-8", "replace")
            self._parts.clear()
            self._handle(text)

    def _handle(self, text: str) -> None:
        message = frames.parse(text)
        if message is None:
            return
        data = message.data if isinstance(message.data, dict) else {}
        channel = data.get("channel")
        if message.event == "pusher:ping":
            self.offer(frames.pong())
        elif message.event == "pusher:subscribe" and isinstance(channel, str):
            self._subscribe(channel, data.get("auth"))
        elif message.event == "pusher:unsubscribe" and isinstance(channel, str):
            self._leave(channel)
        elif message.event.startswith("client-"):
            text = "The app does not have client messaging enabled."
            self.offer(frames.error(4301, text, channel=message.channel))

    def _subscribe(self, channel: str, auth: object) -> None:
        fault = frames.channel_name_fault(channel)
        if fault is not None:
            self.offer(frames.subscription_error(channel, fault))
        elif not self._may_subscribe(channel, auth):
            _log.warning("sandbox.subscription_refused", channel=channel)
            self.offer(frames.unauthorized(channel))
        else:
            if channel not in self._subscriptions:
                self._subscriptions.add(channel)
                self._statistics.subscriptions += 1
                _log.info(
                    "sandbox.subscribed", socket_id=self.socket_id, channel=channel
                )
            # Again for a channel that it has already: soketi answers each time.
            self.offer(frames.subscription_succeeded(channel))
            self._channels.subscribe(channel, self)

    def _may_subscribe(self, channel: str, auth: object) -> bool:
        if channel.startswith("presence-"):
            return False  # dryAPI has none.
        if not channel.startswith("private-"):
            return True
        expected = self._config.app.channel_auth(self.socket_id, channel)
        return isinstance(auth, str) and equal(auth, expected)

    def _leave(self, channel: str) -> None:
        if channel in self._subscriptions:
            self._subscriptions.discard(channel)
            self._statistics.subscriptions -= 1
            self._channels.unsubscribe(channel, self)


def reset_when_closed(stream: trio.abc.HalfCloseableStream) -> None:
    """Let a stream's close be a TCP reset."""
    # Tests' streams in memory have no socket; their end is an end all the same.
    if isinstance(stream, trio.SocketStream):
        # On, and no seconds to linger: the kernel sends a reset.
        linger = struct.pack("ii", 1, 0)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


# uWebSockets gives a request this long to arrive.
_HANDSHAKE_SECONDS = 10.0


class Endpoint:
    """
    Every connection at `/app/{key}`.

    Attributes:
        faults: Whether new ones are turned away.
    """

    def __init__(
        self, config: SandboxConfig, channels: Channels, statistics: Statistics
    ) -> None:
        self.faults = SocketFaults()
        self._config = config
        self._channels = channels
        self._statistics = statistics
        self._connections: set[Connection] = set()
        self._stopping = False
        self._gone = trio.Event()

    async def serve(self, scope: Scope, stream: trio.abc.Stream, data: bytes) -> None:
        """Serve one client to its end; see `bridge.http.server.Upgrade`."""
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        refusal = self.faults.refusal()
        self._statistics.connections_refused += refusal is not None
        if refusal == "reset":
            reset_when_closed(stream)
            return
        connection = Connection(stream, self._config, self._channels, self._statistics)
        with trio.move_on_after(_HANDSHAKE_SECONDS) as patience:
            path = await connection.accept(scope, data, is_allowed=refusal != "http")
        if patience.cancelled_caught or path is None:
            return
        self._connections.add(connection)
        self._statistics.connections += 1
        self._statistics.connections_total += 1
        try:
            if self._stopping or refusal is not None:
                connection.refuse(4200, "Server closed. Please reconnect shortly.")
            elif path != self._config.app_key:
                connection.refuse(4001, f"App key {path} does not exist.")
            else:
                connection.offer(frames.established(connection.socket_id))
            await connection.run()
        finally:
            self._statistics.connections -= 1
            self._connections.discard(connection)
            self._check_gone()

    def drop(self, code: int | None, message: str | None) -> int:
        """
        End every connection now.

        Args:
            code: What the close frame says; None ends without one, by a reset that
                loses what is under way.
            message: What a `pusher:error` before the close frame says; None for none.

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
        """Send every client away with 4200 and wait until they are gone."""
        self._stopping = True
        for connection in self._connections:
            connection.refuse(4200, "Server closed. Please reconnect shortly.")
        self._check_gone()
        with trio.move_on_after(LINGER_SECONDS):
            await self._gone.wait()

    def _check_gone(self) -> None:
        if self._stopping and not self._connections:
            self._gone.set()
