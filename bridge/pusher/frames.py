"""
Whole text frames, taken from the socket's bytes without wsproto.

wsproto makes six objects of a frame, in pure Python, and trio_websocket calls a
coroutine for each of its events: together nine tenths of what a small message costs.
Nearly every frame of a Pusher server is a text message of one frame without mask or
extension, of which nothing is to be said but where it begins and ends. `Frames` is
the wsproto connection that trio_websocket is given, and it keeps those frames to
itself. Any other frame (control frames, fragments, whatever breaks a rule) goes to
wsproto whole and in its place, so that what such frames mean is decided there alone.

It stands on what wsproto documents: `receive_data` and `events`. What a message says
is not looked at here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Event


__all__ = ["Frames"]

# RFC 6455 section 5.2. The first byte of a text message of one frame: FIN, no
# extension's bit, opcode 1.
_WHOLE_TEXT: Final = 0x81
_FIN: Final = 0x80
_OPCODE: Final = 0x0F

# The second byte: the mask's bit, which no server may set, and the length. These two
# say that it stands behind, in two bytes or in eight, of which it must need all.
_LENGTH: Final = 0x7F
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127
_MOST_IN_TWO: Final = 0xFFFF

# Continuation, text and binary: wsproto looks at the whole head of such a frame
# before it says anything, and at two bytes of any other.
_DATA_OPCODES: Final = frozenset((0x0, 0x1, 0x2))


class Frames(WSConnection):
    """
    A client's wsproto connection that hands whole text messages on by itself.

    What it doesn't hand on comes out of `events`, in order: a message that `take`
    refuses, too.

    Args:
        take: Called with each message's text while `events` is gone through; says
            whether it took it.
        max_message_bytes: What is longer goes to wsproto, piece by piece.
    """

    def __init__(self, take: Callable[[str], bool], max_message_bytes: int) -> None:
        super().__init__(ConnectionType.CLIENT)
        self._take = take
        self._max_message_bytes = max_message_bytes
        # What has come and wasn't looked at; it begins where a frame does, unless
        # wsproto still wants bytes of one.
        self._buffer = bytearray()
        self._wanted = 0
        # wsproto has had a message's first fragment and not its last.
        self._fragmented = False
        self._ended = False

    def receive_data(self, data: bytes | None) -> None:
        """Take what was read, as `WSConnection` does."""
        if not data:
            super().receive_data(data)
        elif self.connection is None:
            self._shake_hands(data)
        elif not self._ended:
            self._buffer += data

    def events(self) -> Generator[Event, None, None]:
        """Hand messages on and give every other event, in order."""
        yield from super().events()
        if self.connection is None:
            return
        while not self._ended:
            if not self._wanted and not self._fragmented:
                self._take_texts()
            piece = self._next_piece()
            if not piece:
                return
            super().receive_data(piece)
            for event in super().events():
                # Nothing counts that comes after: wsproto would not read it either.
                self._ended = self._ended or type(event) is CloseConnection
                yield event
        self._buffer.clear()

    def _shake_hands(self, data: bytes) -> None:
        """Give wsproto the upgrade's answer and not a byte of what follows it."""
        # Its end is the end of a line, whatever it says.
        lines = iter(data.splitlines(keepends=True))
        for line in lines:
            super().receive_data(line)
            if self.state is not ConnectionState.CONNECTING:
                break
        rest = b"".join(lines)
        if self.connection is not None:
            self._buffer += rest
        elif rest:
            super().receive_data(rest)

    def _take_texts(self) -> None:
        """Hand on the whole text messages that the buffer begins with."""
        buffer, take, most = self._buffer, self._take, self._max_message_bytes
        have, start = len(buffer), 0
        with memoryview(buffer) as view:
            while have - start >= 2 and buffer[start] == _WHOLE_TEXT:
                begin, end, proper = _head(buffer, start)
                if end > have or end - begin > most or not proper:
                    break
                try:
                    text = str(view[begin:end], "utf-8")
                except UnicodeDecodeError:
                    break
                if not take(text):
                    break
                start = end
        del buffer[:start]

    def _next_piece(self) -> bytes:
        """Cut off what wsproto gets next, all of one frame; nothing if it waits."""
        buffer = self._buffer
        if not self._wanted and len(buffer) >= 2:
            self._wanted = self._next_frame_bytes()
        piece = bytes(buffer[: self._wanted])
        del buffer[: len(piece)]
        self._wanted -= len(piece)
        return piece

    def _next_frame_bytes(self) -> int:
        """Give the length of the frame that wsproto gets; 0 if it waits."""
        have, first = len(self._buffer), self._buffer[0]
        begin, end, proper = _head(self._buffer, 0)
        if first & _OPCODE in _DATA_OPCODES:
            if begin > have:
                return 0
            plain = first == _WHOLE_TEXT and proper and not self._fragmented
            if plain and have < end <= begin + self._max_message_bytes:
                return 0
            self._fragmented = not first & _FIN
        return end


def _head(buffer: bytearray, start: int) -> tuple[int, int, bool]:
    """
    Read the head of a frame, of which two bytes are there at least.

    Returns:
        Where its content begins and ends, both beyond the buffer's end if the head
        isn't whole; and whether a server may write such a length, and no mask.
    """
    length = buffer[start + 1]
    begin = start + 2
    if length < _TWO_BYTES:
        return begin, begin + length, True
    masked, length = length > _LENGTH, length & _LENGTH
    least = 0
    if length == _TWO_BYTES:
        begin, least = start + 4, _TWO_BYTES
        length = int.from_bytes(buffer[start + 2 : begin], "big")
    elif length == _EIGHT_BYTES:
        begin, least = start + 10, _MOST_IN_TWO + 1
        length = int.from_bytes(buffer[start + 2 : begin], "big")
    return begin, begin + length, length >= least and not masked
