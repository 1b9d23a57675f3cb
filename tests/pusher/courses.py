"""What a session reports of one connection, on which things happen by a table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import trio
from trio.testing import MockClock

from bridge.pusher.coverage import Interruption, Stalls
from tests.kit.scripted import Peer, Script, spoken, staged, work


Deed: TypeAlias = Callable[[Peer], Awaitable[None]]

Course: TypeAlias = Sequence[tuple[Any, ...]]
"""At which second, and what: events' data and deeds. Pings are answered between."""


class Ear:
    """What a session reported of its coverage."""

    def __init__(self, *, is_set_back: bool = False) -> None:
        self.subscriptions: list[int] = []
        self.interruptions: list[Interruption] = []
        self._open = True
        self._is_set_back = is_set_back
        self._latest_us = 0

    def subscribed(self, at_us: int) -> None:
        """Note a subscription."""
        assert self._open, "a second subscription without an interruption"
        assert at_us >= self._latest_us, "a subscription before what it ends"
        self.subscriptions.append(at_us)
        self._open = False
        self._latest_us = at_us

    def interrupted(self, interruption: Interruption) -> None:
        """Note an interruption."""
        assert self.subscriptions, "an interruption of nothing"
        assert not self._open, "an interruption within an interruption"
        assert interruption.since_us > 0
        assert self._is_set_back or interruption.since_us >= self._latest_us
        self._latest_us = interruption.since_us
        if interruption.until_us is not None:
            assert interruption.until_us >= interruption.since_us
            self._latest_us = interruption.until_us
        self._open = interruption.until_us is None
        self.interruptions.append(interruption)


def jump(seconds: float) -> Deed:
    """Suspend the whole process."""

    async def jump_(_: Peer) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        clock.jump(seconds)

    return jump_


class WallClock:
    """A clock that begins an hour ahead where a course sets it back."""

    offset_us = 0

    def __call__(self) -> int:
        """Give microseconds."""
        return self.offset_us + int(trio.current_time() * 1_000_000)


async def set_back(_: Peer) -> None:
    """Set the wall clock right."""
    WallClock.offset_us = 0


def close(code: int) -> Deed:
    """End the connection with a code."""
    return lambda peer: peer.close(code)


async def await_ping(peer: Peer) -> None:
    """Wait for a ping, and leave it without an answer."""
    await peer.read_until("pusher:ping")


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
    """Give what is reported of a course; what was sent is delivered."""
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

    is_set_back = any(set_back in step for step in steps)
    WallClock.offset_us = 3_600_000_000 if is_set_back else 0
    ear, stalls = Ear(is_set_back=is_set_back), Stalls(clock=trio.current_time)
    async with staged(
        lost(script),
        spoken(work),
        listener=ear,
        stalls=stalls,
        wall_clock=WallClock(),
    ) as (stage, session):
        # A pong's deadline after the last of all stalls, and some waits.
        await trio.sleep_until(245)
        assert session.statistics.subscribed
        assert [event.data for event in stage.deliveries.events] == sent
    return ear.interruptions
