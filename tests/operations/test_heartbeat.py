"""Tests of the trio loop's pulse."""

from __future__ import annotations

import time

import trio
import trio.testing

from bridge.operations.heartbeat import LoopHeartbeat


async def test_loop_in_time_has_no_lag(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A loop that does nothing else beats every second, on time."""
    heartbeat = LoopHeartbeat(trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat.beat)
        await trio.sleep(30.5)
        assert heartbeat.tasks == trio.lowlevel.current_statistics().tasks_living
        assert trio.current_time() - (heartbeat.last_beat or 0) <= 1
        assert heartbeat.lag_seconds < 1e-6
        nursery.cancel_scope.cancel()


async def test_stall_is_lag_for_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A loop that was held up shows for how long, and forgets it later."""
    held_up = 0.0
    heartbeat = LoopHeartbeat(lambda: trio.current_time() + held_up)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat.beat)
        await trio.sleep(5.5)
        held_up = 12.5
        await trio.sleep(1)
        assert abs(heartbeat.lag_seconds - 12.5) < 1e-6
        await trio.sleep(55)
        assert heartbeat.lag_seconds > 12
        await trio.sleep(10)
        assert heartbeat.lag_seconds < 1e-6
        nursery.cancel_scope.cancel()


async def test_blocking_call_is_measured() -> None:
    """A real call that blocks the loop shows as lag of about its length."""
    heartbeat = LoopHeartbeat()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat.beat)
        await trio.sleep(0.7)
        # The beat is due 0.3 s from here and comes half a second late.
        time.sleep(0.8)  # noqa: ASYNC251 - the fault under test
        with trio.fail_after(5):
            while heartbeat.lag_seconds == 0:
                await trio.lowlevel.checkpoint()
        assert 0.3 < heartbeat.lag_seconds < 3
        nursery.cancel_scope.cancel()
