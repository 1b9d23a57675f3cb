"""
Who reads the firehose's WebSocket, and does nothing with a message but count it.

Owns the bridge's own reader and what it is held against, each written as its users
would write it. All read 128 KiB at a time and give the same messages; the scan alone
checks nothing. What they cost is measured in `receiving`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import trio
import trio_websocket  # noqa: TID251 - it is one of those that are measured
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    Request,
    TextMessage,
)

from benchmarks.traffic import CHANNEL
from bridge.pusher.websocket import Message, open_websocket


__all__ = [
    "BRIDGE",
    "GET_MESSAGE",
    "RECEIVERS",
    "SCAN",
    "WEBSOCKETS",
    "WSPROTO",
    "Take",
]

BRIDGE: Final = "bridge"
GET_MESSAGE: Final = "trio-websocket's get_message"
WSPROTO: Final = "wsproto alone on a trio stream"
WEBSOCKETS: Final = "websockets' protocol on a trio stream"
SCAN: Final = "a bare scan for frames"

Take: TypeAlias = Callable[[int], Awaitable[int]]
"""Takes so many messages; gives the sum of their lengths in characters."""

# As the bridge reads.
_READ_BYTES = 131_072

# As the bridge's default.
_MOST_BYTES = 16 * 2**20

_SUBSCRIBE = json.dumps(
    {"event": "pusher:subscribe", "data": {"auth": "any:any", "channel": CHANNEL}}
)

# RFC 6455 section 5.2: the length's markers, in a frame without a mask.
_TWO_BYTES, _EIGHT_BYTES = 126, 127


@asynccontextmanager
async def _bridge(url: str) -> AsyncIterator[Take]:
    count = characters = 0
    received = trio.Event()

    def receive(messages: Sequence[Message]) -> bool:
        nonlocal count, characters
        count += len(messages)
        for message in messages:
            characters += len(message)
        received.set()
        return True

    async def until(messages: int) -> None:
        nonlocal received
        while count < messages:
            received = trio.Event()
            await received.wait()

    async def take(events: int) -> int:
        nonlocal count, characters
        await until(events)
        total, characters, count = characters, 0, count - events
        return total

    async with open_websocket(
        url, receive, max_message_bytes=_MOST_BYTES
    ) as connection:
        await until(1)  # pusher:connection_established
        await connection.send(_SUBSCRIBE)
        await until(2)  # subscription_succeeded
        count = characters = 0
        yield take


@asynccontextmanager
async def _get_message(url: str) -> AsyncIterator[Take]:
    async with trio_websocket.open_websocket_url(
        url, receive_buffer_size=_READ_BYTES
    ) as connection:
        await connection.get_message()
        await connection.send_message(_SUBSCRIBE)
        await connection.get_message()

        async def take(events: int) -> int:
            characters = 0
            for _ in range(events):
                characters += len(await connection.get_message())
            return characters

        yield take


class _Protocol:
    """wsproto on a trio stream, as small as one can write it that answers pings."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._wsproto = WSConnection(ConnectionType.CLIENT)
        self._parts: list[str] = []

    async def send(self, event: Event) -> None:
        await self._stream.send_all(self._wsproto.send(event))

    async def upgrade(self, host: str) -> None:
        await self.send(Request(host=host, target="/"))
        while True:
            for event in self._wsproto.events():
                if isinstance(event, AcceptConnection):
                    return  # what came with it is for `take`
            await self._read()

    async def take(self, events: int) -> int:
        count = characters = 0
        parts = self._parts
        while True:
            for event in self._wsproto.events():
                if type(event) is TextMessage:
                    parts.append(event.data)
                    if event.message_finished:
                        message = "".join(parts) if len(parts) > 1 else parts[0]
                        parts.clear()
                        count += 1
                        characters += len(message)
                elif type(event) is Ping:
                    await self.send(event.response())
                elif type(event) is CloseConnection:
                    raise EOFError
            if count >= events:
                return characters
            await self._read()

    async def _read(self) -> None:
        data = await self._stream.receive_some(_READ_BYTES)
        self._wsproto.receive_data(bytes(data) or None)


@asynccontextmanager
async def _upgraded(url: str) -> AsyncIterator[tuple[trio.SocketStream, _Protocol]]:
    """Have a stream on which a subscribed WebSocket was opened, and nothing waits."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream:
        protocol = _Protocol(stream)
        await protocol.upgrade(parts.netloc)
        await protocol.take(1)
        await protocol.send(TextMessage(_SUBSCRIBE))
        await protocol.take(1)
        yield stream, protocol


@asynccontextmanager
async def _wsproto(url: str) -> AsyncIterator[Take]:
    async with _upgraded(url) as (_, protocol):
        yield protocol.take


@asynccontextmanager
async def _websockets(url: str) -> AsyncIterator[Take]:
    address = parse_uri(url)
    protocol = ClientProtocol(address, max_size=_MOST_BYTES)
    async with await trio.open_tcp_stream(address.host, address.port) as stream:

        async def flush() -> None:
            for data in protocol.data_to_send():
                await stream.send_all(data)

        async def take(events: int) -> int:
            count = characters = 0
            while True:
                for frame in protocol.events_received():
                    # The first is the upgrade's answer; the firehose fragments nothing.
                    if type(frame) is Frame and frame.opcode is Opcode.TEXT:
                        count += 1
                        characters += len(str(frame.data, "utf-8"))
                await flush()  # answers to pings
                if count >= events:
                    return characters
                protocol.receive_data(bytes(await stream.receive_some(_READ_BYTES)))

        protocol.send_request(protocol.connect())
        await take(1)
        protocol.send_text(_SUBSCRIBE.encode())
        await take(1)
        yield take


@asynccontextmanager
async def _scan(url: str) -> AsyncIterator[Take]:
    async with _upgraded(url) as (stream, _):

        async def take(events: int) -> int:
            count = characters = 0
            buffer = bytearray()
            while count < events:
                buffer += await stream.receive_some(_READ_BYTES)
                start = 0
                while (bounds := _frame(buffer, start)) is not None:
                    begin, start = bounds
                    count += 1
                    characters += len(str(buffer[begin:start], "utf-8"))
                del buffer[:start]
            return characters

        yield take


def _frame(buffer: bytearray, start: int) -> tuple[int, int] | None:
    """Find where the content of the next frame begins and ends; None if it can't."""
    have = len(buffer)
    begin = start + 2
    if begin > have:
        return None
    length = buffer[start + 1]
    if length == _TWO_BYTES:
        begin += 2
        length = int.from_bytes(buffer[start + 2 : begin], "big")
    elif length == _EIGHT_BYTES:
        begin += 8
        length = int.from_bytes(buffer[start + 2 : begin], "big")
    end = begin + length
    return (begin, end) if end <= have and begin <= have else None


RECEIVERS: Final[dict[str, Callable[[str], AbstractAsyncContextManager[Take]]]] = {
    BRIDGE: _bridge,
    GET_MESSAGE: _get_message,
    WSPROTO: _wsproto,
    WEBSOCKETS: _websockets,
    SCAN: _scan,
}
"""How each opens a WebSocket and subscribes, by name."""
