"""What a session tells of its hearing when the wall clock is set back."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from bridge.pusher.coverage import Cause, Interruption
from tests.kit.scripted import Peer, spoken, staged, work
from tests.pusher.courses import lost
from tests.pusher.ear import Ear


SECOND = 1_000_000


class _Clock:
    """A wall clock that is an hour ahead until it is set back."""

    offset_us = 3600 * SECOND

    def __call__(self) -> int:
        return self.offset_us + int(trio.current_time() * SECOND)


async def test_a_wall_clock_that_is_set_back_turns_nothing_around(
    autojump_clock: MockClock,
) -> None:
    """An interruption doesn't end before it began, and later proofs are of now."""
    clock = _Clock()

    async def after(peer: Peer) -> None:
        await trio.sleep_until(3)
        await peer.publish()
        await trio.sleep_until(4)
        clock.offset_us = 0
        await trio.sleep_until(5)

    ear = Ear(is_set_back=True)
    async with staged(lost(after), spoken(work), listener=ear, wall_clock=clock) as (
        _,
        session,
    ):
        await trio.sleep_until(60)
        assert session.coverage.connection_us == 35 * SECOND
    (told,) = ear.interruptions
    assert told.since_us == 5 * SECOND
    assert ear.subscriptions[1] >= told.since_us


async def test_an_echo_by_a_clock_that_was_set_back_is_not_of_the_future(
    autojump_clock: MockClock,
) -> None:
    """The first ping by the new time bounds it, however late the deafness is found."""
    clock = _Clock()

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        for at in (20, 21):
            with trio.move_on_at(at):
                await peer.answer_pings()
            await peer.publish()
        with trio.move_on_at(40):
            await peer.answer_pings()
        clock.offset_us = 0
        with trio.move_on_at(100):
            await peer.answer_pings()
        await trio.sleep_forever()

    ear = Ear(is_set_back=True)
    async with staged(spoken(script), spoken(work), listener=ear, wall_clock=clock):
        await trio.sleep_until(130)
    # Pings at 20, 22, 52, 82, 112.
    assert ear.interruptions == [Interruption(Cause.DEAF, 52 * SECOND)]
