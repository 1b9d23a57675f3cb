"""Whatever servers do, one after the other: what is told stays in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from bridge.pusher.interruption import Cause, Interruption
from bridge.pusher.stalls import Stalls
from bridge.pusher.statistics import Outcome
from tests.kit.scripted import CHANNEL, Peer, Script, spoken, staged


_Act = Callable[[Peer, MockClock, float], Awaitable[None]]


async def _enrol(peer: Peer, clock: MockClock, seconds: float) -> None:
    with trio.move_on_after(5):
        await peer.enrol()


async def _publish(peer: Peer, clock: MockClock, seconds: float) -> None:
    await peer.publish("x")


async def _publish_elsewhere(peer: Peer, clock: MockClock, seconds: float) -> None:
    await peer.publish("x", channel="other")


async def _flood(peer: Peer, clock: MockClock, seconds: float) -> None:
    for _ in range(12):
        await peer.publish("x" * 100_000)


async def _forge(peer: Peer, clock: MockClock, seconds: float) -> None:
    await peer.say("pusher:pong")
    await peer.say("pusher:subscription_error", channel=CHANNEL)
    await peer.acknowledge()


async def _complain(peer: Peer, clock: MockClock, seconds: float) -> None:
    await peer.complain(4201)


async def _grow_deaf(peer: Peer, clock: MockClock, seconds: float) -> None:
    peer.acknowledges = False


async def _say_nothing(peer: Peer, clock: MockClock, seconds: float) -> None:
    await trio.sleep(seconds * 3)


async def _work(peer: Peer, clock: MockClock, seconds: float) -> None:
    with trio.move_on_after(seconds * 3):
        await peer.answer_pings()


async def _stall(peer: Peer, clock: MockClock, seconds: float) -> None:
    clock.jump(seconds)


async def _close(peer: Peer, clock: MockClock, seconds: float) -> None:
    await peer.close(4200)


async def _refuse(peer: Peer, clock: MockClock, seconds: float) -> None:
    await peer.close(4009)


async def _break(peer: Peer, clock: MockClock, seconds: float) -> None:
    await trio.aclose_forcefully(peer.stream)
    await trio.sleep_forever()


# What a server does, one after the other, and the seconds for what takes time.
_ACTS: Sequence[_Act] = (
    _enrol,
    _work,
    _publish,
    _stall,
    _publish_elsewhere,
    _flood,
    _forge,
    _complain,
    _grow_deaf,
    _say_nothing,
    _close,
    _refuse,
    _break,
)

_behaviours = st.lists(
    st.lists(
        st.tuples(st.sampled_from(_ACTS), st.floats(0, 15)),
        max_size=8,
    ),
    max_size=5,
)


class _Minutes:
    """Takes down what is told, in order."""

    def __init__(self) -> None:
        self.told: list[int | Interruption] = []

    def subscribed(self, at_us: int) -> None:
        self.told.append(at_us)

    def interrupted(self, interruption: Interruption) -> None:
        self.told.append(interruption)


def _played(acts: list[tuple[_Act, float]], clock: MockClock) -> Script:
    async def script(peer: Peer) -> None:
        for act, seconds in acts:
            await act(peer, clock, seconds)
        await peer.close(4200)

    return spoken(script)


async def _worked_once(peer: Peer) -> None:
    """Begin with a subscription, so that no refusal ends the session."""
    await _enrol(peer, MockClock(), 0)
    await peer.close(4200)


def _holds(told: list[int | Interruption]) -> bool:
    """Check that what was told takes turns and goes forward; whether it hears now."""
    hears = False
    latest_since_us = ended_us = 0
    for one in told:
        if isinstance(one, int):
            assert not hears
            assert one >= latest_since_us
            ended_us, hears = one, True
            continue
        assert hears
        assert one.since_us >= max(latest_since_us, ended_us)
        latest_since_us = one.since_us
        if one.until_us is None:
            hears = False
        else:
            assert one.cause is Cause.SUSPENDED
            assert one.until_us >= one.since_us
            ended_us = one.until_us
    return hears


@settings(max_examples=50)
@given(_behaviours)
def test_what_is_told_alternates_and_goes_forward(
    behaviours: list[list[tuple[_Act, float]]],
) -> None:
    """
    Subscriptions and interruptions without end take turns, and times only grow.

    There are as many interruptions without end as connections that were subscribed
    and lost. In the end a server works: then the session hears, and knows it.
    """
    clock = MockClock(autojump_threshold=0)
    minutes = _Minutes()
    worked = trio.Event()

    async def finally_work(peer: Peer) -> None:
        await peer.enrol()
        worked.set()
        await peer.answer_pings()

    async def main() -> None:
        await trio.sleep(1)
        async with staged(
            spoken(_worked_once),
            *(_played(acts, clock) for acts in behaviours),
            spoken(finally_work),
            listener=minutes,
            stalls=Stalls(clock=trio.current_time),
            has_jobs=lambda: True,
            probe_interval_seconds=40,
            probe_silence_seconds=10,
            refused_timeout_seconds=1e6,
        ) as (_, session):
            with trio.fail_after(10_000):
                await worked.wait()
            await trio.sleep(60)
            statistics = session.statistics
            assert statistics.subscribed
            assert statistics.proved_us is not None
            assert statistics.proved_us > (trio.current_time() - 60) * 1_000_000
            subscriptions = statistics.connects[Outcome.SUBSCRIBED]
            assert sum(isinstance(one, int) for one in minutes.told) == subscriptions

    trio.run(main, clock=clock)
    assert _holds(minutes.told)
