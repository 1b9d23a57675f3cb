"""A session under floods that have no end: its memory has one."""

from __future__ import annotations

import errno
import gc
import json
import logging
import re
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import structlog
import trio

from bridge.pusher.connection import Channel
from bridge.pusher.session import Session
from bridge.pusher.websocket import open_websocket
from bridge.settings import PusherSettings
from tests.kit.scripted import CHANNEL, CLIENT_ID, URL, FakeAuthorizer, upgrade
from tests.pusher.account import until


# A pointer kept for each frame would be 8 bytes. What comes and goes by itself was seen
# to be below 12,000: buffers, caches, the thousand ended deadlines that trio may keep.
_MOST_GROWTH_BYTES_A_FRAME = 4

# The answer to the mark: two bytes of head, four of mask, four of content.
_PONG_BYTES = 10
_HOUR_SECONDS = 3600

# The longer floods take up to half a minute each, on a quiet machine.
pytestmark = pytest.mark.timeout(300)


def _text(event: str, **members: object) -> bytes:
    text = json.dumps({"event": event, **members}).encode()
    return _frame(0x81, text)


def _frame(first: int, payload: bytes) -> bytes:
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    return bytes([first, 126]) + len(payload).to_bytes(2) + payload


_FLOODS = {
    # Without messages between them they end the connection.
    "websocket pings": _frame(0x89, b"p" * 125) + _text("pusher:pong"),
    "websocket pongs": _frame(0x8A, b"p" * 125) + _text("pusher:pong"),
    "pings": _text("pusher:ping", data={}),
    "pongs": _text("pusher:pong", data={}),
    "errors": _text("pusher:error", data={"code": 4301, "message": "m" * 99}),
    "greetings": _text("pusher:connection_established", data={"socket_id": "1.2"}),
    "acknowledgements": _text(
        "pusher_internal:subscription_succeeded", channel=CHANNEL
    ),
    "refusals": _text("pusher:subscription_error", channel=CHANNEL, data={}),
    "other events": _text("another", channel="other", data="x" * 99),
    "job events": _text("request.status.updated", channel=CHANNEL, data="x" * 99),
    "junk": _frame(0x81, b"junk"),
    "nothing": _frame(0x81, b""),
    "binary": _frame(0x82, b"\x00" * 99),
}

# Those that take ways of their own through the session; all of them are long tests.
_QUICK = ("pings", "errors", "job events", "nothing")


def _has_pong(received: bytearray) -> bool:
    """Look for the pong to the mark; the client's payloads are masked."""
    for found in re.finditer(rb"\x8a\x84(.{4})(.{4})", received, re.DOTALL):
        mask, masked = found.groups()
        if bytes(a ^ b for a, b in zip(mask, masked, strict=True)) == b"mark":
            return True
    return False


class _Flooded:
    """A session, and the server's end of its only connection, as bytes."""

    def __init__(self, session: Session, stream: trio.SocketStream) -> None:
        self.session = session
        self.stream = stream

    async def flood(self, frame: bytes, count: int) -> None:
        """Send a frame so many times, and wait until all of them were read."""
        async with trio.open_nursery() as nursery:
            # All the while: a session whose answers nobody takes reads no further.
            nursery.start_soon(self._read_to_the_mark)
            for _ in range(count // 100):
                await self.stream.send_all(frame * 100)
            await self.stream.send_all(_frame(0x89, b"mark"))

    async def weigh(self) -> int:
        """Weigh what is kept; the last thing that was read is a short message."""
        await self.flood(_text("pusher:pong"), 100)
        await self.flood(_text("pusher:pong"), 100)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    async def _read_to_the_mark(self) -> None:
        received = bytearray()
        while not _has_pong(received):
            # A pong that came in part.
            del received[:-_PONG_BYTES]
            data = await self.stream.receive_some()
            assert data, "the session went"
            received += data


@asynccontextmanager
async def _flooded() -> AsyncIterator[_Flooded]:
    """Subscribe a session over a pair of sockets."""
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())

    async def open_tcp(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if theirs.socket.fileno() < 0:
            raise OSError(errno.ECONNREFUSED, "there is only one")
        return theirs

    channel = Channel(
        CLIENT_ID,
        PusherSettings(
            url=URL,
            # Nobody answers pings while a flood lasts.
            activity_timeout_seconds=_HOUR_SECONDS,
            pong_timeout_seconds=_HOUR_SECONDS,
        ),
        FakeAuthorizer().authorize,
        partial(open_websocket, max_message_bytes=1_000_000, open_tcp=open_tcp),
        lambda *_: None,
    )
    session = Session(channel)
    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        await upgrade(ours)
        await ours.send_all(
            _text(
                "pusher:connection_established",
                data={"socket_id": "1.2", "activity_timeout": _HOUR_SECONDS},
            )
        )
        # The subscription.
        await ours.receive_some()
        await ours.send_all(_FLOODS["acknowledgements"])
        await until(lambda: session.statistics.subscribed)
        yield _Flooded(session, ours)
        # Otherwise an answer to the close frame would be waited for.
        await ours.aclose()
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def _traced() -> Iterator[None]:
    """Trace memory, and write no line for each of thousands of errors."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )
    # What was there before need not be looked through again and again.
    gc.freeze()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.unfreeze()
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *((name, 2000) for name in _QUICK),
        *(pytest.param(name, 20_000, marks=pytest.mark.slow) for name in _FLOODS),
    ],
)
async def test_row_39_no_flood_of_frames_makes_a_session_grow(
    name: str, count: int
) -> None:
    """What is kept after twice as many is the same."""
    frame = _FLOODS[name]
    async with _flooded() as flooded:
        await flooded.flood(frame, count)
        few = await flooded.weigh()
        await flooded.flood(frame, count)
        many = await flooded.weigh()
        assert many - few < _MOST_GROWTH_BYTES_A_FRAME * count
        assert flooded.session.statistics.subscribed
