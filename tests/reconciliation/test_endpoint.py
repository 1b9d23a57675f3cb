"""A status endpoint that fails, refuses, limits, or may not be asked any more."""

from __future__ import annotations

import pytest
import trio
from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.client import Answer, Outcome
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.reconciliation.world import (
    FAILED,
    REFUSED,
    World,
    answered,
)


async def test_answer_of_another_shape_is_a_failure(
    world: World, autojump_clock: MockClock
) -> None:
    """It counts as none, and the endpoint is left alone for a while."""
    world.run_jobs(["a"])
    world.dryapi.answers["a"] = Answer(Outcome.ANSWERED, status=200, body=b"[]")
    world.close_gap()
    await world.runs(5)
    assert world.reconciler.statistics.requests["42", Outcome.FAILED] == 1
    assert world.reconciler.statistics.requests["42", Outcome.ANSWERED] == 0
    assert world.pace.learned == [True]
    assert world.ledger.settled == []


async def test_endpoint_that_is_away_is_waited_for(
    world: World, autojump_clock: MockClock
) -> None:
    """After five minutes all is asked, and the log says it twice."""
    world.run_jobs(["a", "b", "c"])
    world.dryapi.default = FAILED
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.reconciler.run)
            gap_id = world.close_gap()
            await trio.sleep(300)
            assert world.ledger.settled == []
            world.dryapi.default = answered("done")
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
    assert world.outbox.ended == {"a", "b", "c"}
    assert world.ledger.unknown == {gap_id: 0}
    events = [log["event"] for log in logs]
    assert events == ["reconciliation.away", "reconciliation.back"]
    assert logs[1]["away_seconds"] == pytest.approx(300, abs=15)


async def test_endpoint_that_stays_away_is_given_up(
    world: World, autojump_clock: MockClock
) -> None:
    """After a quarter of an hour jobs of gaps are unknown, and found as silent ones."""
    world.run_jobs(["a", "b"])
    world.dryapi.default = FAILED
    world.dryapi.seconds = 0
    give_up = world.settings.give_up_seconds
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        gap_id = world.close_gap()
        await trio.sleep(give_up - 1)
        assert world.ledger.settled == []
        await trio.sleep(12)
        assert world.ledger.unknown == {gap_id: 2}
        world.dryapi.default = answered("done")
        await trio.sleep(world.settings.silent_after_seconds + 70)
        nursery.cancel_scope.cancel()
    assert world.outbox.ended == {"a", "b"}
    assert world.ledger.unknown == {gap_id: 0}
    assert world.ledger.healed_jobs == {gap_id: 2}


async def test_one_job_that_fails_holds_up_no_other(
    world: World, autojump_clock: MockClock
) -> None:
    """The others are answered first; it is given up when its own time is over."""
    world.run_jobs(["poison", *(f"job-{number}" for number in range(20))])
    world.dryapi.default = answered("done")
    world.dryapi.answers["poison"] = FAILED
    world.pace.every_seconds = 1
    gap_id = world.close_gap()
    await world.runs(world.settings.give_up_seconds + 60)
    assert len(world.outbox.ended) == 20
    (settled,) = world.ledger.settled
    assert (settled.gap_id, settled.unknown) == (gap_id, 1)
    assert world.dryapi.jobs_asked[0] == "poison"
    assert "poison" not in world.dryapi.jobs_asked[1:21]
    assert set(world.dryapi.jobs_asked[21:]) == {"poison"}


async def test_refused_token_is_said_once(
    world: World, autojump_clock: MockClock
) -> None:
    """With the setting to check; it is tried again, and works when it is accepted."""
    world.run_jobs(["a"])
    world.dryapi.default = REFUSED
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.reconciler.run)
            world.close_gap()
            await trio.sleep(120)
            world.dryapi.default = answered("done")
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
    assert [log["event"] for log in logs] == [
        "reconciliation.refused", "reconciliation.back"
    ]  # fmt: skip
    assert logs[0]["reason"] == REFUSED.reason
    assert set(world.pace.learned[:-1]) == {True}
    assert world.outbox.ended == {"a"}


async def test_without_calls_jobs_are_unknown(
    world: World, autojump_clock: MockClock
) -> None:
    """What the day's budget doesn't reach is told once, and settled at once."""
    world.run_jobs([f"job-{number:02}" for number in range(10)])
    world.dryapi.default = answered("done")
    world.pace.left[Purpose.GAP] = 4
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.reconciler.run)
            first = world.close_gap()
            await trio.sleep(5)
            second = world.close_gap()
            await trio.sleep(5)
            unknown = dict(world.ledger.unknown)
            assert len(logs) == 1
            # On the next day.
            world.pace.left[Purpose.GAP] = 3
            third = world.close_gap()
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
    assert unknown == {first: 6, second: 6}
    assert world.outbox.ended == {f"job-{number:02}" for number in range(7)}
    assert world.ledger.unknown == {first: 3, second: 3, third: 3}
    assert [(log["event"], log["purpose"]) for log in logs] == [
        ("reconciliation.spent", "gap"),
        ("reconciliation.spent", "gap"),
    ]
    assert logs[0]["log_level"] == "warning"


async def test_few_failures_are_no_news(
    world: World, autojump_clock: MockClock
) -> None:
    """Two in a row, however often, are a restart or a connection that broke."""
    world.run_jobs(["a"])
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.reconciler.run)
            for number in range(1, 4):
                world.dryapi.default = FAILED
                world.close_gap()
                await trio.sleep(15)
                assert world.pace.learned.count(True) == 2 * number
                world.dryapi.default = answered("processing")
                await trio.sleep(15)
            nursery.cancel_scope.cancel()
    assert logs == []
