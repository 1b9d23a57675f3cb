"""The reconciler among threads, accounts, an outbox and processes before and after."""

from __future__ import annotations

import threading

import trio
from bridge.reconciliation.reconciler import LISTEN_SECONDS
from trio.testing import MockClock

from tests.reconciliation.world import (
    Gap,
    World,
    answered,
    now_us,
)


async def test_outbox_without_room_is_waited_for(
    world: World, autojump_clock: MockClock
) -> None:
    """A few answers wait for it, and no more is asked meanwhile."""
    world.run_jobs([f"job-{number}" for number in range(100)])
    world.dryapi.default = answered("done")
    world.outbox.is_open = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        gap_id = world.close_gap()
        await trio.sleep(3600)
        assert len(world.dryapi.asked) == world.outbox.kept < 20
        world.outbox.open()
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert len(world.outbox.ended) == 100
    assert world.ledger.unknown == {gap_id: 0}


async def test_outbox_that_begins_anew_has_the_job_asked_about_again(
    world: World, autojump_clock: MockClock
) -> None:
    """What it dropped is no answer."""
    world.run_jobs(["a"])
    world.dryapi.default = answered("done")
    world.outbox.is_open = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        world.close_gap()
        await trio.sleep(5)
        world.outbox.begin_anew()
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert world.dryapi.jobs_asked == ["a", "a"]
    assert world.outbox.ended == {"a"}


async def test_account_of_another_process_is_passed_over(
    world: World, autojump_clock: MockClock
) -> None:
    """A gap of an account that isn't configured any more is left as it is."""
    world.reconciler.gap_closed(Gap("old", "gone", now_us()))
    await world.runs(5)
    assert world.ledger.settled == []


async def test_accounts_share_a_token(
    threads_at_once: None, autojump_clock: MockClock
) -> None:
    """The likeliest is first whosever it is, and one job's name may be two's."""
    world = World(("42", "43"))
    for client_id in ("42", "43"):
        world.run_jobs(["same"], client_id)
    world.outbox.hear("43", "nearly", "in_progress", "99.00", now_us() - 1_000_000)
    world.dryapi.default = answered("done")
    world.pace.every_seconds = 1
    gaps = [world.close_gap("42"), world.close_gap("43")]
    await world.runs(30)
    assert world.dryapi.jobs_asked == ["nearly", "same", "same"]
    # One loop for all of them: a call each second.
    times = [at for _, at in world.dryapi.asked]
    assert times == sorted(set(times))
    assert world.reconciler.statistics.healed == {"42": 1, "43": 2}
    assert world.ledger.healed_jobs == dict(zip(gaps, (1, 2), strict=True))


async def test_gaps_of_any_thread_are_settled(
    world: World, autojump_clock: MockClock
) -> None:
    """Those handed over before it runs, and while it does."""

    def hand_over(gap_id: str) -> None:
        gap = Gap(gap_id, "42", now_us())
        thread = threading.Thread(target=world.reconciler.gap_closed, args=[gap])
        thread.start()
        thread.join()

    hand_over("before")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        await trio.sleep(1)
        hand_over("while")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    hand_over("after")
    assert world.ledger.unknown == {"before": 0, "while": 0}


async def test_first_is_listened_and_then_asked(
    threads_at_once: None, autojump_clock: MockClock
) -> None:
    """Jobs that are heard of in the first seconds, as those that run, cost no call."""
    world = World(listen_seconds=LISTEN_SECONDS)
    world.run_jobs(["runs", "ended-in-the-gap", "ends-now"])
    world.dryapi.default = answered("done")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        gap_id = world.close_gap()
        await trio.sleep(LISTEN_SECONDS - 0.1)
        assert world.dryapi.asked == []
        world.outbox.hear("42", "runs")
        world.outbox.hear("42", "ends-now", "done")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert world.dryapi.jobs_asked == ["ended-in-the-gap"]
    assert world.ledger.unknown == {gap_id: 0}
