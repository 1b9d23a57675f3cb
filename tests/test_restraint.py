"""Standing back while the outbox is crowded, under trio's clock."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from bridge.restraint import Restraint


class Crowd:
    """Says whether it is crowded, as it is told."""

    def __init__(self, *, crowded: bool) -> None:
        self.crowded = crowded

    def __call__(self) -> bool:
        """Say it."""
        return self.crowded

    async def relax_after(self, seconds: float) -> None:
        """Stop being crowded some time from now."""
        await trio.sleep(seconds)
        self.crowded = False


async def seconds_of(restraint: Restraint) -> float:
    """Await it once and say how long that took."""
    begun = trio.current_time()
    await restraint()
    return trio.current_time() - begun


async def test_nobody_waits_while_there_is_room(autojump_clock: MockClock) -> None:
    """The usual case costs no time."""
    assert await seconds_of(Restraint(Crowd(crowded=False))) == 0


async def test_it_waits_until_there_is_room_again(autojump_clock: MockClock) -> None:
    """A thread that catches up is waited for, and again the next time."""
    crowd = Crowd(crowded=True)
    restraint = Restraint(crowd)
    for _ in range(2):
        crowd.crowded = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.relax_after, 0.5)
            assert 0.5 <= await seconds_of(restraint) < 0.6


async def test_a_thread_that_does_not_catch_up_is_waited_for_once(
    autojump_clock: MockClock,
) -> None:
    """With a hanging disk the session reads on until the buffer was relaxed once."""
    crowd = Crowd(crowded=True)
    restraint = Restraint(crowd)
    assert 1.9 < await seconds_of(restraint) < 2.1
    assert await seconds_of(restraint) == 0
    crowd.crowded = False
    assert await seconds_of(restraint) == 0
    crowd.crowded = True
    assert await seconds_of(restraint) > 1.9


async def test_sessions_go_on_one_after_the_other(autojump_clock: MockClock) -> None:
    """Whoever goes on hands over what fills the room, and the others wait again."""
    crowd = Crowd(crowded=True)
    restraint = Restraint(crowd)
    handed_over: list[float] = []

    async def session() -> None:
        await restraint()
        assert not crowd.crowded
        handed_over.append(trio.current_time())
        crowd.crowded = True

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(session)
        for _ in range(3):
            await crowd.relax_after(1)
    waited = [round(moment - begun, 1) for moment in handed_over]
    assert waited == [1.0, 2.0, 3.0]


async def test_who_waits_for_a_hanging_disk_holds_nobody_up_twice(
    autojump_clock: MockClock,
) -> None:
    """The patience of one is that of all."""
    restraint = Restraint(Crowd(crowded=True))
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(restraint)
    assert 1.9 < trio.current_time() - begun < 2.1


async def test_many_before_it_hold_nobody_up_for_long(
    autojump_clock: MockClock,
) -> None:
    """A pong behind what waits is read in time, however many go on before."""
    crowd = Crowd(crowded=True)
    restraint = Restraint(crowd)
    waited: list[float] = []

    async def session() -> None:
        for _ in range(2):
            waited.append(await seconds_of(restraint))
            crowd.crowded = True

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(session)
        while len(waited) < 200:
            await crowd.relax_after(1)
    assert max(waited) < 4.1
