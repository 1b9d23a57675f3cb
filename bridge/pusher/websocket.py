"""
The WebSocket: the only module that imports trio_websocket.

It upgrades a stream, delivers every message in the task that reads it (see `frames`),
and closes. Each error of trio_websocket becomes one of ours, with a message that names
host and port. The content of messages is not looked at.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import SplitResult, urlsplit

import h11
import trio
import trio_websocket  # noqa: TID251 - this is the module that may
from wsproto.utilities import ProtocolError as WebSocketProtocolError

from bridge import __version__
from bridge.errors import (
    ConnectError,
    ConnectionLostError,
    MessageTooLargeError,
    SessionError,
)
from bridge.http.streams import OpenTcp, address_of, open_stream
from bridge.pusher.frames import (
    NOT_A_WEBSOCKET,
    RECEIVE_BYTES,
    Backpressure,
    Lingering,
    Message,
    Receive,
    TextFrames,
)


__all__ = ["Backpressure", "Message", "Receive", "WebSocket", "open_websocket"]

# soketi was measured to send messages of 15 MB.
_MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024

# How long a close handshake may take: an answer is one round trip, and nothing
# depends on it.
_CLOSE_SECONDS: Final = 1.0

# RFC 6455 section 7.4.1: what trio_websocket reports for a message above the limit,
# and for an end without a close frame.
_TOO_LARGE_CODE: Final = 1009
_ABNORMAL_CODE: Final = 1006


class WebSocket:
    """An open WebSocket: it can be written to; what is read is delivered."""

    def __init__(
        self, frames: TextFrames, url: SplitResult, max_message_bytes: int
    ) -> None:
        self._frames = frames
        self._url = url
        self._address = address_of(url)
        self._max_message_bytes = max_message_bytes
        self._connection: trio_websocket.WebSocketConnection | None = None
        self._aborted = False

    async def send(self, text: str) -> None:
        """
        Send a text message. A cancelled send leaves the connection unusable.

        Raises:
            ConnectionLostError: The connection ended.
        """
        assert self._connection is not None
        try:
            await self._connection.send_message(text)
        except (trio_websocket.ConnectionClosed, WebSocketProtocolError) as error:
            raise self._loss() from error

    def abort(self) -> None:
        """Abandon the connection: leaving it doesn't wait for a close handshake."""
        self._aborted = True

    async def run(self, opened: trio.Event, everything: trio.CancelScope) -> None:
        """Upgrade and read until the connection ends, and then cancel everything."""
        url, frames = self._url, self._frames
        host = self._address if url.port else self._address.rpartition(":")[0]
        path = url.path or "/"
        agent = f"dryapi-kafka-bridge/{__version__}".encode()
        try:
            with frames.reading:
                async with trio.open_nursery() as nursery:
                    self._connection = await trio_websocket.wrap_client_stream(
                        nursery,
                        frames,  # type: ignore[arg-type] # "arbitrary stream"
                        host,
                        f"{path}?{url.query}" if url.query else path,
                        extra_headers=[(b"User-Agent", agent)],
                        max_message_size=self._max_message_bytes,
                        receive_buffer_size=RECEIVE_BYTES,
                    )
                    # A close handshake needs the reader, also when the connection's
                    # user is cancelled; `leave` ends it.
                    frames.reading.shield = True
                    opened.set()
                    with suppress(trio_websocket.ConnectionClosed):
                        while True:
                            frames.deliver((await self._connection.get_message(),))
                    if not frames.is_closing:
                        nursery.cancel_scope.cancel()
        except* (WebSocketProtocolError, h11.ProtocolError, trio.BrokenResourceError):
            # The server broke the protocol: see `_loss`. Or `frames` has the reason.
            pass
        finally:
            # Without its reader a close handshake can't be answered.
            self.abort()
        if not frames.is_closing:
            frames.failure = frames.failure or self._loss()
            everything.cancel()

    async def leave(self) -> None:
        """Close it if it is open, whether or not the caller is being cancelled."""
        self._frames.is_closing = True
        if self._connection is not None and not self._aborted:
            with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._connection.aclose()
        self._frames.reading.cancel()

    def _loss(self) -> SessionError:
        """Report how the connection ended."""
        address = self._address
        if self._connection is None:
            return ConnectError(f"{address} {NOT_A_WEBSOCKET}")
        closed = self._connection.closed
        # A server that closes with it would mean our messages, of some hundred bytes.
        if closed is not None and closed.code == _TOO_LARGE_CODE:
            return MessageTooLargeError(
                f"{address} sent a message above {self._max_message_bytes} bytes",
                code=_TOO_LARGE_CODE,
            )
        if closed is None or closed.code == _ABNORMAL_CODE:
            return ConnectionLostError(f"the connection to {address} broke")
        # The server's text, for the log: printable and short.
        reason = f": {closed.reason[:200]!r}" if closed.reason else ""
        return ConnectionLostError(
            f"{address} closed the connection{reason}", code=closed.code
        )


@asynccontextmanager
async def open_websocket(  # noqa: PLR0913 - what has a default is a seam or an extra
    url: str,
    receive: Receive,
    backpressure: Backpressure = trio.lowlevel.checkpoint_if_cancelled,
    *,
    max_message_bytes: int = _MAX_MESSAGE_BYTES,
    linger_seconds: float = 0.0,
    tls: ssl.SSLContext | None = None,
    open_tcp: OpenTcp = trio.open_tcp_stream,
) -> AsyncIterator[WebSocket]:
    """
    Open a WebSocket, deliver what is read, and close it on the way out.

    When the connection ends by itself, the body is cancelled and the context manager
    raises `ConnectionLostError`, after everything that came before was delivered. The
    caller sets the deadline: every step can be cancelled. A message of more than
    `max_message_bytes` characters ends the connection with code 1009. Reads are
    `linger_seconds` apart while packets follow one another.

    Raises:
        ConnectError: No connection could be made; the message says why.
        ConnectionLostError: The connection ended by itself; `MessageTooLargeError`
            if it ended because of a message above the limit.
    """
    parts = urlsplit(url)

    async def open_lingering(host: str, port: int) -> trio.abc.Stream:
        stream = await open_tcp(host, port)
        return Lingering(stream, linger_seconds) if linger_seconds else stream

    stream = await open_stream(parts, tls, open_lingering)
    address = address_of(parts)
    frames = TextFrames(stream, address, receive, backpressure, max_message_bytes)
    websocket = WebSocket(frames, parts, max_message_bytes)
    opened = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.run, opened, nursery.cancel_scope)
            try:
                await opened.wait()
                yield websocket
            except SessionError as error:
                # Raised below, outside the nursery, which would wrap it. What ended the
                # reading came first: the user may only have seen a broken connection.
                frames.failure = frames.failure or error
            finally:
                await websocket.leave()
    finally:
        await trio.aclose_forcefully(stream)
    if frames.failure is not None:
        raise frames.failure
