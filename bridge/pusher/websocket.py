"""
The WebSocket: the only module that speaks to trio_websocket.

It upgrades a transport, gives its messages in runs, and turns every error of
trio_websocket into one of ours with a sentence that names host and port. What a
message says is not looked at here.

**Runs.** trio_websocket calls a coroutine for each message and hands it through a
memory channel whose two ends are checkpoints; wsproto makes six objects of its frame.
One read of the socket often brings hundreds of messages. So `Frames` stands in the
place of wsproto's connection and takes whole text messages from the bytes by itself,
and `Inbox` in that of the channel: what is put there wakes whoever waits only if
somebody does. `receive_run` then gives all that has come. A small message costs a
fifteenth of what it does with trio_websocket alone (benchmarks/README.md). All other
frames, and the connection's whole life, are trio_websocket's as ever.

This stands on names that trio_websocket keeps to itself (`_Socket` below lists them);
pyproject.toml pins the release, and every test of a session on the wire fails if one of
them moves.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias, cast
from urllib.parse import SplitResult, urlsplit

import h11
import trio
import trio_websocket  # noqa: TID251 - this is the module that may
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    RejectConnection,
    TextMessage,
)
from wsproto.utilities import ProtocolError as _WebSocketError

from bridge import __version__
from bridge.errors import (
    ConnectError,
    ConnectionLostError,
    MessageTooLargeError,
    SessionError,
)
from bridge.pusher.frames import Frames
from bridge.pusher.inbox import Inbox, Message
from bridge.pusher.transport import OpenStream, open_transport, place_of


__all__ = ["Connect", "Connection", "Message", "connect_websocket"]

# trio_websocket reads 4 KiB at a time by default. With 128 KiB a firehose of small
# messages needs a thirtieth of the reads, and most previews come in one; with 64 KiB
# those of 90 KB cost a third more, with 256 KiB nothing less.
_RECEIVE_BUFFER_BYTES: Final = 131_072

# Parts of one message that wait for its end: fragments, and what one read brought
# of them. Each costs some 80 bytes, however little it holds, and the cap counts
# characters only; so when there are as many as this, they are made one. A message
# of 16 MiB in packets of 1,400 bytes is joined three times on its way.
_MOST_PARTS: Final = 4096

# How long a close handshake may take: an answer is one round trip, and nothing
# depends on it.
_CLOSE_SECONDS: Final = 1.0

# RFC 6455 section 7.4.1: what trio_websocket notes for a message above its cap,
# and for an end without close frame.
_TOO_LARGE_CODE: Final = 1009
_ABNORMAL_CODE: Final = 1006

# What trio_websocket's reader lets through: wsproto refuses what the server sent,
# or to answer a ping while the close handshake is under way; h11 refuses to
# answer an answer that is no HTTP; bytes in a header are no text.
_READER_ERRORS: Final = (
    trio_websocket.ConnectionClosed,
    _WebSocketError,
    h11.ProtocolError,
    ValueError,
)


class Connection(Protocol):
    """
    An open WebSocket.

    Whoever opened it leaves it through its context manager, which closes it:
    politely if it is still open, and within a second whatever happens.
    """

    async def ready(self) -> int:
        """
        Wait until there are messages, or the connection has ended.

        Returns:
            About how many characters wait; 0 at the end.
        """
        ...

    def take_run(self) -> list[Message]:
        """
        Give the messages that `ready` has waited for.

        Returns:
            All that have come, in order, at least one: str for text messages,
            bytes for binary ones.

        Raises:
            ConnectionLostError: The connection ended, and everything that came
                before has been given out. `MessageTooLargeError` if it ended
                because of a message above the cap.
        """
        ...

    async def receive_run(self) -> list[Message]:
        """Wait for messages and take them: see `take_run`."""
        ...

    async def send(self, text: str) -> None:
        """
        Send a text message. A cancelled send leaves the connection unusable.

        Args:
            text: The message.

        Raises:
            ConnectionLostError: The connection ended.
        """
        ...

    async def aclose(self, code: int = 1000) -> None:
        """
        Close with a handshake, or without one after a second.

        `take_run` and `send` raise from now on.

        Args:
            code: The close code that the server gets.
        """
        ...

    def abort(self) -> None:
        """Give the connection up: leaving it will not wait for an answer."""
        ...


Connect: TypeAlias = Callable[[str], AbstractAsyncContextManager[Connection]]


@asynccontextmanager
async def connect_websocket(
    url: str,
    *,
    max_message_bytes: int,
    tls: ssl.SSLContext | None = None,
    open_stream: OpenStream = trio.open_tcp_stream,
) -> AsyncIterator[Connection]:
    """
    Open a WebSocket and close it on the way out.

    The caller sets the deadline: every step can be cancelled. Errors of the
    body that are `SessionError` pass as they are, not in a group.

    Args:
        url: Address to connect to, `ws://` or `wss://`.
        max_message_bytes: The largest message, in characters; a larger one
            ends the connection with code 1009.
        tls: Context for `wss://`; the system's certificates if None.
        open_stream: Opens the transport to a host and a port.

    Yields:
        The open connection.

    Raises:
        ConnectError: No connection came about; the message says why.
    """
    parts = urlsplit(url)
    stream = await open_transport(parts, tls, open_stream)
    try:
        socket_ = _Socket(stream, parts, max_message_bytes)
        failure: SessionError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket_.read)
            try:
                await socket_.settled.wait()
                if socket_.opened:
                    connection = _Connection(socket_)
                    try:
                        yield connection
                    finally:
                        await connection.leave()
                else:
                    failure = socket_.refusal()
            except SessionError as error:
                # Raised below, outside the nursery, which would wrap it.
                failure = error
            finally:
                socket_.reading.cancel()
        if failure is not None:
            raise failure
    finally:
        await trio.aclose_forcefully(stream)


class _Socket(trio_websocket.WebSocketConnection):
    """
    trio_websocket's connection, with a shorter way for messages and ends of its own.

    It stands on these names of trio_websocket 0.12: `_send_channel` and
    `_recv_channel` (replaced), `_reader_task` (run by `read`), `_open_handshake`
    and `_close_handshake` (events), `_handle_accept_connection_event`,
    `_handle_reject_connection_event` and `_handle_message_event` (overridden),
    `_message_parts` (a list).
    """

    def __init__(
        self, stream: trio.abc.Stream, parts: SplitResult, max_message_bytes: int
    ) -> None:
        host = place_of(parts)
        if parts.port is None:
            host = host.rpartition(":")[0]
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path
        self.inbox = Inbox()
        super().__init__(
            stream,
            Frames(self.inbox.put, max_message_bytes),
            host=host,
            path=path or "/",
            client_extra_headers=[
                (b"User-Agent", f"dryapi-kafka-bridge/{__version__}".encode())
            ],
            max_message_size=max_message_bytes,
            receive_buffer_size=_RECEIVE_BUFFER_BYTES,
        )
        self._send_channel.close()
        self._recv_channel.close()
        self._send_channel = cast("trio.MemorySendChannel[Message]", self.inbox)
        self._recv_channel = cast("trio.MemoryReceiveChannel[Message]", self.inbox)
        self.place = place_of(parts)
        self.max_message_bytes = max_message_bytes
        # Set when the upgrade has succeeded or can't any more.
        self.settled = self._open_handshake
        # The reader outlives a cancellation of the connection's user, because the
        # close handshake needs it; who runs it ends it.
        self.reading = trio.CancelScope(shield=True)
        self.opened = False
        self._rejected_with: int | None = None

    async def read(self) -> None:
        """Run trio_websocket's reader; its end is the inbox's end, never an error."""
        try:
            with self.reading:
                await self._reader_task()
        except trio_websocket.ConnectionRejected as error:
            self._rejected_with = error.status_code
        except _READER_ERRORS:
            # `loss` and `refusal` say what happened.
            pass
        finally:
            self.inbox.close()
            self.settled.set()
            # Nobody else could answer a close handshake that is being waited for.
            self._close_handshake.set()

    async def _handle_accept_connection_event(self, event: AcceptConnection) -> None:
        self.opened = True
        await super()._handle_accept_connection_event(event)

    async def _handle_reject_connection_event(self, event: RejectConnection) -> None:
        # The status says all; the body may be of any size and is not waited for.
        raise trio_websocket.ConnectionRejected(event.status_code, (), None)

    async def _handle_message_event(self, event: BytesMessage | TextMessage) -> None:
        if len(self._message_parts) >= _MOST_PARTS:
            # All of one kind, as the message is.
            parts: list[Any] = self._message_parts
            parts[:] = [parts[0][:0].join(parts)]
        await super()._handle_message_event(event)

    def refusal(self) -> ConnectError:
        """Say why the upgrade failed."""
        status = self._rejected_with
        if status is not None:
            redirect = " (a redirect, not followed)" if 300 <= status < 400 else ""
            return ConnectError(
                f"{self.place} answered the WebSocket upgrade with HTTP"
                f" {status}{redirect}",
                status=status,
            )
        if self.closed is None:
            return ConnectError(f"{self.place} doesn't answer like a WebSocket server")
        return ConnectError(f"{self.place} ended the connection during the upgrade")

    def loss(self) -> ConnectionLostError:
        """Say how the connection ended."""
        closed = self.closed
        code = None if closed is None else closed.code
        # A server that closes so would mean our messages, of some hundred bytes.
        if code == _TOO_LARGE_CODE:
            return MessageTooLargeError(
                f"{self.place} sent a message above {self.max_message_bytes} bytes",
                code=code,
            )
        if closed is None or code == _ABNORMAL_CODE:
            return ConnectionLostError(f"the connection to {self.place} broke")
        # A stranger's text, for the log: printable and short.
        reason = f": {closed.reason[:200]!r}" if closed.reason else ""
        return ConnectionLostError(
            f"{self.place} closed the connection{reason}", code=code
        )


class _Connection:
    """`Connection` on a `_Socket`."""

    def __init__(self, socket_: _Socket) -> None:
        self._socket = socket_
        self._aborted = False

    async def ready(self) -> int:
        return await self._socket.inbox.ready()

    def take_run(self) -> list[Message]:
        run = self._socket.inbox.take()
        if not run:
            raise self._socket.loss()
        return run

    async def receive_run(self) -> list[Message]:
        await self.ready()
        return self.take_run()

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_message(text)
        except (trio_websocket.ConnectionClosed, _WebSocketError) as error:
            raise self._socket.loss() from error

    async def aclose(self, code: int = 1000) -> None:
        try:
            with trio.move_on_after(_CLOSE_SECONDS):
                await self._socket.aclose(code)
        finally:
            self._socket.inbox.close()

    def abort(self) -> None:
        self._aborted = True

    async def leave(self) -> None:
        """Close it if it is open, whether or not we are being cancelled."""
        if not self._aborted:
            with trio.CancelScope(shield=True):
                await self.aclose()
