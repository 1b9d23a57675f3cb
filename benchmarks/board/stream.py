"""
A browser's side of the board's stream, as light as can be.

Owns HTTP and server-sent events between a socket and messages; h11 knows the former.
When to read is for whoever is the browser.
"""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import h11
import msgspec
import trio


__all__ = ["Messages", "Stream", "Told"]

_READ_BYTES: Final = 256 * 1024


class Told(msgspec.Struct):
    """
    What one message told.

    Attributes:
        arrived_us: When its last byte was read, microseconds since the epoch.
        data: Its JSON.
        is_snapshot: Whether it told all, and not what has changed.
    """

    arrived_us: int
    data: bytes
    is_snapshot: bool


class Messages:
    """Messages out of the bytes of a stream, in whatever pieces they come."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def take(self, piece: bytes) -> list[tuple[str, bytes]]:
        """Take bytes; give the messages that end in them: name and data."""
        # The end may lie across two pieces.
        seen = max(0, len(self._kept) - 1)
        self._kept += piece
        found = []
        begin = 0
        while (end := self._kept.find(b"\n\n", max(begin, seen))) >= 0:
            found.append(_message(bytes(self._kept[begin:end])))
            begin = end + 2
        del self._kept[:begin]
        return [message for message in found if message[0]]


def _message(text: bytes) -> tuple[str, bytes]:
    fields = dict(line.partition(b": ")[::2] for line in text.split(b"\n"))
    return fields.get(b"event", b"").decode(), fields.get(b"data", b"")


class Stream:
    """
    A connection to the board on which a browser is told.

    Args:
        port: Of the board on 127.0.0.1.
        query: What is asked for, `id=...`, or nothing.
        window_bytes: How much the system keeps before this side has read it; None for
            the system's own choice, which is megabytes.

    Attributes:
        status: Of the answer; None until it has come.
    """

    def __init__(
        self, port: int, query: str = "", window_bytes: int | None = None
    ) -> None:
        self.status: int | None = None
        self._port = port
        self._query = query
        self._window_bytes = window_bytes
        self._http = h11.Connection(h11.CLIENT)

    async def messages(self) -> AsyncGenerator[Told]:
        """Connect and give messages as they come; ends when the board ends it."""
        plain = socket.socket()
        if self._window_bytes is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window_bytes)
        plain.setblocking(False)
        connection = trio.socket.from_stdlib_socket(plain)
        messages = Messages()
        with connection:
            await connection.connect(("127.0.0.1", self._port))
            stream = trio.SocketStream(connection)
            await stream.send_all(self._request())
            async with aclosing(self._pieces(stream)) as pieces:
                async for piece in pieces:
                    now_us = time.time_ns() // 1000
                    for name, data in messages.take(piece):
                        yield Told(now_us, data, name == "snapshot")

    def _request(self) -> bytes:
        request = h11.Request(
            method="GET",
            target=f"/events?{self._query}",
            headers=[("Host", f"127.0.0.1:{self._port}")],
        )
        head = self._http.send(request) or b""
        return head + (self._http.send(h11.EndOfMessage()) or b"")

    async def _pieces(self, stream: trio.SocketStream) -> AsyncGenerator[bytes]:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = await stream.receive_some(_READ_BYTES)
                except trio.BrokenResourceError:
                    return
                if not data:
                    return
                self._http.receive_data(bytes(data))
            elif isinstance(event, h11.Response):
                self.status = event.status_code
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return
