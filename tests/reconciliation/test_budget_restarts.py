"""What a budget leaves to the next process, and what that makes of it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from bridge.reconciliation.budget import Budget, Purpose
from bridge.reconciliation.limits import Limits
from bridge.record import Spent
from tests.reconciliation.limited import (
    BASIC,
    DAY_SECONDS,
    NOON_US,
    LimitedApi,
    ask_many,
    make_budget,
    now_us,
)


HOUR_US = 3600 * 1_000_000


async def test_the_days_count_is_told_as_it_changes(autojump_clock: MockClock) -> None:
    """With its begin, its first call's answer; and not when nothing changes."""
    told: list[Spent] = []
    budget = make_budget(on_spent=told.append)
    await trio.sleep(5)
    assert await budget.acquire(Purpose.GAP)
    await trio.sleep(2)
    budget.learn(BASIC, failed=False)
    await trio.sleep(3)
    assert await budget.acquire(Purpose.GAP)
    budget.learn(Limits(50, 48, 200, 198), failed=False)
    at_5, at_7 = NOON_US + 5_000_000, NOON_US + 7_000_000
    assert told == [Spent(at_5, 1), Spent(at_7, 1), Spent(at_7, 2)]
    assert budget.spent() == told[-1]
    budget.learn(Limits(50, 17, 200, 100), failed=False)
    assert told[-1] == Spent(at_7, 100)


async def test_a_budget_that_spent_nothing_says_so(autojump_clock: MockClock) -> None:
    """There is no day before the first call, and none after it is over."""
    budget = make_budget()
    await trio.sleep(5)
    assert budget.spent() == Spent(now_us(), 0)
    assert await budget.acquire(Purpose.GAP)
    budget.learn(BASIC, failed=False)
    await trio.sleep(DAY_SECONDS)
    assert budget.spent() == Spent(now_us(), 0)
    assert budget.remaining_day == 150


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


async def test_calls_of_before_may_all_have_been_for_silent_jobs(
    autojump_clock: MockClock,
) -> None:
    """So restarts don't multiply their share."""
    for calls, allowed in ((30, 7), (37, 0), (100, 0)):
        budget = make_budget(spent=Spent(NOON_US, calls))
        api = LimitedApi(tells=False)
        assert await ask_many(api, budget, 100, purpose=Purpose.SILENT) == allowed


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


@pytest.mark.parametrize("hours", [-10_000, -1, 1, 10_000])
async def test_a_clock_that_is_set_meanwhile_changes_nothing(
    autojump_clock: MockClock, hours: int
) -> None:
    """The day lasts its 24 h, and its begin is told by the clock as it is now."""
    wrong_us = 0

    def clock() -> int:
        return now_us() + wrong_us

    budget = Budget(reserve_percent=25, now_us=clock)
    api = LimitedApi()
    assert await ask_many(api, budget, 1000) == 150
    wrong_us = hours * HOUR_US
    assert not await budget.acquire(Purpose.GAP)
    left = budget.spent()
    assert left.since_us == NOON_US + wrong_us
    next_one = Budget(reserve_percent=25, now_us=clock, spent=left)
    for each in (budget, next_one):
        assert not await each.acquire(Purpose.GAP)
    await trio.sleep_until(DAY_SECONDS)
    for each in (budget, next_one):
        assert await each.acquire(Purpose.GAP)


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


async def test_calls_at_the_turn_of_the_day_count_for_both(
    autojump_clock: MockClock,
) -> None:
    """Which of the server's days they reach is not known; nor is how long it lasts."""
    budget = make_budget(told=BASIC)
    assert await budget.acquire(Purpose.GAP)
    budget.learn(Limits(), failed=False)
    await trio.sleep(DAY_SECONDS - 5)
    for _ in range(2):
        assert await budget.acquire(Purpose.GAP)
    await trio.sleep(10)
    assert budget.remaining_day == 148
    assert await budget.acquire(Purpose.GAP)
    await trio.sleep(5)
    for _ in range(3):
        budget.learn(Limits(), failed=False)
    assert budget.remaining_day == 147
    # The new day began with the last of these answers.
    await trio.sleep(DAY_SECONDS - 1)
    assert budget.remaining_day == 147
    await trio.sleep(1)
    assert budget.remaining_day == 150
