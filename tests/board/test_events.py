"""Tests of when browsers are told, in a time of the tests' own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from bridge.board import board as boards
from bridge.board.board import Board, Bounds, Filter
from bridge.board.events import Events
from tests.board.records import Page
from tests.consumer.records import START_MS, job_record


class Browser:
    """A browser that takes each event when it is let to."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.page: Page | None = None
        self.told_at: list[float] = []
        self.is_gone = False

    async def send(self, message: Any) -> None:
        """Take an event, as ASGI sends it."""
        await trio.sleep(self.seconds)
        if self.is_gone:
            raise OSError
        body: bytes = message["body"]
        assert message["more_body"]
        self.told_at.append(trio.current_time())
        head, _, data = body.rstrip(b"\n").rpartition(b"\ndata: ")
        if self.page is None:
            assert head == b"retry: 2000\n\nevent: snapshot"
            self.page = Page(data)
        else:
            assert head == b"event: update"
            self.page.take(data)


def _board() -> Board:
    return Board("jobs", Bounds(), START_MS - 900_000)


@asynccontextmanager
async def told(
    board: Board, *browsers: Browser, wanted: Filter | None = None
) -> AsyncIterator[Events]:
    """Have browsers told for the block."""
    events = Events(
        board, Bounds(), clock=lambda: START_MS / 1000, monotonic=lambda: 0.0
    )

    async def tell(browser: Browser) -> None:
        try:
            await events.tell(wanted or Filter(), browser.send)
        except OSError:
            assert browser.is_gone

    async with trio.open_nursery() as nursery:
        nursery.start_soon(events.run)
        for browser in browsers:
            nursery.start_soon(tell, browser)
        yield events
        nursery.cancel_scope.cancel()


async def _busy(board: Board, seconds: float) -> None:
    """Let events come for a while, five hundred times a second."""
    for number in range(int(seconds * 500)):
        record = job_record(f"job-{number % 5}", progress=str(number % 100))
        board.take_jobs([record], START_MS, 0.0)
        await trio.sleep(0.002)


async def test_a_flood_is_four_updates_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """However much comes between them."""
    board, browser = _board(), Browser()
    async with told(board, browser):
        await _busy(board, 5.0)
        await trio.sleep(0.3)
    assert browser.page is not None
    assert browser.page.version == board.version
    assert len(browser.page.jobs) == 5
    assert 20 <= len(browser.told_at) <= 23


async def test_silence_is_figures_each_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A browser learns that somebody is still there."""
    browser = Browser()
    async with told(_board(), browser):
        await trio.sleep(10.1)
    assert 10 <= len(browser.told_at) <= 12


async def test_a_slow_browser_gets_what_is_true_by_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One update for all that it missed, and nothing of what was true between."""
    board, slow = _board(), Browser()
    async with told(board, slow):
        await trio.sleep(0.1)
        slow.seconds = 3.0
        await _busy(board, 6.0)
        slow.seconds = 0.0
        await trio.sleep(4.0)
    # The snapshot, two that took three seconds, one that caught up, then figures.
    assert len(slow.told_at) <= 8
    assert slow.page is not None
    assert slow.page.version == board.version


async def test_browsers_that_see_the_same_cost_one_update(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A hundred of them get the same bytes, made once for each moment."""
    board, made = _board(), 0
    update = Board.update

    def counted(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        return update(*arguments)

    monkeypatch.setattr(boards.Board, "update", counted)
    browsers = [Browser() for _ in range(100)]
    async with told(board, *browsers) as events:
        await _busy(board, 3.0)
        assert events.browsers == 100
    assert made <= 13
    assert all(len(browser.told_at) > 10 for browser in browsers)
