"""Sessions of one process connect one after the other."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from bridge.pusher.turns import Turns
from tests.kit.scripted import ScriptedServer, Stage, spoken, work


async def _take(turns: Turns, taken: list[float]) -> None:
    await turns.take()
    taken.append(trio.current_time())


async def test_turns_have_a_distance_and_an_order(autojump_clock: MockClock) -> None:
    """A few go at once, the others one after the other; after a pause nobody waits."""
    turns, taken = Turns(0.5, at_once=3), list[float]()
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(_take, turns, taken)
    assert taken == [0, 0, 0, 0.5, 1, 1.5]
    await trio.sleep_until(10)
    for _ in range(4):
        await _take(turns, taken)
    assert taken[6:] == [10, 10, 10, 10.5]


async def test_a_turn_that_is_given_up_passes(autojump_clock: MockClock) -> None:
    """Whoever is cancelled while waiting holds nobody up for longer than that turn."""
    turns, taken = Turns(1, at_once=1), list[float]()
    await turns.take()
    with trio.move_on_after(0.5):
        await turns.take()
    await _take(turns, taken)
    assert taken == [2]


async def test_a_session_waits_for_its_turn_before_it_connects(
    autojump_clock: MockClock,
) -> None:
    """The wait takes nothing of the time that a connect may have."""
    turns = Turns(30, at_once=1)
    await turns.take()
    async with trio.open_nursery() as nursery:
        stage = Stage(ScriptedServer([spoken(work)], nursery), turns=turns)
        session = stage.session({"connect_timeout_seconds": 1})
        nursery.start_soon(session.run)
        await trio.sleep_until(31)
        assert session.statistics.subscribed
        assert stage.server.dials == [30]
        nursery.cancel_scope.cancel()
