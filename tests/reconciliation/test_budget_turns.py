"""Whose turn it is to make a call, under trio's clock."""

from __future__ import annotations

import trio
from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.limits import Limits
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.reconciliation.limited import (
    BASIC,
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
