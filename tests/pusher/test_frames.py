"""
Frames against wsproto alone: whatever a server sends, they say the same.

Only the way differs: whole text messages are handed on, all else comes as events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from bridge.pusher.frames import Frames


_MAX_MESSAGE_BYTES = 70_000

_Said: TypeAlias = tuple[str, object]

_BAD_UTF8 = 1007

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


class _Client:
    """A client's side of a WebSocket and what it said, message by message."""

    def __init__(self, make: Callable[[Callable[[str], bool]], WSConnection]) -> None:
        self.said: list[_Said] = []
        self.short = 0
        self.refusals: Iterator[bool] = iter(())
        self.connection = make(self._take)
        self._parts: list[str | bytes | bytearray] = []
        server = WSConnection(ConnectionType.SERVER)
        server.receive_data(self.connection.send(Request(host="h", target="/")))
        assert [type(event) for event in server.events()] == [Request]
        self.answer = server.send(AcceptConnection())

    @property
    def closed(self) -> bool:
        return bool(self.said) and self.said[-1][0] == "close"

    def feed(self, data: bytes) -> None:
        """Receive as trio_websocket does: nothing after the end."""
        if not self.closed:
            self.connection.receive_data(data)
            for event in self.connection.events():
                self._hear(event)

    def _take(self, text: str) -> bool:
        if next(self.refusals, False):
            return False
        self.short += 1
        self.said.append(("text", text))
        return True

    def _hear(self, event: Event) -> None:
        match event:
            case TextMessage() | BytesMessage():
                self._parts.append(event.data)
                if event.message_finished:
                    empty = self._parts[0][:0]
                    kind = "text" if isinstance(event, TextMessage) else "bytes"
                    self.said.append((kind, empty.join(self._parts)))  # type: ignore[arg-type] # all of one kind
                    self._parts.clear()
            case Ping() | Pong():
                self.said.append((type(event).__name__, bytes(event.payload)))
            case CloseConnection():
                # Where bad UTF-8 stands wsproto counts in each piece anew.
                reason = event.code != _BAD_UTF8 and event.reason
                self.said.append(("close", (event.code, reason)))
            case AcceptConnection():
                self.said.append(("open", None))
            case _:
                pytest.fail(f"{event} is nothing that a server's frames bring")


def _frames(take: Callable[[str], bool]) -> WSConnection:
    return Frames(take, _MAX_MESSAGE_BYTES)


def _alone(_: Callable[[str], bool]) -> WSConnection:
    return WSConnection(ConnectionType.CLIENT)


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
    refusals=st.lists(st.booleans(), max_size=8),
    line_end=st.sampled_from([b"\r\n", b"\n"]),
)
def test_whatever_a_server_sends_is_what_wsproto_says(
    frames: list[bytes], places: list[float], refusals: list[bool], line_end: bytes
) -> None:
    """Cut anywhere, the upgrade's answer too: the same messages, pings and end."""
    stream = b"".join(frames)
    ours, theirs = _Client(_frames), _Client(_alone)
    ours.refusals = iter(refusals)
    for client in (ours, theirs):
        # Some servers end lines with LF alone.
        answer = client.answer.replace(b"\r\n", line_end)
        for piece in _pieces(answer + stream, places):
            client.feed(piece)

    assert ours.said == theirs.said


@settings(max_examples=100)
@given(
    frames=st.lists(_GOOD, max_size=5), places=st.lists(st.floats(0, 1), max_size=12)
)
def test_a_message_is_there_with_its_last_byte(
    frames: list[bytes], places: list[float]
) -> None:
    """Nothing is held back, whatever comes after it."""
    ours, theirs = _Client(_frames), _Client(_alone)
    stream = b"".join(frames)
    for client in (ours, theirs):
        client.feed(client.answer)

    for piece in _pieces(stream, places):
        ours.feed(piece)
        theirs.feed(piece)
        assert ours.said == theirs.said


def test_whole_texts_alone_are_handed_on() -> None:
    """What is neither too long nor refused needs wsproto for nothing else."""
    client = _Client(_frames)
    client.refusals = iter([False, True])
    client.feed(client.answer)
    texts = [b"taken", b"refused", b"", b"x" * 126, b"x" * 65_536, b"x" * 70_000]

    client.feed(b"".join(_frame(_TEXT, text) for text in texts))
    assert client.short == len(texts) - 1
    for other in (
        _frame(_TEXT, b"x" * (_MAX_MESSAGE_BYTES + 1)),
        b"\x01\x01a\x80\x01b",
        _frame(_BINARY, b"taken"),
        _frame(_PING, b"taken"),
    ):
        client.feed(other)

    assert client.short == len(texts) - 1
    assert len(client.said) == 1 + len(texts) + 4


def test_what_is_too_long_is_not_gathered() -> None:
    """Its pieces are given as they come, so that they can be counted and refused."""
    client = _Client(_frames)
    client.feed(client.answer)
    client.connection.receive_data(
        _frame(_TEXT, b"x" * (_MAX_MESSAGE_BYTES + 1))[:1000]
    )

    (event,) = client.connection.events()

    assert isinstance(event, TextMessage)
    assert len(event.data) == 990
    assert not event.message_finished


def test_an_answer_of_very_many_lines_is_read_at_once() -> None:
    """A refusal's body is none of the lines that the upgrade's answer is read by."""
    connection = Frames(lambda _: True, _MAX_MESSAGE_BYTES)
    connection.send(Request(host="h", target="/"))

    connection.receive_data(
        b"HTTP/1.1 404 No\r\nContent-Length: 60000\r\n\r\n" + b"\n" * 60_000
    )

    first, *rest = connection.events()
    assert isinstance(first, RejectConnection)
    assert first.status_code == 404
    assert sum(len(event.data) for event in rest if isinstance(event, RejectData)) == (
        60_000
    )
    assert len(rest) < 10
