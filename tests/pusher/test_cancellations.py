"""
Cancelling a session at every await it makes.

The session runs a whole life against a script (connect, authorise, subscribe,
events, a loss, a wait, another connection). It is run again and again, cancelled
one scheduler step later each time, until a run ends by itself. After each run
nothing may be left: no connection open, no task alive, no state but disconnected.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from bridge.errors import AuthorizationError
from bridge.pusher.connection import Channel, State
from bridge.pusher.session import Session
from bridge.pusher.websocket import open_websocket
from bridge.settings import PusherSettings
from tests.kit.scripted import (
    APP_KEY,
    CLIENT_ID,
    Deliveries,
    FakeAuthorizer,
    Peer,
    ScriptedServer,
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


async def _deaf(peer: Peer) -> None:
    await peer.enrol()
    await trio.sleep_forever()


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


def _session(
    server: ScriptedServer, deliver: Deliveries, *authorizers: FakeAuthorizer
) -> Session:
    authorizer = next(iter(authorizers), FakeAuthorizer())
    channel = Channel(
        CLIENT_ID,
        PusherSettings(url="ws://pusher.test", app_key=APP_KEY),
        authorizer.authorize,
        partial(
            open_websocket, max_message_bytes=1_000_000, open_tcp=server.open_stream
        ),
        deliver,
    )
    return Session(channel, jitter=random.Random(3))


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
        session = _session(server, Deliveries(), FakeAuthorizer(failing))
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


class _Channel:
    """A server that knows who is subscribed."""

    def __init__(self) -> None:
        self.subscribed: set[Peer] = set()

    async def serve(self, peer: Peer) -> None:
        """Serve one connection."""
        await peer.establish()
        await peer.read_until("pusher:subscribe")
        self.subscribed.add(peer)
        try:
            await peer.acknowledge()
            await peer.answer_pings()
        finally:
            self.subscribed.discard(peer)


async def _wish_again_after(steps: int) -> bool:
    """Run an account's session, cancel it, and begin the next run at that moment."""
    channel, taken = _Channel(), trio.Event()
    first, last = Deliveries(), Deliveries()
    async with trio.open_nursery() as nursery:
        server = ScriptedServer([spoken(channel.serve)], nursery)
        scope = trio.CancelScope()

        def cancel() -> None:
            scope.cancel()
            taken.set()

        async def run_first() -> None:
            with scope:
                await _session(server, first).run()

        instrument = _CancelAfter(steps, cancel)
        nursery.start_soon(run_first)
        trio.lowlevel.add_instrument(instrument)
        with trio.move_on_after(5):
            await taken.wait()
        trio.lowlevel.remove_instrument(instrument)
        by_count = taken.is_set()
        scope.cancel()
        session = _session(server, last)
        nursery.start_soon(session.run)
        # The first one may take a second to close its socket.
        await trio.sleep(1.5)
        assert session.statistics.subscribed
        (peer,) = channel.subscribed
        await peer.publish("once")
        await trio.sleep(0.5)
        assert [event.data for event in last.events] == ["once"]
        assert first.events == []
        nursery.cancel_scope.cancel()
    return by_count


async def test_row_36_an_account_that_is_wanted_again_at_any_step_has_one_session(
    autojump_clock: MockClock,
) -> None:
    """One subscription is left; its run gets the event, the cancelled one nothing."""
    steps = 1
    while await _wish_again_after(steps):
        steps += 1
    # From dialling to the acknowledgement; few would mean that it never got there.
    assert steps > 30


@pytest.mark.parametrize("moment", [0.5, 15.0, 30.0])
async def test_a_session_is_cancelled_within_a_second(
    moment: float, autojump_clock: MockClock
) -> None:
    """A server that answers nothing holds up the end no longer than that."""
    async with trio.open_nursery() as servers:
        server = ScriptedServer([spoken(_deaf)], servers)
        session = _session(server, Deliveries())
        with trio.move_on_after(moment):
            await session.run()
        assert trio.current_time() - moment <= 1
        servers.cancel_scope.cancel()
