"""A process that was suspended: what is found of it."""

from __future__ import annotations

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.pusher.coverage import Stalls


async def test_a_jump_of_the_clock_is_a_stall_and_is_reported_once(
    autojump_clock: MockClock,
) -> None:
    """Whoever looks first finds it; what is late by less than a second is none."""
    stalls = Stalls(clock=trio.current_time)
    found: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stalls.run)
        with structlog.testing.capture_logs() as logs:
            stalls.watchers.add(lambda: found.append(trio.current_time()))
            await trio.sleep(10.1)
            autojump_clock.jump(60)
            stalls.look()
            assert found == [70.1]
            for _ in range(20):
                autojump_clock.jump(0.9)
                await trio.sleep(0.3)
            assert (found, stalls.count) == ([70.1], 1)
            stalls.watchers.clear()
            autojump_clock.jump(60)
            await trio.sleep(1)
            assert (found, stalls.count) == ([70.1], 2)
        nursery.cancel_scope.cancel()
    assert [(log["event"], log["seconds"]) for log in logs] == [
        ("process.stalled", pytest.approx(60, abs=0.3))
    ] * 2
