"""Cancelling the reconciler at every await it makes.

It runs a whole life: two gaps that overlap, a silent job, failures, an outbox that has
no room for a while. It is run again and again, cancelled one step of the scheduler
later each time, until a run ends by itself. After each nothing may be left, and nothing
said that isn't so.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from bridge.reconciliation.budget import Purpose
from trio.testing import MockClock

from bridge.settings import ReconciliationSettings
from tests.reconciliation.world import FAILED, NOT_FOUND, World, answered


class _CancelAfter(trio.abc.Instrument):
    """Calls back after a number of the scheduler's steps."""

    def __init__(self, steps: int, callback: Callable[[], None]) -> None:
        self.steps = steps
        self._callback = callback

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's
        self.steps -= 1
        if self.steps == 0:
            self._callback()


async def _live(world: World, cancel_after: int) -> bool:
    """Live that life, cancelled after so many steps; give whether it was."""
    world.pace.every_seconds = 1
    world.run_jobs(["done", "gone", "fails", "heard"])
    world.run_jobs(["silent"], age_seconds=world.settings.silent_after_seconds)
    world.dryapi.answers = {
        "done": answered("done"), "gone": NOT_FOUND, "fails": FAILED
    }  # fmt: skip
    world.dryapi.before_answer = lambda name: world.outbox.hear(
        "42", "heard" if name == "gone" else "another"
    )
    world.outbox.is_open = False
    scope = trio.CancelScope()
    instrument = _CancelAfter(cancel_after, scope.cancel)

    async def go_on() -> None:
        await trio.sleep(2)
        world.close_gap()
        await trio.sleep(20)
        world.outbox.open()
        world.dryapi.answers["fails"] = answered("error")
        await trio.sleep(90)
        scope.cancel()

    trio.lowlevel.add_instrument(instrument)
    try:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.reconciler.run)
                nursery.start_soon(go_on)
                world.close_gap()
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.steps <= 0


@pytest.mark.parametrize("enabled", [True, False])
async def test_cancelling_leaves_nothing(
    threads_at_once: None, autojump_clock: MockClock, *, enabled: bool
) -> None:
    """No call, no answer that is waited for, no task, and nothing untrue is said."""
    statistics = trio.lowlevel.current_statistics()
    steps, complete = 0, 0
    was_cancelled = True
    while was_cancelled:
        steps += 1
        world = World(settings=ReconciliationSettings(enabled=enabled))
        was_cancelled = await _live(world, steps)
        assert world.dryapi.now == 0
        assert world.pace.under_way == 0
        assert world.outbox.kept == 0
        after = trio.lowlevel.current_statistics()
        assert after.tasks_living == statistics.tasks_living
        # Each job of a gap that is said to be known or unknown is one.
        waiting = world.reconciler.statistics.waiting["42", Purpose.GAP]
        complete += waiting == 0 and bool(world.ledger.settled)
        for settled in world.ledger.settled:
            assert settled.unknown <= (2 if enabled else 5)
    assert steps > (50 if enabled else 20)
    assert complete > 1
