"""Cancelling a session at every await it makes, one step of the scheduler later each.

After each run no connection is open, no task alive, no state but disconnected.
"""

from __future__ import annotations

from collections.abc import Callable

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
    await peer.establish()
    await peer.subscribe()
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


def _tasks(root: trio.lowlevel.Task) -> set[trio.lowlevel.Task]:
    found = {root}
    for nursery in root.child_nurseries:
        for task in nursery.child_tasks:
            found |= _tasks(task)
    return found


def _all_tasks() -> set[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return _tasks(root)


async def _live_until(steps: int) -> bool:
    """Run a session and cancel it after so many steps."""
    before = _all_tasks()
    failing = AuthorizationError("no", status=500)
    async with trio.open_nursery() as servers:
        server = ScriptedServer(
            [
                end_at_once,
                spoken(_lost),
                spoken(_silent),
                spoken(_mute),
                spoken(work),
            ],
            servers,
        )
        session = Stage(server, FakeAuthorizer(failing)).session({})
        scope = trio.CancelScope()
        by_count = False

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
        servers.cancel_scope.cancel()
    assert _all_tasks() == before
    return by_count


async def test_row_42_a_session_cancelled_at_any_step_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    """Whatever it was waiting for, its tasks and its sockets are gone."""
    steps = 1
    while await _live_until(steps):
        steps += 1
    # A life of five connections has many steps; few would mean it never began.
    assert steps > 300
