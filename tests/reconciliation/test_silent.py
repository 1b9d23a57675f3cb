"""Which jobs are asked about because nothing is heard of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.reconciler import LOOK_SECONDS
from structlog.testing import capture_logs
from trio.testing import MockClock

from bridge.settings import ReconciliationSettings
from tests.reconciliation.world import (
    KEEP_JOBS_SECONDS,
    NOT_FOUND,
    World,
    answered,
    now_us,
)


# Of one account, asked about without a gap.
AFTER = ReconciliationSettings().silent_after_seconds


async def test_silent_job_is_asked_about(
    world: World, autojump_clock: MockClock
) -> None:
    """Its end is written, though there was no gap; others are left alone."""
    world.run_jobs(["silent"], age_seconds=AFTER - 100)
    world.run_jobs(["young"], age_seconds=AFTER - 1000 - 100)
    world.dryapi.default = answered("error")
    await world.runs(100 + LOOK_SECONDS + 1)
    assert world.dryapi.jobs_asked == ["silent"]
    assert world.dryapi.asked[0][1] >= 100
    assert world.outbox.ended == {"silent"}
    assert world.reconciler.statistics.waiting["42", Purpose.SILENT] == 0
    assert world.ledger.settled == []


async def test_running_job_is_asked_about_ever_more_rarely(
    world: World, autojump_clock: MockClock
) -> None:
    """Waits double, up to a quarter of a day."""
    world.run_jobs(["a"], age_seconds=AFTER)
    await world.runs(3 * 86_400)
    times = [at for _, at in world.dryapi.asked]
    waits = [later - earlier for earlier, later in pairwise(times)]
    expected = [min(AFTER * 2**number, 86_400 / 4) for number in range(len(waits))]
    assert waits == [pytest.approx(wait, abs=LOOK_SECONDS + 1) for wait in expected]
    assert waits[-1] >= 86_400 / 4
    assert len(waits) > 10


async def test_job_that_is_heard_of_is_left_alone(
    world: World, autojump_clock: MockClock
) -> None:
    """And when it falls silent again, the waits begin anew."""
    world.run_jobs(["a"], age_seconds=AFTER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        await trio.sleep(AFTER + 3 * LOOK_SECONDS)
        assert len(world.dryapi.asked) == 2
        for _ in range(60):
            world.outbox.hear("42", "a")
            await trio.sleep(AFTER / 2)
        assert len(world.dryapi.asked) == 2
        await trio.sleep(AFTER / 2 + LOOK_SECONDS + 1)
        assert len(world.dryapi.asked) == 3
        await trio.sleep(AFTER + 2 * LOOK_SECONDS)
        assert len(world.dryapi.asked) == 4
        nursery.cancel_scope.cancel()


async def test_job_that_dryapi_does_not_know_is_asked_about_twice(
    world: World, autojump_clock: MockClock
) -> None:
    """Until it is heard of."""
    world.run_jobs(["a"], age_seconds=AFTER)
    world.dryapi.default = NOT_FOUND
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        await trio.sleep(KEEP_JOBS_SECONDS / 2)
        assert len(world.dryapi.asked) == 2
        world.outbox.hear("42", "a")
        await trio.sleep(AFTER + LOOK_SECONDS + 1)
        assert len(world.dryapi.asked) == 3
        nursery.cancel_scope.cancel()
    assert world.outbox.healings == []


async def test_jobs_of_gaps_go_first(world: World, autojump_clock: MockClock) -> None:
    """A silent one whose turn is waited for is left for them."""
    world.run_jobs(["silent"], age_seconds=AFTER)
    world.pace.silent_seconds = 600
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        await trio.sleep(LOOK_SECONDS + 25)
        assert world.dryapi.asked == []
        at_us = now_us() - 1_000_000
        world.outbox.hear("42", "urgent", "in_progress", "99.00", at_us)
        gap_id = world.close_gap()
        await trio.sleep(1)
        # The silent one is a job of the gap as well, as all that are in flight.
        assert world.dryapi.jobs_asked == ["urgent", "silent"]
        assert world.ledger.unknown == {gap_id: 0}
        nursery.cancel_scope.cancel()


async def test_silence_waits_for_the_next_day(
    world: World, autojump_clock: MockClock
) -> None:
    """Without calls it is said once, and gone on with when there are some again."""
    world.run_jobs(["a", "b", "c"], age_seconds=AFTER)
    world.pace.left[Purpose.SILENT] = 2
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.reconciler.run)
            await trio.sleep(AFTER / 2)
            assert len(world.dryapi.asked) == 2
            assert world.reconciler.statistics.waiting["42", Purpose.SILENT] == 1
            world.pace.left[Purpose.SILENT] = 2
            await trio.sleep(LOOK_SECONDS + 1)
            assert len(world.dryapi.asked) == 3
            assert world.reconciler.statistics.waiting["42", Purpose.SILENT] == 0
            nursery.cancel_scope.cancel()
    assert [(log["event"], log["purpose"], log["log_level"]) for log in logs] == [
        ("reconciliation.spent", "silent", "info")
    ]


async def test_job_that_is_heard_of_waits_no_longer(
    world: World, autojump_clock: MockClock
) -> None:
    """Where none may be asked about, the gauge tells how many are silent."""
    world.run_jobs(["a", "b", "c"], age_seconds=AFTER)
    world.pace.left[Purpose.SILENT] = 0
    waiting = world.reconciler.statistics.waiting
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        await trio.sleep(LOOK_SECONDS + 1)
        assert waiting["42", Purpose.SILENT] == 3
        world.outbox.hear("42", "a")
        world.outbox.hear("42", "b", "done")
        await trio.sleep(LOOK_SECONDS)
        assert waiting["42", Purpose.SILENT] == 1
        nursery.cancel_scope.cancel()
