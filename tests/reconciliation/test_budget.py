"""How many calls may be made, by the own count and by what is told."""

from __future__ import annotations

import pytest
import trio
from bridge.reconciliation.budget import Budget, Purpose
from bridge.reconciliation.limits import Limits
from trio.testing import MockClock

from bridge.outbox.values import Spent
from tests.reconciliation.limited import (
    BASIC,
    NOON_US,
    LimitedApi,
    ask_many,
    calls_now,
    make_budget,
)


async def test_answers_without_limits_leave_the_own_count(
    autojump_clock: MockClock,
) -> None:
    """A server that tells nothing is taken for one of a Basic account."""
    api, budget = LimitedApi(tells=False), make_budget()
    assert await ask_many(api, budget, 1000) == 150
    assert api.most_in_a_minute == 37
    assert api.refused == 0


async def test_an_answer_with_a_minute_alone_tells_that_there_is_no_day(
    autojump_clock: MockClock,
) -> None:
    """But a failure or a refusal, which may be another server's, does not."""
    minute = Limits(300, 299)
    for refusal in (
        Limits(300, 0, retry_after_seconds=1, limited_by="minute"),
        Limits(retry_after_seconds=1, limited_by="minute"),
        Limits(),
    ):
        budget = make_budget()
        budget.learn(refusal, failed=False)
        assert budget.remaining_day == 150
    days = []
    for told, failed in ((minute, True), (minute, False), (BASIC, False)):
        budget.learn(told, failed=failed)
        days.append(budget.remaining_day)
    assert days == [150, None, 149]


@pytest.mark.parametrize(("reserve", "minute", "day"), [(0, 50, 200), (99, 0, 2)])
async def test_the_reserve_is_of_both(
    autojump_clock: MockClock, reserve: int, minute: int, day: int
) -> None:
    """A share is rounded in favour of the user's own programs."""
    budget = make_budget(reserve)
    assert (budget.remaining_minute, budget.remaining_day) == (minute, day)
    assert await calls_now(budget) == minute


async def test_who_reserves_everything_is_never_asked(
    autojump_clock: MockClock,
) -> None:
    """No call is waited for that can't be made on any day."""
    assert not await make_budget(100).acquire(Purpose.GAP)
    assert not await make_budget(99).acquire(Purpose.GAP)


@pytest.mark.parametrize(
    ("told", "minute", "day"),
    [
        (Limits(50, 49, 200, 199), 36, 149),
        (Limits(50, 20, 200, 199), 7, 149),
        (Limits(50, 13, 200, 199), 0, 149),
        (Limits(50, 5, 200, 199), 0, 149),
        (Limits(50, 49, 200, 60), 36, 10),
        (Limits(50, 49, 200, 50), 36, 0),
        (Limits(50, 99, 200, 999), 37, 150),
        (Limits(minute_remaining=20, day_remaining=60), 7, 10),
        (Limits(300, 299, 5000, 4999), 224, 3749),
    ],
)
async def test_what_is_told_lowers_the_count(
    autojump_clock: MockClock, told: Limits, minute: int, day: int
) -> None:
    """Calls of the user's own programs are known from the headers alone."""
    budget = make_budget()
    assert await budget.acquire(Purpose.GAP)
    budget.learn(told, failed=False)
    assert (budget.remaining_minute, budget.remaining_day) == (minute, day)


async def test_what_is_told_raises_the_count(autojump_clock: MockClock) -> None:
    """A server that has forgotten calls may be asked as often again."""
    budget = make_budget()
    assert await calls_now(budget) == 37
    await trio.sleep(60)
    for _ in range(30):
        assert await budget.acquire(Purpose.GAP)
        budget.learn(Limits(), failed=False)
    assert (budget.remaining_minute, budget.remaining_day) == (7, 83)
    assert await budget.acquire(Purpose.GAP)
    budget.learn(Limits(50, 49, 200, 199), failed=False)
    assert (budget.remaining_minute, budget.remaining_day) == (36, 149)


async def test_a_call_that_was_not_made_costs_nothing(
    autojump_clock: MockClock,
) -> None:
    """One that was cancelled half-way does: it may have arrived."""
    budget = make_budget(told=BASIC)
    before = (budget.remaining_minute, budget.remaining_day)
    for purpose in Purpose:
        assert await budget.acquire(purpose)
        budget.abandon(was_made=False)
    assert (budget.remaining_minute, budget.remaining_day) == before
    assert await budget.acquire(Purpose.GAP)
    budget.abandon()
    assert (budget.remaining_minute, budget.remaining_day) == (35, 148)
    assert not budget.is_backing_off


async def test_the_numbers_can_be_read_in_any_thread(autojump_clock: MockClock) -> None:
    """Metrics are written in one that isn't trio's."""
    budget = Budget(reserve_percent=25, now_us=lambda: NOON_US)
    budget.learn(BASIC, failed=False)

    def read() -> tuple[int | None, int | None, bool, Spent]:
        return (
            budget.remaining_minute,
            budget.remaining_day,
            budget.is_backing_off,
            budget.spent(),
        )

    here = read()
    assert await trio.to_thread.run_sync(read) == here
    assert here == (36, 149, False, Spent(NOON_US, 1))
