"""A session under floods that have no end: its memory has one."""

from __future__ import annotations

import gc
import json
import logging
import tracemalloc
from collections.abc import Iterator

import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.kit.scripted import CHANNEL, staged, upgrade


# A pointer kept for each frame would be 8 bytes. What comes and goes by itself was seen
# to be below 12,000: buffers, caches, the thousand ended deadlines that trio may keep.
_MOST_GROWTH_BYTES_A_FRAME = 4

# No server answers pings while a flood lasts.
_HOUR_SECONDS = 3600


def _text(event: str, **members: object) -> bytes:
    return _frame(0x81, json.dumps({"event": event, **members}).encode())


def _frame(first: int, payload: bytes) -> bytes:
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    return bytes([first, 126]) + len(payload).to_bytes(2) + payload


_PONG = _text("pusher:pong", data={})
_GREETING = {"socket_id": "1.2", "activity_timeout": _HOUR_SECONDS}
_ACKNOWLEDGED = _text("pusher_internal:subscription_succeeded", channel=CHANNEL)

_FLOODS = {
    # Without messages between them they end the connection.
    "websocket pings": _frame(0x89, b"p" * 125) + _PONG,
    "websocket pongs": _frame(0x8A, b"p" * 125) + _PONG,
    "pings": _text("pusher:ping", data={}),
    "pongs": _PONG,
    "errors": _text("pusher:error", data={"code": 4301, "message": "m" * 99}),
    "greetings": _text("pusher:connection_established", data={"socket_id": "1.2"}),
    "acknowledgements": _ACKNOWLEDGED,
    "refusals": _text("pusher:subscription_error", channel=CHANNEL, data={}),
    "other events": _text("another", channel="other", data="x" * 99),
    "job events": _text("request.status.updated", channel=CHANNEL, data="x" * 99),
    "junk": _frame(0x81, b"junk"),
    "nothing": _frame(0x81, b""),
    "binary": _frame(0x82, b"\x00" * 99),
}

# Those that take ways of their own through the session; all of them are long tests.
_QUICK = ("pings", "errors", "job events", "nothing")


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


async def _flood(stream: trio.abc.Stream, frame: bytes, count: int) -> None:
    """Send a frame so many times, and wait until all of them were read."""
    for _ in range(count // 100):
        await stream.send_all(frame * 100)
        await trio.sleep(1)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *((name, 2000) for name in _QUICK),
        *(pytest.param(name, 20_000, marks=pytest.mark.slow) for name in _FLOODS),
    ],
)
async def test_row_39_no_flood_of_frames_makes_a_session_grow(
    name: str, count: int, autojump_clock: MockClock
) -> None:
    """What is kept after twice as many is the same."""
    kept: list[int] = []
    done = trio.Event()

    async def script(stream: trio.abc.Stream) -> None:
        await upgrade(stream)
        await stream.send_all(_text("pusher:connection_established", data=_GREETING))
        await stream.receive_some()
        await stream.send_all(_ACKNOWLEDGED)
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                while await stream.receive_some():
                    pass

            nursery.start_soon(read)
            for _ in range(2):
                await _flood(stream, _FLOODS[name], count)
                # The last thing that was read is a short message.
                await _flood(stream, _PONG, 200)
                gc.collect()
                kept.append(tracemalloc.get_traced_memory()[0])
            done.set()

    async with staged(
        script,
        deliver=lambda *_: None,
        activity_timeout_seconds=_HOUR_SECONDS,
        timeout_seconds=_HOUR_SECONDS,
    ) as (stage, session):
        await done.wait()
        assert session.statistics.subscribed
        assert session.statistics.frames >= 2 * count
        assert len(stage.server.dials) == 1
    assert kept[1] - kept[0] < _MOST_GROWTH_BYTES_A_FRAME * count
