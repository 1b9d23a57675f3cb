"""A process that stands still: what is found of it."""

from __future__ import annotations

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.pusher.coverage import Stalls


def _stalls() -> Stalls:
    """Make stalls that see a jump of the test's clock."""
    return Stalls(clock=trio.current_time)


async def test_a_jump_of_the_clock_is_a_stall_and_is_told_once(
    autojump_clock: MockClock,
) -> None:
    """Whoever looks first after it finds it; the beat doesn't find it again."""
    stalls = _stalls()
    told: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stalls.run)
        with (
            stalls.watched(lambda: told.append(trio.current_time())),
            structlog.testing.capture_logs() as logs,
        ):
            await trio.sleep(10.1)
            autojump_clock.jump(60)
            stalls.look()
            assert told == [70.1]
            await trio.sleep(10)
        assert told == [70.1]
        assert stalls.count == 1
        assert stalls.last_seconds == pytest.approx(60, abs=0.3)
        autojump_clock.jump(60)
        await trio.sleep(1)
        assert stalls.count == 2
        assert len(told) == 1
        nursery.cancel_scope.cancel()
    assert [(log["event"], log["seconds"]) for log in logs] == [
        ("process.stalled", pytest.approx(60, abs=0.3))
    ]


async def test_a_busy_loop_is_no_stall(autojump_clock: MockClock) -> None:
    """What is late by less than a second, nobody is told of."""
    stalls = _stalls()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stalls.run)
        await trio.sleep(1.1)
        for _ in range(20):
            autojump_clock.jump(0.9)
            await trio.sleep(0.3)
        assert stalls.count == 0
        nursery.cancel_scope.cancel()
