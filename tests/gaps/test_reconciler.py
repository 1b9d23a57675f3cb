"""What becomes of the jobs of gaps, and of stale ones, by a dryAPI with a script.

That each gap is resolved with the right number, in any order of events, is shown by
`models/test_reconciliation.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, cast

import msgspec
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from bridge.gaps.gap import Gap
from bridge.gaps.limiter import Limiter, Purpose, read_limits
from bridge.gaps.reconciler import GIVE_UP_SECONDS
from bridge.gaps.status import Answer, Outcome
from bridge.sandbox.api import RateLimiter
from bridge.settings import ReconciliationSettings
from tests.gaps.world import (
    FAILED,
    KEEP_JOBS_SECONDS,
    MAX_EVENT_BYTES,
    NOT_FOUND,
    REFUSED,
    Pace,
    World,
    answered,
    now_us,
)


LISTEN = 5.0
LOOK = 60.0
STALE = ReconciliationSettings().stale_after_seconds
GIVE_UP = GIVE_UP_SECONDS


@asynccontextmanager
async def _running(world: World) -> Any:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        yield
        nursery.cancel_scope.cancel()


def running(world: World) -> AbstractAsyncContextManager[None]:
    """Reconcile for as long as the block runs."""
    context: AbstractAsyncContextManager[None] = _running(world)
    return context


def unknown(world: World, *gap_ids: str) -> list[int | None]:
    """Return how many jobs of each gap are unknown; None until it is resolved."""
    return [world.gaps[gap_id].unknown for gap_id in gap_ids]


# -- Jobs of gaps ---------------------------------------------------------------


async def test_the_likeliest_to_have_ended_is_first(
    world: World, autojump_clock: MockClock
) -> None:
    """The furthest ahead, then the one that was seen longest ago, of any account."""
    at_us = now_us() - 9_000_000
    for age, (name, status, progress) in enumerate(
        [
            ("half", "in_progress", "50.00"),
            ("half-older", "in_progress", "50.00"),
            ("nearly", "in_progress", "99.50"),
            ("unsaid", "in_progress", None),
            ("queued", "processing", None),
        ]
    ):
        world.outbox.hear("42", name, status, progress, at_us - age)
    world.pace.every_seconds = 1
    world.close_gap()
    await world.runs(30)
    order = ["nearly", "half-older", "half", "unsaid", "queued"]
    assert world.dryapi.jobs_asked == order


@pytest.mark.parametrize("runs_for", [0.0, LOOK - 2])
async def test_the_bridge_listens_before_it_asks(
    world: World, autojump_clock: MockClock, runs_for: float
) -> None:
    """A job that sends an event costs no call, whenever the bridge looks by itself."""
    world.dryapi.default = answered("done")
    world.pace.every_seconds = 10
    async with running(world):
        await trio.sleep(runs_for)
        world.run_jobs(["ended-in-the-gap", "runs", "ends-now", "waits-for-its-turn"])
        gap_id = world.close_gap()
        await trio.sleep(LISTEN - 0.1)
        assert world.dryapi.asked == []
        world.outbox.hear("42", "runs")
        world.outbox.hear("42", "ends-now", "done")
        await trio.sleep(1)
        world.outbox.hear("42", "waits-for-its-turn")
        await trio.sleep(LOOK)
    assert world.dryapi.jobs_asked == ["ended-in-the-gap"]
    assert unknown(world, gap_id) == [0]


async def test_gaps_share_a_question(world: World, autojump_clock: MockClock) -> None:
    """A job that waits for two gaps is asked about once, and heals both."""
    world.run_jobs(["a", "b"])
    world.dryapi.answers = {"a": answered("done"), "b": NOT_FOUND}
    world.pace.every_seconds = 5
    async with running(world):
        gaps = [world.close_gap()]
        await trio.sleep(2)
        gaps.append(world.close_gap())
        await trio.sleep(30)
    assert world.dryapi.jobs_asked == ["a", "b"]
    assert unknown(world, *gaps) == [1, 1]
    assert [world.gaps[gap_id].healed_by_status_endpoint for gap_id in gaps] == [1, 1]


async def test_a_job_that_the_outbox_forgets_stays_unknown(
    world: World, autojump_clock: MockClock
) -> None:
    """That an old job is in flight no more isn't an end."""
    world.run_jobs(["a"], age_seconds=KEEP_JOBS_SECONDS - 100)
    world.dryapi.default = NOT_FOUND
    async with running(world):
        gap_id = world.close_gap()
        await trio.sleep(150)
        world.outbox.hear("42", "a", "done")
        await trio.sleep(300)
    assert unknown(world, gap_id) == [1]


async def test_an_answer_that_is_too_large_loses_what_passes_through(
    world: World, autojump_clock: MockClock
) -> None:
    """The end is written, and is not a dead letter."""
    world.run_jobs(["a"])
    world.dryapi.answers["a"] = answered("done", result="x" * MAX_EVENT_BYTES)
    gap_id = world.close_gap()
    await world.runs(LISTEN + 5)
    assert world.outbox.ended == {"a"}
    assert unknown(world, gap_id) == [0]


async def test_an_answer_that_is_not_an_event_is_a_dead_letter(
    world: World, autojump_clock: MockClock
) -> None:
    """Its job is unknown, and isn't asked about for as long as it is remembered."""
    world.run_jobs(["a"])
    world.dryapi.answers["a"] = answered("cancelled")
    gap_id = world.close_gap()
    await world.runs(KEEP_JOBS_SECONDS - 400)
    assert {record.topic for record in world.outbox.records} == {"jobs.dlq"}
    assert unknown(world, gap_id) == [1]
    assert len(world.dryapi.asked) == 2


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_an_outbox_without_room_is_waited_for(
    world: World, autojump_clock: MockClock, *, is_damaged: bool
) -> None:
    """One answer waits for it, and is asked for again if the outbox drops it."""
    world.run_jobs([f"job-{number}" for number in range(100)])
    world.dryapi.default = answered("done")
    world.outbox.is_open = False
    async with running(world):
        gap_id = world.close_gap()
        await trio.sleep(3600)
        assert len(world.dryapi.asked) == world.outbox.kept == 1
        (world.outbox.begin_anew if is_damaged else world.outbox.open)()
        await trio.sleep(30)
    assert len(world.outbox.ended) == 100
    assert len(world.dryapi.asked) == 100 + is_damaged
    assert unknown(world, gap_id) == [0]


async def test_the_next_process_continues_with_a_gap(
    world: World, autojump_clock: MockClock
) -> None:
    """One that ends before its gap is resolved leaves it, with what was healed."""
    world.run_jobs(["done", "gone", "runs"])
    world.dryapi.answers = {"done": answered("done"), "gone": NOT_FOUND}
    world.pace.every_seconds = 10
    gap_id = world.close_gap()
    await world.runs(LISTEN + 1)
    assert world.outbox.ended == {"done"}
    assert unknown(world, gap_id) == [None]
    world.restart()
    await world.runs(60)
    gap = world.gaps[gap_id]
    assert (gap.healed_by_status_endpoint, gap.unknown) == (1, 1)
    assert world.dryapi.jobs_asked.count("done") == 1


async def test_a_gap_is_not_unknown_forever(
    world: World, autojump_clock: MockClock
) -> None:
    """What was unknown for 25 h stays so, and is no longer counted or remembered."""
    world.run_jobs(["gone"])
    world.dryapi.default = NOT_FOUND
    gap_id = world.close_gap()
    async with running(world):
        for hours, count in ((24, 1), (2, 0)):
            await trio.sleep(hours * 3600)
            assert world.ledger.statistics.unknown == {"42": count}
            assert len(world.left) == count
    assert unknown(world, gap_id) == [1]


# -- Stale jobs -----------------------------------------------------------------


async def test_a_running_job_is_asked_about_ever_more_rarely(
    world: World, autojump_clock: MockClock
) -> None:
    """Waits double, up to a quarter of a day; an event begins them again."""
    world.run_jobs(["a"], age_seconds=STALE)
    async with running(world):
        await trio.sleep(3 * 86_400)
        times = [at for _, at in world.dryapi.asked]
        world.outbox.hear("42", "a")
        await trio.sleep(STALE - 1)
        assert len(world.dryapi.asked) == len(times)
        await trio.sleep(LOOK + 2)
        assert len(world.dryapi.asked) == len(times) + 1
        await trio.sleep(STALE + LOOK)
        assert len(world.dryapi.asked) == len(times) + 2
    waits = [late - early for early, late in pairwise(times)]
    expected = [min(STALE * 2**number, 86_400 / 4) for number in range(len(waits))]
    assert waits == [pytest.approx(wait, abs=LOOK + 1) for wait in expected]
    assert len(waits) > 10


async def test_a_job_that_dryapi_does_not_know_is_asked_about_twice(
    world: World, autojump_clock: MockClock
) -> None:
    """Until an event of it is received."""
    world.run_jobs(["a"], age_seconds=STALE)
    world.dryapi.default = NOT_FOUND
    async with running(world):
        await trio.sleep(KEEP_JOBS_SECONDS / 2)
        assert len(world.dryapi.asked) == 2
        world.outbox.hear("42", "a")
        await trio.sleep(STALE + LOOK + 1)
        assert len(world.dryapi.asked) == 3


async def test_jobs_of_gaps_go_first(world: World, autojump_clock: MockClock) -> None:
    """No stale job takes a call from them, from the moment at which a gap closes."""
    world.pace.every_seconds = 20
    async with running(world):
        await trio.sleep(1)
        world.run_jobs(["stale-1", "stale-2"], age_seconds=STALE)
        await trio.sleep(20)
        assert world.dryapi.jobs_asked == ["stale-1"]
        at_us = now_us() - 1_000_000
        world.outbox.hear("42", "urgent", "in_progress", "99.00", at_us)
        gap_id = world.close_gap()
        await trio.sleep(LISTEN + 50)
    # All are jobs of the gap, as they were in flight.
    assert world.dryapi.jobs_asked[1:] == ["urgent", "stale-2", "stale-1"]
    assert unknown(world, gap_id) == [0]


async def test_stale_jobs_wait_for_the_next_day(
    world: World, autojump_clock: MockClock
) -> None:
    """Without calls it is logged once; the gauge shows how many are stale by now."""
    world.run_jobs(["a", "b", "c", "d"], age_seconds=STALE)
    world.pace.left[Purpose.STALE] = 0
    waiting = world.statistics.waiting
    with capture_logs() as logs:
        async with running(world):
            await trio.sleep(3 * LOOK)
            assert waiting["42", Purpose.STALE] == 4
            world.outbox.hear("42", "a")
            world.outbox.hear("42", "b", "done")
            await trio.sleep(LOOK)
            assert waiting["42", Purpose.STALE] == 2
            world.pace.left[Purpose.STALE] = 2
            await trio.sleep(LOOK)
            assert waiting["42", Purpose.STALE] == 0
    assert sorted(world.dryapi.jobs_asked) == ["c", "d"]
    assert [(log["event"], log["purpose"], log["log_level"]) for log in logs] == [
        ("reconciliation.quota_exhausted", "stale", "info")
    ]


# -- Where dryAPI is not asked ---------------------------------------------------


@pytest.fixture
def unasked(threads_at_once: None) -> World:
    """Give one account that is not asked about."""
    return World(settings=ReconciliationSettings(enabled=False))


async def test_jobs_have_a_minute(unasked: World, autojump_clock: MockClock) -> None:
    """Each gap has its own; what was neither seen nor ended by then is unknown."""
    world = unasked
    async with running(world):
        # The bridge looks by itself within that minute.
        await trio.sleep(LOOK / 3)
        world.run_jobs(["seen", "ended", "late", "lost"])
        gaps = [world.close_gap()]
        await trio.sleep(5)
        world.outbox.hear("42", "seen")
        world.outbox.hear("42", "ended", "done")
        await trio.sleep(25)
        gaps.append(world.close_gap())
        await trio.sleep(29)
        world.outbox.hear("42", "late")
        assert unknown(world, *gaps) == [None, None]
        await trio.sleep(2)
        assert unknown(world, *gaps) == [1, None]
        await trio.sleep(30)
        assert unknown(world, *gaps) == [1, 2]
        world.outbox.hear("42", "lost", "done")
        await trio.sleep(LOOK)
    assert unknown(world, *gaps) == [0, 1]
    assert world.dryapi.asked == []


# -- An endpoint that fails -------------------------------------------------------


@pytest.mark.parametrize("response", [FAILED, REFUSED])
async def test_an_endpoint_that_fails_is_waited_for(
    world: World, autojump_clock: MockClock, response: Answer
) -> None:
    """After five minutes everything is asked; the log says it once, and its end."""
    world.run_jobs(["a", "b", "c"])
    world.dryapi.default = response
    with capture_logs() as logs:
        async with running(world):
            gap_id = world.close_gap()
            await trio.sleep(LISTEN + 300)
            assert unknown(world, gap_id) == [None]
            world.dryapi.default = answered("done")
            await trio.sleep(30)
    assert world.outbox.ended == {"a", "b", "c"}
    assert unknown(world, gap_id) == [0]
    assert world.statistics.requests["42", Outcome.ANSWERED] == 3
    of_endpoint = [log for log in logs if log["event"].startswith("reconciliation")]
    name = "refused" if response is REFUSED else "unavailable"
    assert [log["event"] for log in of_endpoint] == [
        f"reconciliation.{name}",
        "reconciliation.recovered",
    ]
    assert response.reason in of_endpoint[0]["reason"]
    assert of_endpoint[0]["reason"]
    assert of_endpoint[1]["away_seconds"] == pytest.approx(300, abs=15)


async def test_an_incident_of_the_endpoint_costs_no_minute(
    threads_at_once: None, autojump_clock: MockClock
) -> None:
    """Jobs for the calls of two minutes are asked about when the second one begins.

    Version 1 counted failed calls, took the server's smaller count for calls of others,
    and let the minute begin again: so it needed up to a minute more after an incident.
    """
    chance = random.Random(1)
    limiter = Limiter(
        trio.current_time, reserve_percent=25, now_us=now_us, jitter=chance
    )
    world = World(pace=cast("Pace", limiter))
    server = RateLimiter("basic")

    def answer(request_id: str) -> None:
        # The first minute's calls are nearly used up.
        if 8.35 <= trio.current_time() < 20.35:
            world.dryapi.default = FAILED
            return
        allowance = server.take()
        assert allowance.allowed
        headers = {name.lower(): value for name, value in allowance.headers.items()}
        limits = read_limits(200, headers, datetime.now(UTC))
        world.dryapi.default = msgspec.structs.replace(answered("done"), limits=limits)

    world.dryapi.before_answer = answer
    world.run_jobs([f"job-{number}" for number in range(2 * 37)])
    gap_id = world.close_gap()
    await world.runs(LISTEN + 60 + 2 * 37 * world.dryapi.seconds)
    assert world.statistics.requests["42", Outcome.FAILED] >= 3
    assert len(world.outbox.ended) == 2 * 37
    assert unknown(world, gap_id) == [0]


async def test_few_failures_are_not_reported(
    world: World, autojump_clock: MockClock
) -> None:
    """Two in a row, however often, are a restart or a broken connection."""
    world.run_jobs(["a"])
    with capture_logs() as logs:
        async with running(world):
            for number in range(1, 4):
                world.dryapi.default = FAILED
                world.close_gap()
                await trio.sleep(LISTEN + 15)
                assert world.statistics.requests["42", Outcome.FAILED] == 2 * number
                world.dryapi.default = answered("processing")
                await trio.sleep(15)
    assert not [log for log in logs if log["event"].startswith("reconciliation")]


async def test_an_endpoint_that_keeps_failing_is_given_up(
    world: World, autojump_clock: MockClock
) -> None:
    """After a quarter of an hour its jobs are unknown, and are asked about as stale."""
    world.run_jobs(["a", "b"])
    world.dryapi.default = FAILED
    async with running(world):
        gap_id = world.close_gap()
        await trio.sleep(LISTEN + GIVE_UP - 1)
        assert unknown(world, gap_id) == [None]
        await trio.sleep(12)
        assert unknown(world, gap_id) == [2]
        world.dryapi.default = answered("done")
        await trio.sleep(STALE + LOOK + 10)
    assert world.outbox.ended == {"a", "b"}
    gap = world.gaps[gap_id]
    assert (gap.healed_by_status_endpoint, gap.unknown) == (2, 0)


async def test_one_job_that_fails_delays_no_other(
    world: World, autojump_clock: MockClock
) -> None:
    """The others are asked about first; it is dropped after its own time."""
    world.run_jobs(["poison", *(f"job-{number}" for number in range(20))])
    world.dryapi.default = answered("done")
    world.dryapi.answers["poison"] = FAILED
    gap_id = world.close_gap()
    await world.runs(GIVE_UP + LOOK)
    assert len(world.outbox.ended) == 20
    assert unknown(world, gap_id) == [1]
    asked = world.dryapi.jobs_asked
    assert asked[0] == "poison"
    assert "poison" not in asked[1:21]
    assert {*asked[21:]} == {"poison"}


async def test_without_calls_jobs_are_unknown(
    world: World, autojump_clock: MockClock
) -> None:
    """What the day's calls don't reach is logged once, and resolved at once."""
    world.run_jobs([f"job-{number:02}" for number in range(10)])
    world.dryapi.default = answered("done")
    world.pace.left[Purpose.GAP] = 4
    with capture_logs() as logs:
        async with running(world):
            gaps = [world.close_gap()]
            await trio.sleep(LISTEN + 5)
            gaps.append(world.close_gap())
            await trio.sleep(LISTEN + 5)
            assert unknown(world, *gaps) == [6, 6]
            # On the next day.
            world.pace.left[Purpose.GAP] = 3
            gaps.append(world.close_gap())
            await trio.sleep(LISTEN + 5)
    assert unknown(world, *gaps) == [3, 3, 3]
    spent = [log for log in logs if log["event"] == "reconciliation.quota_exhausted"]
    assert [(log["purpose"], log["log_level"]) for log in spent] == [
        ("gap", "warning")
    ] * 2


# -- Cancellations -----------------------------------------------------------------


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
    """Live a short life, cancelled after so many steps; give whether it was."""
    world.pace.every_seconds = 1
    world.run_jobs(["done", "gone", "fails", "seen"])
    world.run_jobs(["stale"], age_seconds=STALE)
    world.dryapi.answers = {
        "done": answered("done"),
        "gone": NOT_FOUND,
        "fails": FAILED,
    }
    world.dryapi.before_answer = lambda name: world.outbox.hear(
        "42", "seen" if name == "gone" else "another"
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
async def test_cancelling_at_any_await_leaves_nothing(
    threads_at_once: None, autojump_clock: MockClock, *, enabled: bool
) -> None:
    """No call, no answer that is waited for, no task, and no untrue record.

    The same life is cancelled one step of the scheduler later each time, until it ends
    by itself.
    """
    before = trio.lowlevel.current_statistics().tasks_living
    steps, resolved = 0, list[Gap]()
    was_cancelled = True
    while was_cancelled:
        steps += 1
        world = World(settings=ReconciliationSettings(enabled=enabled))
        was_cancelled = await _live(world, steps)
        assert world.dryapi.now == 0
        assert world.outbox.kept == 0
        assert trio.lowlevel.current_statistics().tasks_living == before
        resolved = [gap for gap in world.gaps.values() if gap.is_resolved]
        for gap in resolved:
            assert (gap.unknown or 0) <= (2 if enabled else 5)
    assert steps > (30 if enabled else 15)
    assert len(resolved) == 2
