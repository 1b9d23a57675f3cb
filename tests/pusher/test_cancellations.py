"""Cancelling a session at every await it makes, one step of the scheduler later each.

After each run no connection is open, no task alive, no state but disconnected.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog.testing
import trio
from trio.testing import MockClock

from bridge.errors import AuthorizationError
from bridge.pusher.connection import State
from tests.kit.scripted import (
    FakeAuthorizer,
    Peer,
    ScriptedServer,
    Stage,
    end_at_once,
    spoken,
    work,
)


class _CancelAfter(trio.abc.Instrument):
    """Calls back after a number of the scheduler's steps."""

    def __init__(self, steps: int, callback: Callable[[], None]) -> None:
        self._steps = steps
        self._callback = callback

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's
        self._steps -= 1
        if self._steps == 0:
            self._callback()


async def _lost(peer: Peer) -> None:
    await peer.enrol()
    await peer.publish()
    await peer.say("pusher:ping")
    await peer.read_until("pusher:pong")
    await peer.complain(4100)
    await peer.close(4100)


async def _silent(peer: Peer) -> None:
    await peer.socket.get_message()


async def _mute(peer: Peer) -> None:
    await peer.enrol()
    while True:
        await peer.read()


async def _live_until(steps: int) -> bool:
    """Run a session and cancel it after so many steps; then the account runs again."""
    before = trio.lowlevel.current_statistics().tasks_living
    scripts = [end_at_once, *map(spoken, (_lost, _silent, _mute, work))]
    by_count = False
    async with trio.open_nursery() as servers:
        server = ScriptedServer(scripts, servers)
        failing = AuthorizationError("no", status=500)
        first = Stage(server, FakeAuthorizer(failing))
        session, scope = first.session({}), trio.CancelScope()

        def cancel() -> None:
            nonlocal by_count
            by_count = True
            scope.cancel()

        instrument = _CancelAfter(steps, cancel)
        trio.lowlevel.add_instrument(instrument)
        try:
            with trio.move_on_after(100), scope:
                await session.run()
        finally:
            trio.lowlevel.remove_instrument(instrument)
        assert session.statistics.state is State.DISCONNECTED
        await trio.testing.wait_all_tasks_blocked()
        assert server.live == 0, (steps, server.dials)
        delivered = len(first.deliveries.events)
        again = Stage(server).session({})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.run)
            with trio.fail_after(100):
                while not again.statistics.subscribed:  # noqa: ASYNC110 - virtual time
                    await trio.sleep(0.1)
            assert server.live == 1
            nursery.cancel_scope.cancel()
        assert len(first.deliveries.events) == delivered
        servers.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == before
    return by_count


async def test_rows_36_42_a_session_cancelled_at_any_step_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    """Its tasks, its sockets and its channel are free, and no log has a signature."""
    steps = 1
    with structlog.testing.capture_logs() as logs:
        while await _live_until(steps):
            steps += 1
    # A life of five connections has many steps; few would mean it never began.
    assert steps > 300
    assert logs
    assert "signature-for-" not in repr(logs)
