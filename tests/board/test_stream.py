"""Tests of what browsers are sent and when, with a clock of the tests' own."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from bridge.board.board import Board, Bounds
from bridge.board.web import Stream
from tests.board.records import Page
from tests.consumer.records import START_MS, job_record


class Browser:
    """A browser that takes some time for each event."""

    def __init__(self, *, accepts: bytes = b"gzip, br") -> None:
        self.scope = {"method": "GET", "headers": [(b"accept-encoding", accepts)]}
        self.seconds = 0.0
        self.page: Page | None = None
        self.received: list[tuple[float, bytes]] = []
        self.names: list[str] = []
        self._inflate: Any = None

    async def send(self, message: Any) -> None:
        """Take an event, as ASGI sends it."""
        if message["type"] == "http.response.start":
            if (b"content-encoding", b"gzip") in message["headers"]:
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            return
        await trio.sleep(self.seconds)
        body: bytes = message["body"]
        self.received.append((trio.current_time(), body))
        # Each event is complete: a browser waits for no byte of the next one.
        text = (self._inflate.decompress(body) if self._inflate else body).decode()
        retry, event, data = text.removesuffix("\n\n").split("\n")
        assert retry == "retry: 2000"
        self.names.append(event.removeprefix("event: "))
        if self.names[-1] == "snapshot":
            self.page = Page(data.removeprefix("data: "))
        else:
            assert self.page is not None
            self.page.take(data.removeprefix("data: "))


@asynccontextmanager
async def connected(*browsers: Browser) -> AsyncIterator[tuple[Board, Stream]]:
    """Have browsers connected to a board for the block."""
    board = Board("jobs", Bounds(), START_MS - 900_000)
    stream = Stream(board, Bounds())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        for browser in browsers:
            nursery.start_soon(stream, browser.scope, trio.sleep_forever, browser.send)
        await trio.sleep(0.001)
        yield board, stream
        nursery.cancel_scope.cancel()


async def _busy(board: Board, seconds: float) -> None:
    """Take five hundred events a second for a while."""
    for number in range(int(seconds * 500)):
        record = job_record(f"job-{number % 5}", progress=str(number % 100))
        board.take_jobs([record], START_MS, 0.0)
        await trio.sleep(0.002)


@pytest.mark.parametrize("accepts", [b"gzip, br", b"identity"])
async def test_a_flood_is_four_updates_a_second(
    autojump_clock: trio.testing.MockClock, accepts: bytes
) -> None:
    """However much comes between them, in either encoding."""
    browser = Browser(accepts=accepts)
    async with connected(browser) as (board, _):
        await _busy(board, 5.0)
        await trio.sleep(0.3)
    assert browser.page is not None
    assert {job["progress"] for job in browser.page.jobs.values()} == set(
        range(95, 100)
    )
    assert 20 <= len(browser.received) <= 23
    assert set(browser.names[1:]) == {"update"}


async def test_silence_is_figures_each_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A browser knows by them that the board is still there."""
    browser = Browser()
    async with connected(browser):
        await trio.sleep(10.1)
    assert 10 <= len(browser.received) <= 12


async def test_a_slow_browser_gets_a_snapshot(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One message for all that it missed; nothing queues up."""
    slow = Browser()
    async with connected(slow) as (board, _):
        slow.seconds = 3.0
        await _busy(board, 6.0)
        slow.seconds = 0.0
        await trio.sleep(4.0)
        assert slow.page is not None
        assert slow.page.jobs == Page(board.snapshot(board.figures(0, 0.0))).jobs
    # Two that took three seconds, one that caught up, then figures.
    assert slow.names[:4] == ["snapshot", "update", "snapshot", "snapshot"]
    assert set(slow.names[4:]) == {"update"}
    assert len(slow.names) <= 9


async def test_all_browsers_get_the_same_bytes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A hundred of them: each message is encoded once."""
    browsers = [Browser() for _ in range(100)]
    async with connected(*browsers) as (board, stream):
        await _busy(board, 3.0)
        assert stream.browsers == 100
    messages = {id(body) for browser in browsers for _, body in browser.received[1:]}
    assert len(messages) <= 13
    assert all(len(browser.received) > 10 for browser in browsers)
