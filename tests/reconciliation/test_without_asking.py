"""Gaps are settled where dryAPI is not asked: by what is heard, and by webhooks."""

from __future__ import annotations

import pytest
import trio
from bridge.reconciliation.reconciler import LOOK_SECONDS, PATIENCE_SECONDS
from trio.testing import MockClock

from bridge.settings import ReconciliationSettings
from tests.reconciliation.world import (
    World,
)


@pytest.fixture
def world(threads_at_once: None) -> World:
    """Give one account that is not asked about."""
    return World(settings=ReconciliationSettings(enabled=False))


async def test_jobs_have_a_minute(world: World, autojump_clock: MockClock) -> None:
    """What was neither heard of nor ended by a webhook is unknown then."""
    world.run_jobs(["heard", "ended", "webhook", "late", "silent"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        # So that nobody looks by chance when its time is over.
        await trio.sleep(LOOK_SECONDS / 3)
        gap_id = world.close_gap()
        await trio.sleep(5)
        world.outbox.hear("42", "heard")
        world.outbox.hear("42", "ended", "done")
        world.outbox.hear("42", "webhook", "done")
        world.reconciler.written("42", "webhook")
        await trio.sleep(PATIENCE_SECONDS - 6)
        world.outbox.hear("42", "late")
        assert world.ledger.settled == []
        await trio.sleep(2)
        assert world.ledger.unknown == {gap_id: 1}
        world.outbox.hear("42", "silent", "done")
        world.reconciler.written("42", "silent")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert world.ledger.unknown == {gap_id: 0}
    assert world.dryapi.asked == []


async def test_unknown_job_that_is_heard_of_corrects_its_gap(
    world: World, autojump_clock: MockClock
) -> None:
    """It is looked for, as nobody tells that a job was heard of."""
    world.run_jobs(["a", "b"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        gap_id = world.close_gap()
        await trio.sleep(PATIENCE_SECONDS + 1)
        assert world.ledger.unknown == {gap_id: 2}
        world.outbox.hear("42", "a")
        await trio.sleep(LOOK_SECONDS)
        nursery.cancel_scope.cancel()
    assert world.ledger.unknown == {gap_id: 1}


async def test_each_gap_has_its_minute(world: World, autojump_clock: MockClock) -> None:
    """The end of one's time ends no other's."""
    world.run_jobs(["a"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        gaps = [world.close_gap()]
        await trio.sleep(PATIENCE_SECONDS / 2)
        gaps.append(world.close_gap())
        await trio.sleep(PATIENCE_SECONDS / 2 + 1)
        assert world.ledger.unknown == {gaps[0]: 1}
        await trio.sleep(PATIENCE_SECONDS / 2)
        nursery.cancel_scope.cancel()
    assert world.ledger.unknown == dict.fromkeys(gaps, 1)


async def test_gaps_are_forgotten_after_a_day(
    world: World, autojump_clock: MockClock
) -> None:
    """What was said of one then stands, as the ledger has forgotten it, too."""
    world.run_jobs(["a"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        gap_id = world.close_gap()
        # 25 h, and a look.
        await trio.sleep(90_000 + 2 * LOOK_SECONDS)
        world.outbox.hear("42", "a")
        await trio.sleep(2 * LOOK_SECONDS)
        nursery.cancel_scope.cancel()
    assert [(s.gap_id, s.unknown) for s in world.ledger.settled] == [(gap_id, 1)]
    # However silent it was.
    assert world.dryapi.asked == []
