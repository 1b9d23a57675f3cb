"""
The byte stream from a server to trio_websocket, without the frames that bypass it.

**Whole text frames bypass trio_websocket.** For each message it calls a coroutine and a
memory channel, and wsproto makes six objects of a frame. Together that is nine tenths
of the cost of a small message (docs/contribute/measurements.md). Nearly every frame of
a Pusher server is a text message of one frame, without mask or extension. `TextFrames`
is the stream that trio_websocket reads from. It removes such frames from the bytes and
delivers them. All other bytes (the upgrade, control frames, fragments, violations) stay
unchanged and in order, so only trio_websocket decides what they mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn, TypeAlias

import trio

from bridge.errors import ConnectError, ConnectionLostError


__all__ = [
    "NOT_A_WEBSOCKET",
    "RECEIVE_BYTES",
    "Backpressure",
    "Lingering",
    "Message",
    "Receive",
    "TextFrames",
]

Message: TypeAlias = str | bytes

Receive: TypeAlias = Callable[[Sequence[Message]], bool]
"""
Takes messages as they are read, in order; returns at once and doesn't raise.

It returns whether any of them has to be written, so that backpressure counts.
"""

Backpressure: TypeAlias = Callable[[], Awaitable[None]]
"""Awaited before more is read: returns at once as a rule, within seconds always."""

NOT_A_WEBSOCKET: Final = "doesn't answer like a WebSocket server"

# trio_websocket reads 4 KiB at a time by default. With 128 KiB a firehose of small
# messages needs a thirtieth of the reads, and most previews come in one; with 64 KiB
# those of 90 KB cost a third more, with 256 KiB nothing less.
RECEIVE_BYTES: Final = 131_072

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

# So much in one read pays for it, 35 events of a flood: as Kafka's producer waits for
# no more once a batch is full.
_ENOUGH_BYTES: Final = 8192


class _Wrapper(trio.abc.Stream):
    """A stream that reads from another one in its own way."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class TextFrames(_Wrapper):
    """
    A server's byte stream without its whole text frames, which are delivered.

    A message that trio_websocket has to assemble (fragments, binary) comes back through
    `deliver`, before anything behind it is looked at.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        address: str,
        receive: Receive,
        backpressure: Backpressure,
        max_message_bytes: int,
    ) -> None:
        super().__init__(stream)
        self._address = address
        self._receive = receive
        self._backpressure = backpressure
        self._max_message_bytes = max_message_bytes
        # What reads from this stream, and why it was cancelled: what the server did,
        # or what the receiver raised.
        self.reading = trio.CancelScope()
        self.failure: Exception | None = None
        # The bridge has begun to close: nothing but a close frame matters.
        self.is_closing = False
        self._upgraded = self._closed = self._at_end = False
        # What has come and wasn't looked at.
        self._buffer = bytearray()
        # What is left of a frame that trio_websocket gets.
        self._rest = 0
        # trio_websocket has a message's first fragment and not its last; so many frames
        # in a row were no whole message.
        self._fragmented = False
        self._in_a_row = 0

    def deliver(self, messages: Sequence[Message]) -> bool:
        """Deliver messages, as `Receive` does."""
        try:
            return self._receive(messages)
        except Exception as error:  # noqa: BLE001 - it is raised by `open_websocket`
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        """
        End the reading.

        An error that was raised through trio_websocket's reader, which closes a channel
        on its way out, could be replaced by a cancellation there.
        """
        if not self.is_closing:
            self.failure = self.failure or error
        self.reading.cancel()
        raise trio.BrokenResourceError from error

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
            data = await self._stream.receive_some(RECEIVE_BYTES)
            self._at_end = not data
            self._buffer += data

    async def _receive_head(self) -> bytes:
        """Return the answer to the upgrade and not a byte of what follows it."""
        buffer = self._buffer
        while (end := _HEAD_END.search(buffer)) is None:
            if len(buffer) > _MOST_HEAD_BYTES:
                self._fail(ConnectError(f"{self._address} {NOT_A_WEBSOCKET}"))
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                self._fail_upgrade()
            buffer += data
        head = bytes(buffer[: end.end()])
        del buffer[: end.end()]
        line = _STATUS_LINE.match(head)
        if line is None or not head.isascii():
            self._fail(ConnectError(f"{self._address} {NOT_A_WEBSOCKET}"))
        if (status := int(line[1])) != 101:
            message = f"{self._address} answered the WebSocket upgrade with HTTP"
            redirect = " (a redirect, not followed)" if 300 <= status < 400 else ""
            self._fail(ConnectError(f"{message} {status}{redirect}", status=status))
        self._upgraded = True
        return head

    def _fail_upgrade(self) -> NoReturn:
        self._fail(
            ConnectError(f"{self._address} ended the connection during the upgrade")
        )

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
            if not self.is_closing and self.deliver(texts):
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
            self._fail(
                ConnectionLostError(
                    f"{self._address} sent more than {_MOST_IN_A_ROW} control frames"
                    " or fragments in a row"
                )
            )
        self._rest = end - begin
        return begin

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; trio_websocket waits forever for an upgrade that wasn't sent."""
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            if self._upgraded:
                raise
            self._fail_upgrade()


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


class Lingering(_Wrapper):
    """
    A byte stream that is read at intervals while packets follow one another.

    Each small message comes in a packet of its own, and each wakes two threads, a
    commit and a request to Kafka: far more than the event itself costs. So while one
    packet follows the other, reads are a linger apart. A packet that comes alone
    waits for nothing. It is below TLS: above it, a read brings one record.
    """

    def __init__(self, stream: trio.abc.Stream, linger_seconds: float) -> None:
        super().__init__(stream)
        self._linger_seconds = linger_seconds
        self._read_at = -math.inf
        self._follows = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read, a moment later if packets follow one another."""
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
