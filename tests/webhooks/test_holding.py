"""When webhooks go on that are held, and what becomes of them."""

from __future__ import annotations

import pytest
import trio
from bridge.webhooks.statistics import Release
from trio.testing import MockClock

from bridge.errors import OutboxFullError
from tests.webhooks.holding_house import NOW_US, SECOND, HoldingHouse
from tests.webhooks.making import source_of


_HOUR = 3600 * SECOND


# -- When ---------------------------------------------------------------------------


async def test_with_no_time_to_hold_all_go_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The setting 0 waits for nothing."""
    house = HoldingHouse(hold_seconds=0)
    nursery.start_soon(house.holding.run)
    await trio.sleep(20)
    place = house.take()
    await trio.sleep(0.2)
    assert list(house.left) == [place]
    nursery.cancel_scope.cancel()


async def test_a_webhook_that_nobody_expects_goes_as_well(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The disk was too slow for its sender, and took it all the same."""
    house = HoldingHouse()
    nursery.start_soon(house.holding.run)
    await trio.sleep(100)
    place = house.shelf.put(house.delivery())
    await trio.sleep(60)
    assert list(house.left) == [place]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("jump_us", [-_HOUR, _HOUR])
async def test_a_wall_clock_that_jumps_changes_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock, jump_us: int
) -> None:
    """None is released at once, and none held for an hour."""
    house = HoldingHouse()
    nursery.start_soon(house.holding.run)
    await trio.sleep(5)
    before = house.take()
    await trio.sleep(2)
    house.wall_us += jump_us
    after = house.take()
    await trio.sleep(60)
    assert house.left == {
        before: pytest.approx(15, abs=0.11),
        after: pytest.approx(17, abs=0.11),
    }
    nursery.cancel_scope.cancel()


# -- Of an earlier process ----------------------------------------------------------


@pytest.mark.parametrize(
    ("due_us", "seconds"),
    [(-_HOUR, 0), (-1, 0), (4 * SECOND, 4), (10 * SECOND, 10), (_HOUR, 10)],
)
async def test_what_an_earlier_process_left(
    nursery: trio.Nursery, autojump_clock: MockClock, due_us: int, seconds: float
) -> None:
    """It goes when it is due, and ten seconds after the start at the latest."""
    house = HoldingHouse()
    place = house.shelf.put(house.delivery(due_us=NOW_US + due_us))
    nursery.start_soon(house.holding.run)
    await trio.sleep(60)
    assert house.left == {place: pytest.approx(seconds, abs=0.11)}
    nursery.cancel_scope.cancel()


async def test_a_clock_that_was_ahead_hides_nothing_behind_others(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """However many are held in front, and come meanwhile: all go in their time."""
    house = HoldingHouse()
    ahead = [
        house.shelf.put(house.delivery(due_us=NOW_US + _HOUR + number))
        for number in range(700)
    ]
    letter = house.shelf.put(house.delivery(None, due_us=NOW_US + 2 * _HOUR))
    soon = [
        house.shelf.put(house.delivery(due_us=NOW_US + 5 * SECOND)) for _ in range(1700)
    ]
    nursery.start_soon(house.holding.run)
    await trio.sleep(0.01)
    own = [house.take() for _ in range(1300)]
    await trio.sleep(9.8)
    assert set(house.left) == {letter, *soon}
    await trio.sleep(0.5)
    assert set(house.left) == {letter, *soon, *ahead, *own}
    assert len(house.shelf.released) == len(house.left)
    nursery.cancel_scope.cancel()


# -- What becomes of them -----------------------------------------------------------


async def test_an_account_that_is_gone(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Its webhooks go on; there is no gap of it that could be healed."""
    house = HoldingHouse()
    delivery = house.delivery(client_id="gone")
    assert delivery.record.envelope.ce_source == source_of("gone")
    place = house.shelf.put(delivery)
    nursery.start_soon(house.holding.run)
    await trio.sleep(20)
    assert house.shelf.released == [(place, ())]
    assert (house.asked, house.written) == ([], [])
    assert house.statistics.released[Release.WRITTEN] == 1
    nursery.cancel_scope.cancel()


# -- Many, and trouble --------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["full", "closed"])
async def test_an_outbox_in_trouble_is_asked_again(
    nursery: trio.Nursery, autojump_clock: MockClock, trouble: str
) -> None:
    """Nothing is given up, and nothing is counted until it has left."""
    house = HoldingHouse()
    place = house.shelf.put(house.delivery(due_us=NOW_US + _HOUR))
    nursery.start_soon(house.holding.run)
    await trio.sleep(9)
    house.shelf.is_closed = trouble == "closed"
    house.shelf.error = OutboxFullError("full") if trouble == "full" else None
    await trio.sleep(20)
    assert house.statistics.released == {Release.WRITTEN: 0, Release.SUPERSEDED: 0}
    assert len(house.shelf.asked) < 30
    house.shelf.is_closed, house.shelf.error = False, None
    await trio.sleep(2)
    assert house.shelf.released == [(place, ("gap-1", "gap-2"))]
    assert house.statistics.released[Release.WRITTEN] == 1
    nursery.cancel_scope.cancel()


async def test_it_ends_at_once(autojump_clock: MockClock) -> None:
    """Whatever is waited for: a cancel leaves nothing behind."""
    for seconds, is_silent in ((0.0, True), (0.05, False), (5, False), (15, True)):
        house = HoldingHouse()
        house.shelf.put(house.delivery())
        house.shelf.is_silent = is_silent
        with trio.move_on_after(seconds) as scope:
            await house.holding.run()
        assert scope.cancelled_caught
        assert all(future.cancelled() for future in house.shelf.under_way)
