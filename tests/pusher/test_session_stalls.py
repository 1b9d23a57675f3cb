"""A session in a process that stands still: what it tells, and what it may not."""

from __future__ import annotations

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.pusher.coverage import Cause, Interruption, Stalls
from tests.kit.scripted import Peer, spoken, staged
from tests.pusher.courses import Course, Ear, await_ping, check, close, hang, jump


SECOND = 1_000_000

# More than what soketi keeps for a slow reader, in 12 messages.
_FLOOD = ["x" * 100_000] * 12


def _stalls() -> Stalls:
    """Make stalls that see a jump of the test's clock."""
    return Stalls(clock=trio.current_time)


async def _pong_at_27(peer: Peer) -> None:
    await peer.read_until("pusher:ping")
    await trio.sleep_until(27)
    await peer.say("pusher:pong")


async def _say_pong(peer: Peer) -> None:
    await peer.say("pusher:pong")


async def _say_wide(peer: Peer) -> None:
    """Send 400,000 characters of three bytes each."""
    frame = '{"event":"other","data":"' + "\N{EURO SIGN}" * 400_000 + '"}'
    await peer.socket.send_message(frame)


_COURSES: dict[str, tuple[Course, list[Interruption]]] = {
    "little was waiting": ([(10.1, "waits", jump(30))], []),
    "more was waiting than a server keeps, until a ping sent after it was answered": (
        [(5, "is proved"), (10.1, jump(15), *_FLOOD, _pong_at_27)],
        [Interruption(Cause.SUSPENDED, 5 * SECOND, 27 * SECOND)],
    ),
    "past the deadline of a pong that came meanwhile": (
        [(30, await_ping, jump(60), _say_pong)],
        [],
    ),
    "half of what a server keeps, twice": (
        [(10.1, jump(5), *_FLOOD[:7]), (50.1, jump(5), *_FLOOD[:7])],
        [],
    ),
    "bytes are counted, not characters": (
        [(10.1, jump(30), _say_wide)],
        [Interruption(Cause.SUSPENDED, 1 * SECOND, 40_100_000)],
    ),
    "the connection ended meanwhile, and what waited moves no bound": (
        [(5, "is proved"), (10.1, "waits", jump(200), close(4201))],
        [Interruption(Cause.SUSPENDED, 5 * SECOND, None, 4201)],
    ),
    "a connection that is dead is found by a ping at once": (
        [(1, "proves"), (10.1, jump(200), hang)],
        [Interruption(Cause.SUSPENDED, 1 * SECOND)],
    ),
    "a refusal says more than a clock": (
        [(10.1, jump(60), close(4009))],
        [Interruption(Cause.REFUSED, 1 * SECOND, None, 4009)],
    ),
}


def test_what_is_told_of_a_stall() -> None:
    """Nothing, if little was waiting; else from what was proved before it."""
    check(_COURSES)


async def test_a_ping_from_before_the_stall_proves_nothing(
    autojump_clock: MockClock,
) -> None:
    """Its pong may have waited; another ping goes out right behind it."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        await peer.read_until("pusher:ping")
        autojump_clock.jump(5)
        await peer.say("pusher:pong")
        await trio.sleep(0.5)
        for payload in _FLOOD:
            await peer.publish(payload)
        await peer.answer_pings()

    ear = Ear()
    async with staged(spoken(script), listener=ear, stalls=_stalls()):
        await trio.sleep_until(50)
    (lost,) = ear.interruptions
    assert lost.cause is Cause.SUSPENDED
    # No ping was answered before it.
    assert lost.since_us == 1 * SECOND
    assert lost.until_us == pytest.approx(36.5 * SECOND, abs=0.5 * SECOND)


async def test_a_long_pause_is_looked_at_like_a_stall(
    autojump_clock: MockClock,
) -> None:
    """A session that is held back for two seconds may cost what a stall costs."""

    async def pause() -> None:
        if 9 < trio.current_time() < 11:
            await trio.sleep(2)

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        await trio.sleep_until(5)
        await peer.publish("is proved")
        with trio.move_on_at(10):
            await peer.answer_pings()
        await peer.publish("is delivered, and then the session is held back")
        for payload in _FLOOD:
            await peer.publish(payload)
        await peer.answer_pings()

    ear = Ear()
    async with staged(spoken(script), listener=ear, pause=pause) as (stage, _):
        await trio.sleep_until(20)
        assert len(stage.deliveries.events) == 2 + len(_FLOOD)
    assert ear.interruptions == [Interruption(Cause.SUSPENDED, 5 * SECOND, 12 * SECOND)]


async def test_a_jump_of_the_clock_is_a_stall_and_is_reported_once(
    autojump_clock: MockClock,
) -> None:
    """Whoever looks first finds it; what is late by less than a second is none."""
    stalls = Stalls(clock=trio.current_time)
    found: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stalls.run)
        with structlog.testing.capture_logs() as logs:
            stalls.watchers.add(lambda: found.append(trio.current_time()))
            await trio.sleep(10.1)
            autojump_clock.jump(60)
            stalls.look()
            assert found == [70.1]
            for _ in range(20):
                autojump_clock.jump(0.9)
                await trio.sleep(0.3)
            assert (found, stalls.count) == ([70.1], 1)
            stalls.watchers.clear()
            autojump_clock.jump(60)
            await trio.sleep(1)
            assert (found, stalls.count) == ([70.1], 2)
        nursery.cancel_scope.cancel()
    assert [(log["event"], log["seconds"]) for log in logs] == [
        ("process.stalled", pytest.approx(60, abs=0.3))
    ] * 2
