"""What becomes of a gap's jobs, told by a dryAPI that goes by a script."""

from __future__ import annotations

import pytest
import trio
from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.client import Outcome
from trio.testing import MockClock

from tests.reconciliation.world import (
    KEEP_JOBS_SECONDS,
    MAX_EVENT_BYTES,
    NOT_FOUND,
    World,
    answered,
    now_us,
)


async def test_jobs_of_a_gap_are_determined(
    world: World, autojump_clock: MockClock
) -> None:
    """Ends are written, what runs is left to the socket, 404 is unknown."""
    world.run_jobs(["done", "failed", "running", "pending", "gone"])
    world.dryapi.answers = {
        "done": answered("done", result_url="https://r/1"),
        "failed": answered("error"),
        "running": answered("processing"),
        "pending": answered("pending"),
        "gone": NOT_FOUND,
    }
    gap_id = world.close_gap()
    await world.runs(30)

    assert world.outbox.ended == {"done", "failed"}
    assert len(world.outbox.records) == 2
    assert world.ledger.healed_jobs == {gap_id: 2}
    assert [(s.gap_id, s.unknown) for s in world.ledger.settled] == [(gap_id, 1)]
    assert sorted(world.dryapi.jobs_asked) == sorted(world.dryapi.answers)
    statistics = world.reconciler.statistics
    assert statistics.requests["42", Outcome.ANSWERED] == 4
    assert statistics.requests["42", Outcome.NOT_FOUND] == 1
    assert statistics.healed == {"42": 2}
    assert statistics.unknown == {"42": 1}
    assert statistics.waiting["42", Purpose.GAP] == 0
    assert world.pace.under_way == 0


async def test_likeliest_is_asked_first(
    world: World, autojump_clock: MockClock
) -> None:
    """The furthest ahead, then what was heard of longest ago."""
    at_us = now_us() - 9_000_000
    world.outbox.hear("42", "queued", "processing", None, at_us - 50)
    world.outbox.hear("42", "half", "in_progress", "50.00", at_us)
    world.outbox.hear("42", "half-older", "in_progress", "50.00", at_us - 1)
    world.outbox.hear("42", "nearly", "in_progress", "99.50", at_us)
    world.outbox.hear("42", "unsaid", "in_progress", None, at_us)
    world.pace.every_seconds = 1
    world.close_gap()
    await world.runs(30)
    assert world.dryapi.jobs_asked == [
        "nearly", "half-older", "half", "unsaid", "queued"
    ]  # fmt: skip


async def test_job_heard_of_after_the_gap_is_not_asked_about(
    world: World, autojump_clock: MockClock
) -> None:
    """It goes on, whether it was heard of before or after the gap was handed over."""
    world.run_jobs(["a", "b", "c"])
    world.pace.every_seconds = 10
    gap_id = world.close_gap()
    await trio.sleep(1)
    world.outbox.hear("42", "a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        await trio.sleep(1)
        world.outbox.hear("42", "b")
        world.outbox.hear("42", "c", "done")
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert world.dryapi.asked == []
    assert world.ledger.unknown == {gap_id: 0}
    # The call that was waited for when the last one was heard of.
    assert world.pace.abandoned == 1


@pytest.mark.parametrize("status", ["in_progress", "done"])
async def test_socket_wins_while_a_request_is_under_way(
    world: World, autojump_clock: MockClock, status: str
) -> None:
    """Its event stands, the answer is not needed, and the gap is settled."""
    world.run_jobs(["a"])
    world.dryapi.answers["a"] = answered("done")
    world.dryapi.before_answer = lambda job: world.outbox.hear("42", job, status)
    gap_id = world.close_gap()
    await world.runs(30)
    assert world.outbox.records == []
    assert world.ledger.unknown == {gap_id: 0}
    assert world.ledger.healed_jobs == {}
    assert world.reconciler.statistics.superseded == {"42": 1}
    assert world.reconciler.statistics.healed == {"42": 0}


async def test_gaps_share_a_question(world: World, autojump_clock: MockClock) -> None:
    """A job that waits for two gaps is asked about once, and heals both."""
    world.run_jobs(["a", "b"])
    world.dryapi.answers = {"a": answered("done"), "b": NOT_FOUND}
    world.pace.every_seconds = 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        gaps = [world.close_gap()]
        await trio.sleep(2)
        gaps.append(world.close_gap())
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert world.dryapi.jobs_asked == ["a", "b"]
    assert world.ledger.unknown == dict.fromkeys(gaps, 1)
    assert world.ledger.healed_jobs == dict.fromkeys(gaps, 1)


async def test_forgotten_job_stays_unknown(
    world: World, autojump_clock: MockClock
) -> None:
    """That the outbox no longer has it, because it is old, is no end."""
    world.run_jobs(["a"], age_seconds=KEEP_JOBS_SECONDS - 100)
    world.dryapi.default = NOT_FOUND
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        gap_id = world.close_gap()
        await trio.sleep(150)
        world.outbox.hear("42", "a", "done")
        await trio.sleep(300)
        nursery.cancel_scope.cancel()
    assert world.ledger.unknown == {gap_id: 1}


async def test_answer_that_is_too_large_goes_without_what_passes_through(
    world: World, autojump_clock: MockClock
) -> None:
    """The end is written, and is no dead letter."""
    world.run_jobs(["a"])
    world.dryapi.answers["a"] = answered("done", result="x" * MAX_EVENT_BYTES)
    gap_id = world.close_gap()
    await world.runs(5)
    assert world.outbox.ended == {"a"}
    assert world.ledger.unknown == {gap_id: 0}


async def test_answer_that_is_no_event_is_a_dead_letter(
    world: World, autojump_clock: MockClock
) -> None:
    """It is written, its job is unknown, and it isn't asked about for ever."""
    world.run_jobs(["a"])
    world.dryapi.answers["a"] = answered("cancelled")
    gap_id = world.close_gap()
    await world.runs(86_000)
    assert {record.topic for record in world.outbox.records} == {"jobs.dlq"}
    assert world.ledger.unknown == {gap_id: 1}
    assert len(world.dryapi.asked) == 2
