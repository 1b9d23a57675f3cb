"""Whose turn it is to make a call, under trio's clock."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.limits import Limits
from tests.reconciliation.limited import (
    BASIC,
    DAY_SECONDS,
    LimitedApi,
    ask_many,
    calls_now,
    make_budget,
)


async def test_silent_jobs_get_a_quarter_of_a_minute(autojump_clock: MockClock) -> None:
    """9 of 37; the rest is there for gaps, and after 60 s there are 9 again."""
    api, budget = LimitedApi(), make_budget()
    assert await ask_many(api, budget, 18, purpose=Purpose.SILENT) == 18
    assert trio.current_time() == 60
    assert await calls_now(budget) == 37 - 9


async def test_silent_jobs_get_a_quarter_of_a_day(autojump_clock: MockClock) -> None:
    """37 of 150, then none until the next day, while gaps have the rest."""
    api, budget = LimitedApi(), make_budget()
    assert await ask_many(api, budget, 1000, purpose=Purpose.SILENT) == 37
    assert not await budget.acquire(Purpose.SILENT)
    assert await ask_many(api, budget, 1000) == 150 - 37
    await trio.sleep_until(DAY_SECONDS)
    assert await ask_many(api, budget, 1000, purpose=Purpose.SILENT) == 37


async def test_silent_jobs_get_a_quarter_of_what_the_user_leaves(
    autojump_clock: MockClock,
) -> None:
    """If only 20 calls are left for the bridge, 5 of them are for silent jobs."""
    api, budget = LimitedApi(), make_budget()
    for _ in range(3):
        for _ in range(43):
            api.call(is_own=False)
        await trio.sleep(60)
    assert await ask_many(api, budget, 1000, purpose=Purpose.SILENT) == 5
    assert await ask_many(api, budget, 1000) == 200 - 50 - 3 * 43 - 5


async def test_silent_jobs_wait_while_a_gap_waits(autojump_clock: MockClock) -> None:
    """Who came first doesn't matter between the two."""
    budget = make_budget(told=BASIC)
    for _ in range(4):
        assert await budget.acquire(Purpose.GAP)
    served: list[Purpose] = []

    async def acquire(purpose: Purpose) -> None:
        assert await budget.acquire(purpose)
        served.append(purpose)

    async with trio.open_nursery() as nursery:
        for purpose in (Purpose.SILENT, Purpose.GAP, Purpose.SILENT, Purpose.GAP):
            nursery.start_soon(acquire, purpose)
            await wait_all_tasks_blocked()
        for _ in range(4):
            budget.learn(Limits(), failed=False)
            await wait_all_tasks_blocked()
    assert served == [Purpose.GAP] * 2 + [Purpose.SILENT] * 2


async def test_a_gap_that_is_given_up_lets_silent_jobs_through(
    autojump_clock: MockClock,
) -> None:
    """Nobody waits for a caller that has gone."""
    budget = make_budget(told=Limits(limited_by="minute", retry_after_seconds=30))
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(budget.acquire, Purpose.GAP)
            await wait_all_tasks_blocked()
            scope.cancel()
    assert await budget.acquire(Purpose.SILENT)
    assert trio.current_time() == 30


async def test_callers_are_served_in_their_order(autojump_clock: MockClock) -> None:
    """None overtakes another, whatever it is that they wait for."""
    api, budget = LimitedApi(), make_budget()
    served: list[int] = []

    async def call(number: int) -> None:
        assert await budget.acquire(Purpose.GAP)
        served.append(number)
        await trio.sleep(0.1)
        limits, failed = api.call()
        budget.learn(limits, failed=failed)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(call, number)
            await wait_all_tasks_blocked()
    assert served == list(range(100))


async def test_cancelled_callers_leave_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    """They count nothing, and those behind them are served in time."""
    budget = make_budget(told=Limits(limited_by="minute", retry_after_seconds=30))
    before = budget.spent()
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for purpose in (*Purpose, *Purpose):
                nursery.start_soon(budget.acquire, purpose)
    assert budget.spent().calls == before.calls
    assert budget.remaining_minute == 37
    assert await budget.acquire(Purpose.GAP)
    assert trio.current_time() == 30
    with trio.CancelScope() as scope:
        scope.cancel()
        await budget.acquire(Purpose.GAP)
    assert budget.remaining_minute == 36
