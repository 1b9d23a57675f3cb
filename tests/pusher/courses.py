"""What a session tells of one connection, on which things happen by a table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import trio
from trio.testing import MockClock

from bridge.pusher.coverage import Interruption, Stalls
from tests.kit.scripted import Peer, Script, spoken, staged, work
from tests.pusher.ear import Ear


Deed: TypeAlias = Callable[[Peer], Awaitable[None]]

Course: TypeAlias = Sequence[tuple[Any, ...]]
"""At which second, and what: events' data and deeds. Pings are answered between."""


def jump(seconds: float) -> Deed:
    """Suspend the whole process."""

    async def jump_(_: Peer) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        clock.jump(seconds)

    return jump_


def close(code: int) -> Deed:
    """End the connection with a code."""
    return lambda peer: peer.close(code)


async def hang(_: Peer) -> None:
    """Answer nothing any more."""
    await trio.sleep_forever()


def lost(after: Deed, *, code: int = 4200) -> Script:
    """Make a server that subscribes at 1 s, does something, and closes."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        await after(peer)
        await peer.close(code)

    return spoken(script)


def check(courses: Mapping[str, tuple[Course, list[Interruption]]]) -> None:
    """Try each course, and name all whose interruptions are other than expected."""
    told = {
        name: trio.run(_told, steps, clock=MockClock(autojump_threshold=0))
        for name, (steps, _) in courses.items()
    }
    assert told == {name: expected for name, (_, expected) in courses.items()}


async def _told(steps: Course) -> list[Interruption]:
    """Give what is told of a course; what was sent is delivered."""
    sent: list[str] = []

    async def script(peer: Peer) -> None:
        for at, *deeds in steps:
            with trio.move_on_at(at):
                await peer.answer_pings()
            for deed in deeds:
                if isinstance(deed, str):
                    await peer.publish(deed)
                    sent.append(deed)
                else:
                    await deed(peer)
        await peer.answer_pings()

    ear, stalls = Ear(), Stalls(clock=trio.current_time)
    async with staged(lost(script), spoken(work), listener=ear, stalls=stalls) as (
        stage,
        session,
    ):
        # A pong's deadline after the last of all stalls, and some waits.
        await trio.sleep_until(245)
        assert session.statistics.subscribed
        assert [event.data for event in stage.deliveries.events] == sent
    return ear.interruptions
