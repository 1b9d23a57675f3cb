"""Calls to the status endpoint against servers that count differently, for two days.

State: a `Limiter`, a server with limits of a minute (fixed, sliding, by the clock) and
a day, a network that delays, callers in bursts, the user's own programs, and processes
that are killed; all on trio's clock, which jumps.

Invariant: no call is refused when no other program calls; the reserve is left to the
user; no call is made before Retry-After is over; a killed process forgets no call.

Two days take 20 to 100 ms.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bridge.gaps.limiter import Limiter, Purpose
from bridge.outbox.values import Spent
from tests.gaps.limited import LimitedApi, MinuteKind, ask, now_us
from tests.models.exploring import explored


_TWO_DAYS_SECONDS = 2 * 86_400.0

_Limits = tuple[int, int | None]


@dataclass(frozen=True)
class _Scene:
    """A server, a network and a habit."""

    minute: MinuteKind
    limits: _Limits
    reserve: int
    slowest: float
    seed: int

    def api(self) -> LimitedApi:
        """Make the server."""
        return LimitedApi(*self.limits, minute=self.minute)


_DOCUMENTED: tuple[_Limits, ...] = ((50, 200), (300, None))
_SMALL: tuple[_Limits, ...] = ((5, 30), (3, None))


def _scenes(
    *minutes: MinuteKind,
    reserves: tuple[int, ...],
    limits: tuple[_Limits, ...] = _DOCUMENTED + _SMALL,
) -> Any:
    return st.builds(
        _Scene,
        st.sampled_from(minutes),
        st.sampled_from(limits),
        st.sampled_from(reserves),
        # Seconds of a way; the client waits for 10 s.
        st.sampled_from([0.0, 0.05, 1.0, 5.0]),
        st.integers(0, 2**32),
    )


class _Life:
    """A process that calls, now and then many times, beside the user's programs."""

    def __init__(self, api: LimitedApi, scene: _Scene) -> None:
        self.api = api
        self.chance = random.Random(scene.seed)
        self._left: Spent | None = None
        self._scene = scene
        self.start()

    def start(self) -> None:
        """Begin as a process does, with what the one before left behind."""
        self.limiter = Limiter(
            trio.current_time,
            reserve_percent=self._scene.reserve,
            now_us=now_us,
            spent=self._left,
            on_spent=self._leave,
            jitter=self.chance,
        )

    def _leave(self, spent: Spent) -> None:
        self._left = spent

    def latency(self) -> float:
        """Give how long a way takes: mostly short."""
        return self._scene.slowest * self.chance.random() ** 4

    async def call(self) -> None:
        """Make bursts of calls, some hours apart."""
        for _ in range(12):
            calls = self.chance.choice([1, 3, 20, 100, 400])
            await self._work(calls)
            await trio.sleep(self.chance.choice([0.5, 30, 70, 3000, 20_000]))

    async def _work(self, calls: int) -> None:
        for _ in range(calls):
            purpose = self.chance.choice(list(Purpose))
            is_asked = await ask(self.api, self.limiter, purpose, self.latency)
            # Stale jobs have used up their part long before gaps have.
            if not is_asked and purpose is Purpose.GAP:
                return


def _live(life: Callable[[], Awaitable[None]]) -> None:
    """Run for two days of trio's time."""

    async def live() -> None:
        with trio.move_on_after(_TWO_DAYS_SECONDS):
            await life()

    trio.run(live, clock=MockClock(autojump_threshold=0))


@explored(1 / 12)
@given(_scenes("fixed", "sliding", "clock", reserves=(0, 10, 25)), st.booleans())
def test_no_call_is_refused_when_nobody_else_calls(
    scene: _Scene,
    fails: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    """However the server counts, and however long answers take."""
    api = scene.api()

    async def break_now_and_then(chance: random.Random) -> None:
        while fails:
            await trio.sleep(chance.uniform(1, 20_000))
            api.is_broken = True
            await trio.sleep(chance.uniform(1, 300))
            api.is_broken = False

    async def live() -> None:
        life = _Life(api, scene)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(break_now_and_then, life.chance)
            await life.call()
            nursery.cancel_scope.cancel()

    _live(live)
    assert api.refused == 0
    assert api.served or fails


# With a minute that slides, a call counts a moment longer in the bridge than in the
# server, and can hide another one meanwhile. dryAPI's are fixed.
@explored(1 / 12)
@given(_scenes("fixed", "clock", reserves=(10, 25, 50)))
def test_the_bridge_leaves_the_reserve_to_the_user(scene: _Scene) -> None:
    """What a call takes of it is what the user has used since the last answer."""
    api = scene.api()
    has_called = trio.Event()

    async def use(chance: random.Random) -> None:
        while True:
            for _ in range(chance.choice([1, 2, 30])):
                api.call(is_own=False)
            has_called.set()
            await trio.sleep(chance.choice([0.01, 0.3, 10, 100, 10_000]))

    async def live() -> None:
        life = _Life(api, scene)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, life.chance)
            # Until others were seen to call, calls of theirs can be hidden by as many
            # of the bridge's that the server has forgotten.
            await has_called.wait()
            await life.call()
            nursery.cancel_scope.cancel()

    _live(live)
    assert not api.early
    kept = [
        (limit or 0) - (limit or 0) * (100 - scene.reserve) // 100
        for limit in scene.limits
    ]
    for number, served in enumerate(api.served):
        if served.is_own:
            since = api.served[served.known : number]
            unknown = sum(not call.is_own for call in since)
            assert served.left[0] + unknown >= kept[0]
            assert served.left[1] + unknown >= kept[1]


# What a process did in its last minute the next one learns from its first answer, which
# takes a call: the limits have to be larger than that. What the day has cost it knows.
@explored(1 / 15)
@given(
    _scenes("fixed", "sliding", "clock", reserves=(25, 50), limits=_DOCUMENTED)
    | _scenes("fixed", reserves=(0,), limits=((1000, 200),))
)
def test_a_process_that_is_killed_forgets_no_call(scene: _Scene) -> None:
    """However often it is restarted, no call is refused."""
    api = scene.api()

    async def live() -> None:
        life = _Life(api, scene)
        for _ in range(20):
            with trio.move_on_after(life.chance.choice([1, 20, 500, 10_000])):
                await life.call()
            life.start()

    _live(live)
    assert api.refused == 0
    assert api.served
