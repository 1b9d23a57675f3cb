"""Tests of the trio loop's pulse."""

from __future__ import annotations

import trio
import trio.testing

from bridge.operations.heartbeat import LoopHeartbeat


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
