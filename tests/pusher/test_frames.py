"""What is delivered, against plain wsproto: whatever a server sends, they agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeAlias

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Request,
    TextMessage,
)

from bridge.errors import ConnectionLostError
from bridge.pusher.websocket import Message, open_websocket
from tests.kit.scripted import PassingStream


_MAX_MESSAGE_BYTES = 70_000

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A

_Event: TypeAlias = tuple[str, object]


def _expected(stream: bytes) -> list[_Event]:
    """Decode a server's frames with wsproto, and a message above the limit as 1009."""
    client, server = WSConnection(ConnectionType.CLIENT), _server()
    server.receive_data(client.send(Request(host="h", target="/")))
    client.receive_data(_answer(server))
    list(client.events())
    client.receive_data(stream)
    found: list[_Event] = []
    parts: list[str | bytes] = []
    for event in client.events():
        match event:
            case TextMessage() | BytesMessage():
                part = event.data if isinstance(event.data, str) else bytes(event.data)
                parts.append(part)
                message = part[:0].join(parts)  # type: ignore[arg-type] # of one kind
                if len(message) > _MAX_MESSAGE_BYTES:
                    return [*found, ("end", 1009)]
                if event.message_finished:
                    found.append(("message", message))
                    parts.clear()
            case Ping():
                found.append(("ping", bytes(event.payload)))
            case CloseConnection():
                return [*found, ("end", event.code)]
    return [*found, ("end", None)]


def _server() -> WSConnection:
    return WSConnection(ConnectionType.SERVER)


def _answer(server: WSConnection) -> bytes:
    """Accept the upgrade that a server has received."""
    assert [type(event) for event in server.events()] == [Request]
    return server.send(AcceptConnection())


class _Watched(PassingStream):
    """A stream that notes the pongs that are sent."""

    def __init__(self, stream: trio.abc.Stream, found: list[_Event]) -> None:
        super().__init__(stream)
        self._found = found
        self._upgrade_sent = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await super().send_all(data)
        frame = bytes(data)
        if self._upgrade_sent and frame[0] == _PONG:
            # One frame at a time, masked, at most 125 bytes.
            mask, payload = frame[2:6], frame[6:]
            raw = bytes(each ^ mask[at % 4] for at, each in enumerate(payload))
            self._found.append(("ping", raw))
        self._upgrade_sent = True


async def _delivered(
    frames: bytes, places: Sequence[float], line_end: bytes
) -> list[_Event]:
    """Read a server's frames, cut at some places, over an open WebSocket."""
    client, server = trio.testing.memory_stream_pair()
    found: list[_Event] = []

    async def serve() -> None:
        protocol = _server()
        protocol.receive_data(bytes(await server.receive_some()))
        # Some servers end lines with LF only.
        answer = _answer(protocol).replace(b"\r\n", line_end)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for piece in _pieces(answer + frames, places):
                await server.send_all(piece)
                await wait_all_tasks_blocked()
            await server.send_eof()

    async def open_tcp(*_: object) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return _Watched(client, found)

    def receive(messages: Sequence[Message]) -> bool:
        found.extend(("message", message) for message in messages)
        return True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            async with open_websocket(
                "ws://pusher.test",
                receive,
                max_message_bytes=_MAX_MESSAGE_BYTES,
                open_tcp=open_tcp,
            ):
                await trio.sleep_forever()
        except ConnectionLostError as error:
            found.append(("end", error.code))
        nursery.cancel_scope.cancel()
    return found


def _frame(first: int, content: bytes, *, longer: int = 0, mask: bool = False) -> bytes:
    """Write a frame; `longer` takes a longer form of the length than it needs."""
    length, masked = len(content), 0x80 if mask else 0
    key = b"mask" if mask else b""
    if longer == 2 or length > 65_535:
        return bytes((first, 127 | masked)) + length.to_bytes(8, "big") + key + content
    if longer == 1 or length > 125:
        return bytes((first, 126 | masked)) + length.to_bytes(2, "big") + key + content
    return bytes((first, length | masked)) + key + content


_LENGTHS = st.one_of(
    st.integers(0, 40),
    st.sampled_from([125, 126, 127, 300, 65_535, 65_536, 69_999, 70_000, 70_001]),
)

# One, two and three bytes a character.
_TEXTS = st.builds(
    lambda letter, length: (letter * length).encode(), st.sampled_from("xü€"), _LENGTHS
).filter(lambda raw: len(raw) < 150_000)

_CONTROLS = st.builds(_frame, st.sampled_from([_PING, _PONG]), st.binary(max_size=125))


@st.composite
def _fragmented(draw: st.DrawFn) -> bytes:
    """A message in several frames, between which there may be pings."""
    raw = draw(_TEXTS)
    first = draw(st.sampled_from([_TEXT, _BINARY]))
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=3)))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    frames = []
    for place, part in enumerate(parts):
        opcode = first & 0x0F if place == 0 else 0
        fin = 0x80 if place == len(parts) - 1 else 0
        frames.append(_frame(fin | opcode, part))
        frames += draw(st.lists(_CONTROLS, max_size=1)) if not fin else []
    return b"".join(frames)


_GOOD = st.one_of(
    st.builds(_frame, st.just(_TEXT), _TEXTS),
    st.builds(_frame, st.just(_TEXT), _TEXTS),
    st.builds(_frame, st.just(_BINARY), st.binary(max_size=300)),
    _CONTROLS,
    _fragmented(),
)

# What ends a connection, by its sender's will or by a rule.
_ENDS = st.one_of(
    st.builds(
        _frame, st.just(_CLOSE), st.sampled_from([b"", b"\x10\x04", b"\x03\xe8bye"])
    ),
    st.builds(_frame, st.integers(0, 255), st.binary(max_size=200)),
    st.builds(_frame, st.just(_TEXT), _TEXTS, longer=st.integers(1, 2)),
    st.builds(_frame, st.just(_TEXT), _TEXTS, mask=st.just(value=True)),
    st.builds(lambda text: _frame(_TEXT, text + b"\xff"), _TEXTS),
    st.builds(lambda text: b"\x01\x02go" + _frame(_TEXT, text), _TEXTS),
    st.builds(lambda length: b"\x81\x7f" + length, st.binary(min_size=8, max_size=8)),
)

_STREAMS = st.lists(st.one_of(_GOOD, _GOOD, _GOOD, _ENDS), max_size=8)


def _pieces(stream: bytes, places: Iterable[float]) -> Iterator[bytes]:
    cuts = sorted({int(place * len(stream)) for place in places} - {0, len(stream)})
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        yield stream[a:b]


@settings(max_examples=200)
@given(
    frames=_STREAMS,
    places=st.lists(st.floats(0, 1), max_size=12),
    line_end=st.sampled_from([b"\r\n", b"\n"]),
)
def test_rows_24_39_41_whatever_a_server_sends_is_what_wsproto_decodes(
    frames: list[bytes], places: list[float], line_end: bytes
) -> None:
    """Cut anywhere, the upgrade's answer too: the same messages, pings and end."""
    stream = b"".join(frames)
    delivered = trio.run(
        _delivered, stream, places, line_end, clock=MockClock(autojump_threshold=0)
    )
    assert delivered == _expected(stream)
