"""
The WebSocket: the only module that imports trio_websocket.

It upgrades a stream and delivers every message in the task that reads it. Each error of
trio_websocket becomes one of ours, with a message that names host and port. The content
of messages is not looked at.

**Whole text frames bypass trio_websocket.** For each message it calls a coroutine and a
memory channel, and wsproto makes six objects of a frame: together nine tenths of what a
small message costs (benchmarks/README.md). Nearly every frame of a Pusher server is a
text message of one frame, without mask or extension. `_TextFrames` is the stream that
trio_websocket reads from: it takes such frames out of the bytes and delivers them; all
other bytes (the upgrade, control frames, fragments, violations) pass through unchanged
and in their place, so that trio_websocket alone decides what they mean.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias
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


__all__ = ["Backpressure", "Message", "Receive", "WebSocket", "open_websocket"]

Message: TypeAlias = str | bytes

Receive: TypeAlias = Callable[[Sequence[Message]], bool]
"""
Takes messages as they are read, in order; returns at once and doesn't raise.

It returns whether any of them has to be written, so that backpressure counts.
"""

Backpressure: TypeAlias = Callable[[], Awaitable[None]]
"""Awaited before more is read: returns at once as a rule, within seconds always."""

# So much in one read pays for it, 35 events of a flood: as Kafka's producer waits for
# no more once a batch is full.
_ENOUGH_BYTES: Final = 8192

# trio_websocket reads 4 KiB at a time by default. With 128 KiB a firehose of small
# messages needs a thirtieth of the reads, and most previews come in one; with 64 KiB
# those of 90 KB cost a third more, with 256 KiB nothing less.
_RECEIVE_BYTES: Final = 131_072

# Less than this is delivered even under backpressure: a pong, or a few events. The
# sockets of a thousand accounts may bring 128 KiB each in the same moment.
_LIGHT_BYTES: Final = 2048

# The payload of a frame that isn't ours is passed on in portions of this size or more,
# since trio_websocket keeps each portion by itself until the message is whole.
_PORTION_BYTES: Final = 65_536

# Control frames and fragments without a whole message between them. An empty one costs
# 0.1 ms and counts for no limit of bytes. A Pusher server sends a control frame in
# minutes and no fragments; a message of 16 MiB may have fragments of 4 KiB.
_MOST_IN_A_ROW: Final = 4096

# A server's answer to the upgrade has some 200 bytes.
_MOST_HEAD_BYTES: Final = 65_536
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")

# How long a close handshake may take: an answer is one round trip, and nothing
# depends on it.
_CLOSE_SECONDS: Final = 1.0

# RFC 6455 section 7.4.1: what trio_websocket reports for a message above the limit,
# and for an end without a close frame.
_TOO_LARGE_CODE: Final = 1009
_ABNORMAL_CODE: Final = 1006

# RFC 6455 section 5.2. The first byte of a text message of one frame: FIN, no
# extension's bit, opcode 1.
_WHOLE_TEXT: Final = 0x81
_FIN: Final = 0x80
_OPCODE: Final = 0x0F
_CLOSE: Final = 0x8
_FIRST_CONTROL_OPCODE: Final = 0x8

# The second byte: the mask's bit, which no server may set, and the length. These two
# say that it follows in two bytes or in eight, of which it must need all.
_LENGTH: Final = 0x7F
_TWO_BYTES: Final = 126
_MOST_IN_TWO: Final = 0xFFFF


class WebSocket:
    """An open WebSocket: it can be written to; what is read is delivered."""

    def __init__(
        self, frames: _TextFrames, url: SplitResult, max_message_bytes: int
    ) -> None:
        self._frames = frames
        self._url = url
        self._address = address_of(url)
        self._max_message_bytes = max_message_bytes
        self._connection: trio_websocket.WebSocketConnection | None = None
        self.reading = trio.CancelScope()
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

    async def run(
        self,
        lost: Callable[[ConnectionLostError], None],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Upgrade and read until the connection ends."""
        url = self._url
        host = self._address if url.port else self._address.rpartition(":")[0]
        path = url.path or "/"
        agent = f"dryapi-kafka-bridge/{__version__}".encode()
        upgraded = False
        try:
            with self.reading:
                async with trio.open_nursery() as nursery:
                    self._connection = await trio_websocket.wrap_client_stream(
                        nursery,
                        self._frames,  # type: ignore[arg-type] # "arbitrary stream"
                        host,
                        f"{path}?{url.query}" if url.query else path,
                        extra_headers=[(b"User-Agent", agent)],
                        max_message_size=self._max_message_bytes,
                        receive_buffer_size=_RECEIVE_BYTES,
                    )
                    upgraded = True
                    task_status.started()
                    with suppress(trio_websocket.ConnectionClosed):
                        while True:
                            message = await self._connection.get_message()
                            self._frames.deliver_assembled(message)
                    # A close handshake of ours needs the reader until `leave`.
                    if not self._frames.is_closing:
                        nursery.cancel_scope.cancel()
        except* (WebSocketProtocolError, h11.ProtocolError):
            # The server broke the protocol: `_loss` and the line below report it.
            pass
        except* SessionError as errors:
            raise errors.exceptions[0] from None
        finally:
            # Without its reader a close handshake can't be answered.
            self.abort()
        if self._frames.bug is not None:
            raise self._frames.bug
        if not upgraded:
            raise ConnectError(
                f"{self._address} doesn't answer like a WebSocket server"
            )
        if not self._frames.is_closing:
            lost(self._loss())

    async def leave(self) -> None:
        """Close it if it is open, whether or not the caller is being cancelled."""
        self._frames.is_closing = True
        if self._connection is not None and not self._aborted:
            with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._connection.aclose()
        self.reading.cancel()

    def _loss(self) -> ConnectionLostError:
        """Report how the connection ended."""
        address = self._address
        closed = None if self._connection is None else self._connection.closed
        if self._frames.violation:
            return ConnectionLostError(f"{address} sent {self._frames.violation}")
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
    max_message_bytes: int,
    linger_seconds: float = 0.0,
    tls: ssl.SSLContext | None = None,
    open_tcp: OpenTcp = trio.open_tcp_stream,
) -> AsyncIterator[WebSocket]:
    """
    Open a WebSocket, deliver what is read, and close it on the way out.

    When the connection ends by itself, the body is cancelled and the context manager
    raises `ConnectionLostError`, after everything that came before was delivered. The
    caller sets the deadline: every step can be cancelled.

    Args:
        url: Address to connect to, `ws://` or `wss://`.
        receive: Gets all messages, str for text ones, bytes for binary ones.
        backpressure: Awaited before and after messages are delivered; may wait for
            seconds.
        max_message_bytes: The largest message, in characters; a larger one
            ends the connection with code 1009.
        linger_seconds: How far apart reads are while packets follow one another.
        tls: Context for `wss://`; the system's certificates if None.
        open_tcp: Opens TCP to a host and a port.

    Yields:
        The open connection.

    Raises:
        ConnectError: No connection could be made; the message says why.
        ConnectionLostError: The connection ended by itself; `MessageTooLargeError`
            if it ended because of a message above the limit.
    """
    parts = urlsplit(url)

    async def open_lingering(host: str, port: int) -> trio.abc.Stream:
        stream = await open_tcp(host, port)
        return _Lingering(stream, linger_seconds) if linger_seconds else stream

    stream = await open_stream(parts, tls, open_lingering)
    frames = _TextFrames(
        stream, address_of(parts), receive, max_message_bytes, backpressure
    )
    websocket = WebSocket(frames, parts, max_message_bytes)
    failure: SessionError | None = None
    try:
        async with trio.open_nursery() as nursery:

            def lost(loss: ConnectionLostError) -> None:
                nonlocal failure
                failure = loss
                nursery.cancel_scope.cancel()

            try:
                await nursery.start(websocket.run, lost)
                # A close handshake needs the reader, also when the connection's user is
                # cancelled; `leave` ends it.
                websocket.reading.shield = True
                yield websocket
            except SessionError as error:
                # Raised below, outside the nursery, which would wrap it.
                failure = error
            finally:
                await websocket.leave()
    finally:
        await trio.aclose_forcefully(stream)
    if failure is not None:
        raise failure


class _TextFrames(trio.abc.Stream):
    """
    A server's byte stream without its whole text frames, which are delivered.

    A message that trio_websocket has to assemble (fragments, binary) comes back through
    `deliver_assembled`, before anything behind it is looked at.

    Attributes:
        is_closing: The bridge has begun to close: nothing but a close frame matters.
        violation: What the server did too much of, if it did.
        bug: What the receiver raised.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        address: str,
        receive: Receive,
        max_message_bytes: int,
        backpressure: Backpressure,
    ) -> None:
        self._stream = stream
        self._address = address
        self._receive = receive
        self._max_message_bytes = max_message_bytes
        self._backpressure = backpressure
        self.is_closing = False
        self.violation = ""
        self.bug: Exception | None = None
        self._upgraded = self._closed = self._at_end = False
        # What has come and wasn't looked at.
        self._buffer = bytearray()
        # What is left of a frame that trio_websocket gets.
        self._rest = 0
        # trio_websocket has a message's first fragment and not its last; so many frames
        # in a row were no whole message.
        self._fragmented = False
        self._in_a_row = 0

    def deliver_assembled(self, message: Message) -> None:
        """Deliver a message that trio_websocket has assembled."""
        self._deliver((message,))

    def _deliver(self, messages: Sequence[Message]) -> bool:
        try:
            return self._receive(messages)
        except Exception as error:
            # trio_websocket's reader closes a channel on its way out, and a
            # cancellation there would replace the error.
            self.bug = error
            raise

    async def receive_some(
        self,
        max_bytes: int | None = None,  # noqa: ARG002 - trio_websocket takes any
    ) -> bytes:
        """Deliver whole text frames; return the next bytes that are none."""
        if not self._upgraded:
            return await self._receive_head()
        # trio_websocket has handled the frame before, and yielded once. Yielding again
        # lets `run` deliver the message that it completed, or cancel this task if it
        # broke the protocol. And a flood of frames must not keep other tasks waiting.
        await trio.lowlevel.checkpoint()
        while True:
            if not (self._rest or self._fragmented or self._closed):
                await self._deliver_texts()
            piece = self._next_piece()
            if piece:
                return piece
            if self._at_end:
                return b""
            data = await self._stream.receive_some(_RECEIVE_BYTES)
            self._at_end = not data
            self._buffer += data

    async def _receive_head(self) -> bytes:
        """Return the answer to the upgrade and not a byte of what follows it."""
        buffer = self._buffer
        while (end := _HEAD_END.search(buffer)) is None:
            if len(buffer) > _MOST_HEAD_BYTES:
                raise ConnectError(
                    f"{self._address} doesn't answer like a WebSocket server"
                )
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise self._ended_upgrade()
            buffer += data
        head = bytes(buffer[: end.end()])
        del buffer[: end.end()]
        line = _STATUS_LINE.match(head)
        if line is None or not head.isascii():
            raise ConnectError(
                f"{self._address} doesn't answer like a WebSocket server"
            )
        if (status := int(line[1])) != 101:
            redirect = " (a redirect, not followed)" if 300 <= status < 400 else ""
            raise ConnectError(
                f"{self._address} answered the WebSocket upgrade with HTTP"
                f" {status}{redirect}",
                status=status,
            )
        self._upgraded = True
        return head

    async def _deliver_texts(self) -> None:
        """Deliver the whole text frames that the buffer begins with."""
        buffer, most = self._buffer, self._max_message_bytes
        if len(buffer) > _LIGHT_BYTES:
            await self._backpressure()
        texts: list[str] = []
        have, start = len(buffer), 0
        with memoryview(buffer) as view:
            while have - start >= 2 and buffer[start] == _WHOLE_TEXT:
                begin, end, valid = _head(buffer, start)
                if end > have or end - begin > most or not valid:
                    break
                try:
                    texts.append(str(view[begin:end], "utf-8"))
                except UnicodeDecodeError:
                    break
                start = end
        del buffer[:start]
        if texts:
            self._in_a_row = 0
            if not self.is_closing and self._deliver(texts):
                await self._backpressure()

    def _next_piece(self) -> bytes:
        """Cut off what trio_websocket gets next; nothing if more has to come first."""
        buffer = self._buffer
        if self._closed:
            size = len(buffer)
        elif self._rest:
            size = min(self._rest, len(buffer))
            if size < min(self._rest, _PORTION_BYTES) and not self._at_end:
                return b""
            self._rest -= size
        else:
            size = self._next_head() if len(buffer) >= 2 else 0
            if self._at_end and not size:
                size = len(buffer)
        piece = bytes(buffer[:size])
        del buffer[:size]
        return piece

    def _next_head(self) -> int:
        """Give the size of the head that trio_websocket gets; 0 if it has to wait."""
        have, first = len(self._buffer), self._buffer[0]
        begin, end, valid = _head(self._buffer, 0)
        opcode, final = first & _OPCODE, bool(first & _FIN)
        if opcode < _FIRST_CONTROL_OPCODE:
            if begin > have:
                return 0
            is_text = first == _WHOLE_TEXT and valid
            if (
                is_text
                and not self._fragmented
                and have < end <= begin + self._max_message_bytes
            ):
                return 0
            self._fragmented = not final
            self._in_a_row = 0 if final else self._in_a_row + 1
        else:
            if have < min(end, begin + _TWO_BYTES):
                return 0
            begin = end = min(end, begin + _TWO_BYTES)
            self._closed = opcode == _CLOSE
            self._in_a_row += 1
        if self._in_a_row > _MOST_IN_A_ROW:
            self.violation = (
                f"more than {_MOST_IN_A_ROW} control frames or fragments in a row"
            )
            raise trio.BrokenResourceError(self.violation)
        self._rest = end - begin
        return begin

    def _ended_upgrade(self) -> ConnectError:
        return ConnectError(f"{self._address} ended the connection during the upgrade")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; trio_websocket waits forever for an upgrade that wasn't sent."""
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            if self._upgraded:
                raise
            raise self._ended_upgrade() from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the other stream does."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the other stream."""
        await self._stream.aclose()


def _head(buffer: bytearray, start: int) -> tuple[int, int, bool]:
    """
    Read the head of a frame, of which two bytes have come.

    Returns:
        Where its payload begins and ends, both beyond the buffer's end if the head
        isn't whole; and whether a server may send such a length, and no mask.
    """
    length = buffer[start + 1]
    begin = start + 2
    if length < _TWO_BYTES:
        return begin, begin + length, True
    masked, length = length > _LENGTH, length & _LENGTH
    least = 0
    if length >= _TWO_BYTES:
        begin, least = (
            (start + 4, _TWO_BYTES)
            if length == _TWO_BYTES
            else (start + 10, _MOST_IN_TWO + 1)
        )
        length = int.from_bytes(buffer[start + 2 : begin], "big")
    return begin, begin + length, length >= least and not masked


class _Lingering(trio.abc.Stream):
    """
    A byte stream that is read at intervals while packets follow one another.

    Each small message comes in a packet of its own, and each wakes two threads, a
    commit and a request to Kafka: far more than the event itself costs. So while one
    packet follows the other, reads are a linger apart. A packet that comes alone
    waits for nothing. It is below TLS: above it, a read brings one record.
    """

    def __init__(self, stream: trio.abc.Stream, linger_seconds: float) -> None:
        self._stream = stream
        self._linger_seconds = linger_seconds
        self._read_at = -math.inf
        self._follows = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._follows:
            await trio.sleep_until(self._read_at + self._linger_seconds)
        data = await self._stream.receive_some(max_bytes)
        now = trio.current_time()
        # Twice: a waiting task is woken up to a millisecond late, and what of a steady
        # stream has come by then is read at once.
        is_soon = now - self._read_at < 2 * self._linger_seconds
        self._follows = is_soon and len(data) < _ENOUGH_BYTES
        self._read_at = now
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
