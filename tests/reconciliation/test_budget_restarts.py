"""What a budget leaves to the next process, and what that makes of it."""

from __future__ import annotations

import pytest
import trio
from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.limits import Limits
from trio.testing import MockClock

from bridge.outbox.values import Spent
from tests.reconciliation.limited import (
    DAY_SECONDS,
    NOON_US,
    LimitedApi,
    ask_many,
    make_budget,
)


HOUR_US = 3600 * 1_000_000


async def test_a_restart_goes_on_with_the_day(autojump_clock: MockClock) -> None:
    """What is left is what was left, until the day is over that had begun."""
    left = Spent(NOON_US - 20 * HOUR_US, 120)
    budget = make_budget(spent=left)
    assert budget.spent() == left
    assert budget.remaining_day == 30
    api = LimitedApi(tells=False)
    assert await ask_many(api, budget, 1000) == 30
    assert not await budget.acquire(Purpose.GAP)
    await trio.sleep_until(4 * 3600 - 1)
    assert not await budget.acquire(Purpose.GAP)
    await trio.sleep(1)
    assert await ask_many(api, budget, 1000) == 150


async def test_the_next_answer_corrects_what_was_left(
    autojump_clock: MockClock,
) -> None:
    """The server's day may have ended meanwhile, or the user may have called."""
    for remaining, left in ((199, 149), (60, 10)):
        budget = make_budget(spent=Spent(NOON_US, 120))
        assert await budget.acquire(Purpose.GAP)
        budget.learn(Limits(50, 49, 200, remaining), failed=False)
        assert budget.remaining_day == left


@pytest.mark.parametrize("hours", [24, 25, 10_000])
async def test_a_day_that_is_over_is_forgotten(
    autojump_clock: MockClock, hours: int
) -> None:
    """The process may have been away for long."""
    assert make_budget(spent=Spent(NOON_US - hours * HOUR_US, 150)).remaining_day == 150


async def test_a_clock_that_was_set_back_blocks_for_a_day_at_most(
    autojump_clock: MockClock,
) -> None:
    """A day that begins tomorrow, or in ten years, has begun now."""
    budget = make_budget(spent=Spent(NOON_US + 87_600 * HOUR_US, 150))
    assert not await budget.acquire(Purpose.GAP)
    await trio.sleep(DAY_SECONDS - 1)
    assert not await budget.acquire(Purpose.GAP)
    await trio.sleep(1)
    assert await budget.acquire(Purpose.GAP)


async def test_a_day_that_the_server_ended_stays_ended(
    autojump_clock: MockClock,
) -> None:
    """The next process waits as long as the server has said."""
    budget = make_budget()
    assert await budget.acquire(Purpose.GAP)
    budget.learn(Limits(retry_after_seconds=7200, limited_by="daily"), failed=False)
    next_one = make_budget(spent=budget.spent())
    await trio.sleep(7199)
    assert not await next_one.acquire(Purpose.GAP)
    await trio.sleep(1)
    assert await next_one.acquire(Purpose.GAP)


async def test_an_account_without_a_day_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    """Else its next process, which assumes a Basic account, could never find out."""
    told: list[Spent] = []
    budget = make_budget(on_spent=told.append)
    api = LimitedApi(300, None)
    assert await ask_many(api, budget, 1000) == 1000
    assert told[-1].calls == 0
    assert await ask_many(api, make_budget(spent=told[-1]), 1000) == 1000
    assert api.refused == 0
