"""What the budget does when the server refuses or fails, under trio's clock."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.limits import Limits
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.reconciliation.limited import (
    BASIC,
    LimitedApi,
    ask_many,
    is_free,
    make_budget,
)


async def test_one_call_asks_how_things_are_and_then_four_go(
    autojump_clock: MockClock,
) -> None:
    """After the start, a failure and a refusal nobody knows what is left."""

    async def under_way() -> int:
        calls = 0
        while await is_free(budget):
            calls += 1
        return calls

    budget = make_budget()
    assert await under_way() == 1
    budget.learn(BASIC, failed=False)
    assert await under_way() == 4
    budget.learn(Limits(), failed=True)
    for _ in range(3):
        budget.abandon()
    await trio.sleep(2)
    assert await under_way() == 1
    wait = Limits(50, 0, 200, 190, retry_after_seconds=5, limited_by="minute")
    budget.learn(wait, failed=False)
    await trio.sleep(5)
    assert await under_way() == 1
    budget.learn(BASIC, failed=False)
    assert await under_way() == 4


async def test_a_day_that_is_used_up_is_over(autojump_clock: MockClock) -> None:
    """Who waits is told at once; it goes on after the time that the server says."""
    budget = make_budget(told=BASIC)
    answers: list[bool] = []

    async def acquire() -> None:
        answers.append(await budget.acquire(Purpose.GAP))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(acquire)
        await wait_all_tasks_blocked()
        assert answers == [True] * 4
        for _ in range(4):
            refusal = Limits(50, 50, 200, 0, 3600, limited_by="daily")
            budget.learn(refusal, failed=False)
    assert answers == [True] * 4 + [False]
    assert budget.remaining_day == 0
    await trio.sleep(3599)
    assert not await budget.acquire(Purpose.GAP)
    await trio.sleep(1)
    assert budget.remaining_day == 150
    assert await budget.acquire(Purpose.GAP)


async def test_failures_double_the_wait_up_to_a_minute(
    autojump_clock: MockClock,
) -> None:
    """From 1 s to 60 s with jitter; an answer ends it."""
    budget = make_budget()
    moments: list[float] = []
    for _ in range(12):
        assert await budget.acquire(Purpose.GAP)
        moments.append(trio.current_time())
        budget.learn(Limits(), failed=True)
        assert budget.is_backing_off
    waits = [later - earlier for earlier, later in pairwise(moments)]
    for number, wait in enumerate(waits, 1):
        longest = min(60, 2**number)
        assert longest / 2 <= wait <= longest
    assert len({wait / 60 for wait in waits[6:]}) > 1
    assert await budget.acquire(Purpose.GAP)
    budget.learn(BASIC, failed=False)
    assert not budget.is_backing_off
    assert await budget.acquire(Purpose.GAP)
    budget.learn(Limits(), failed=True)
    began = trio.current_time()
    assert await budget.acquire(Purpose.GAP)
    assert trio.current_time() - began <= 2


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(40, 40, 40), (0, 1, 2), (9000, 300, 300)]
)
async def test_a_failing_server_may_ask_for_a_longer_wait(
    autojump_clock: MockClock, asked: float, least: float, most: float
) -> None:
    """Five minutes at most: a 503 doesn't know how long it lasts."""
    budget = make_budget()
    assert await budget.acquire(Purpose.GAP)
    budget.learn(Limits(retry_after_seconds=asked), failed=True)
    assert await budget.acquire(Purpose.GAP)
    assert least <= trio.current_time() <= most


async def test_an_incident_does_not_use_the_day_up(autojump_clock: MockClock) -> None:
    """Calls that failed are none of the day's, whatever they were for."""
    api, budget = LimitedApi(), make_budget()
    api.is_broken = True
    with trio.move_on_after(6 * 3600):
        await ask_many(api, budget, 10_000)
    with trio.move_on_after(6 * 3600):
        await ask_many(api, budget, 10_000, purpose=Purpose.SILENT)
    assert budget.spent().calls == 0
    api.is_broken = False
    assert await ask_many(api, budget, 1000, purpose=Purpose.SILENT) == 37
    assert await ask_many(api, budget, 1000) == 150 - 37
    assert api.refused == 0
