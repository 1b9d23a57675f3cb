"""
The line between a bridge and soketi, where a test can make it fail.

Owns the way of the bytes and, towards the bridge, the bounds of WebSocket frames.
What fails when, and what must follow from it, is for the tests.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from urllib.parse import urlsplit

import trio

from tests.kit.publisher import Soketi


__all__ = ["Line", "open_line"]

_CHUNK_BYTES = 64 * 1024

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)

_END_OF_HEAD = b"\r\n\r\n"

# RFC 6455 section 5.2: control frames have the opcode's highest bit, a length above
# 125 stands in two bytes, above 65,535 in eight; what a server sends has no mask.
_CONTROL, _LENGTH = 0x08, 0x7F
_LONGER = {126: 2, 127: 8}
_LONGEST_SHORT = 125

_ACKNOWLEDGEMENT = b'"pusher_internal:subscription_succeeded"'
_PONG = b'"pusher:pong"'


class Line:
    """
    A line that lets everything pass until a test says otherwise.

    Args:
        soketi: Where it leads.
        port: Where it begins.

    Attributes:
        url: What the bridge is told instead of soketi's own.
        connects: How many connections were made through it.
        acknowledgements: How many subscriptions soketi acknowledged through it,
            repeated ones too.
    """

    def __init__(self, soketi: Soketi, port: int) -> None:
        parts = urlsplit(soketi.url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._soketi = parts.hostname, parts.port
        self.url = f"ws://127.0.0.1:{port}"
        self.connects = 0
        self.acknowledgements = 0
        self._connections: set[_Connection] = set()
        self._passes = trio.Event()
        self._passes.set()
        self._leads_nowhere = False
        self._words: list[str] = []

    def hang(self) -> None:
        """Let nothing pass, and tell nobody: old and new connections stand."""
        self._passes = trio.Event()

    def resume(self) -> None:
        """Let everything pass again, what was on its way too."""
        self._passes.set()
        self._leads_nowhere = False

    def cut(self) -> None:
        """End the connections of now."""
        for connection in list(self._connections):
            connection.scope.cancel()

    def break_off(self) -> None:
        """End the connections of now, and at once each that comes."""
        self._leads_nowhere = True
        self.cut()

    def deafen(self) -> None:
        """Let no message but pongs reach the bridge on the connections of now."""
        for connection in self._connections:
            connection.deaf = True

    def say(self, text: str) -> None:
        """Put in a message of the server's, behind the next one that comes."""
        self._words.append(text)

    async def carry(self, bridge: trio.SocketStream) -> None:
        """Carry one connection until either side ends it."""
        self.connects += 1
        connection = _Connection()
        async with bridge:
            if self._leads_nowhere:
                return
            with suppress(OSError, *_BROKEN), connection.scope:
                # Without soketi the bridge sees its connection end at once.
                async with await trio.open_tcp_stream(*self._soketi) as soketi:
                    self._connections.add(connection)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._pass_on, bridge, soketi, connection)
                        nursery.start_soon(self._pass_back, soketi, bridge, connection)
        self._connections.discard(connection)

    async def _pass_on(
        self,
        bridge: trio.SocketStream,
        soketi: trio.SocketStream,
        connection: _Connection,
    ) -> None:
        with suppress(*_BROKEN):
            while chunk := await bridge.receive_some(_CHUNK_BYTES):
                await self._passes.wait()
                await soketi.send_all(chunk)
        connection.scope.cancel()

    async def _pass_back(
        self,
        soketi: trio.SocketStream,
        bridge: trio.SocketStream,
        connection: _Connection,
    ) -> None:
        with suppress(*_BROKEN):
            async with aclosing(_pieces(soketi)) as pieces:
                async for piece in pieces:
                    await self._passes.wait()
                    self.acknowledgements += _ACKNOWLEDGEMENT in piece
                    if not connection.deaf or _is_sign_of_life(piece):
                        await bridge.send_all(piece)
                        while self._words:
                            await bridge.send_all(_text_frame(self._words.pop(0)))
        connection.scope.cancel()


class _Connection:
    """One connection: its end, and whether the bridge hears on it."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.deaf = False


def _text_frame(text: str) -> bytes:
    content = text.encode()
    assert _LONGEST_SHORT < len(content) < 1 << 16
    return b"\x81\x7e" + len(content).to_bytes(2, "big") + content


def _is_sign_of_life(frame: bytes) -> bool:
    return bool(frame[0] & _CONTROL) or _PONG in frame


async def _pieces(stream: trio.SocketStream) -> AsyncGenerator[bytes, None]:
    """Give the head of the upgrade's answer, then frame by frame."""
    gathered = bytearray()
    length_of: Callable[[bytearray], int | None] = _head_length
    while chunk := await stream.receive_some(_CHUNK_BYTES):
        gathered += chunk
        while (length := length_of(gathered)) is not None and len(gathered) >= length:
            piece = bytes(gathered[:length])
            del gathered[:length]
            length_of = _frame_length
            yield piece


def _head_length(gathered: bytearray) -> int | None:
    place = gathered.find(_END_OF_HEAD)
    return None if place < 0 else place + len(_END_OF_HEAD)


def _frame_length(gathered: bytearray) -> int | None:
    if len(gathered) < 2:
        return None
    length = gathered[1] & _LENGTH
    longer = _LONGER.get(length, 0)
    begin = 2 + longer
    if len(gathered) < begin:
        return None
    return begin + (int.from_bytes(gathered[2:begin], "big") if longer else length)


@asynccontextmanager
async def open_line(soketi: Soketi) -> AsyncIterator[Line]:
    """Have a line to soketi inside the block."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    line = Line(soketi, listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, line.carry, [listener])
        yield line
        nursery.cancel_scope.cancel()
