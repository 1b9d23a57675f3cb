"""
What a session tells of its hearing: one interruption a loss, and its bounds.

Probes stand in test_probe.py, what a stall costs in test_session_stalls.py,
sequences of whatever servers may do in test_interruption_sequences.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from bridge.pusher.interruption import Cause, Interruption
from tests.pusher.ear import Ear
from tests.pusher.scripted import (
    Peer,
    Script,
    closing,
    refusal,
    spoken,
    staged,
    work,
)


SECOND = 1_000_000


class _Ear(Ear):
    """An ear that notes when it was told (trio's clock)."""

    def __init__(self) -> None:
        super().__init__()
        self.told_at: list[float] = []

    def interrupted(self, interruption: Interruption) -> None:
        super().interrupted(interruption)
        self.told_at.append(trio.current_time())


def _lost(after: Callable[[Peer], Awaitable[None]], *, code: int = 4200) -> Script:
    """Subscribe at 1 s, do something, and close."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        await after(peer)
        await peer.close(code)

    return spoken(script)


async def test_an_interruption_is_told_at_once_and_ends_with_the_next_subscription(
    autojump_clock: MockClock,
) -> None:
    """It is told before the wait for the next connect, with the code of the end."""

    async def after(peer: Peer) -> None:
        await trio.sleep_until(3)
        await peer.publish()
        await trio.sleep_until(10)

    ear = _Ear()
    async with staged(_lost(after, code=4100), spoken(work), listener=ear):
        await trio.sleep(60)
    assert ear.interruptions == [
        Interruption(Cause.DISCONNECTED, 3 * SECOND, None, 4100)
    ]
    assert ear.told_at == [10]
    first, second = ear.subscriptions
    assert first == 1 * SECOND
    assert 11 * SECOND <= second <= 12 * SECOND


async def test_a_quiet_connection_is_proved_by_the_ping_that_was_answered(
    autojump_clock: MockClock,
) -> None:
    """Not by the pong's receipt: what was sent behind it may be lost."""

    async def after(peer: Peer) -> None:
        await peer.read_until("pusher:ping")
        await trio.sleep_until(33)
        await peer.say("pusher:pong")
        await trio.sleep_until(40)

    ear = _Ear()
    async with staged(_lost(after), spoken(work), listener=ear) as (_, session):
        await trio.sleep_until(39)
        assert session.statistics.proved_us == 31 * SECOND
        await trio.sleep_until(50)
    assert [one.since_us for one in ear.interruptions] == [31 * SECOND]


async def test_an_event_proves_what_was_sent_a_trip_before_it(
    autojump_clock: MockClock,
) -> None:
    """The last round trip took 3 s, so what was sent within 3 s may be under way."""

    async def after(peer: Peer) -> None:
        await peer.read_until("pusher:ping")
        await trio.sleep_until(34)
        await peer.say("pusher:pong")
        await trio.sleep_until(40)
        await peer.publish()

    ear = _Ear()
    async with staged(_lost(after), spoken(work), listener=ear):
        await trio.sleep_until(50)
    assert [one.since_us for one in ear.interruptions] == [37 * SECOND]


async def test_the_trip_of_a_subscription_begins_with_the_first_request(
    autojump_clock: MockClock,
) -> None:
    """Answered a second after it was sent again, it took ten seconds."""

    async def slow(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.establish()
        for _ in range(2):
            await peer.read_until("pusher:subscribe")
        await trio.sleep_until(11)
        await peer.acknowledge()
        await trio.sleep_until(24)
        await peer.publish()
        await trio.sleep_until(25)
        await peer.close(4200)

    ear = _Ear()
    async with staged(spoken(slow), spoken(work), listener=ear):
        await trio.sleep_until(30)
    assert [one.since_us for one in ear.interruptions] == [14 * SECOND]


async def test_what_waited_for_a_busy_reader_may_have_been_sent_long_before(
    autojump_clock: MockClock,
) -> None:
    """The reader stood back for 0.5 s twice: so much longer may the third have waited.

    A server that dies then takes with it what was sent meanwhile. What the reader
    does after the last event delays nothing that has been read.
    """

    async def after(peer: Peer) -> None:
        for at in (5, 6, 7):
            await trio.sleep_until(at)
            await peer.publish()
        await trio.sleep_until(10)

    async def busy() -> None:
        await trio.sleep(0.5)

    ear = _Ear()
    async with staged(_lost(after), spoken(work), listener=ear, pause=busy):
        await trio.sleep_until(20)
    assert [one.since_us for one in ear.interruptions] == [6 * SECOND]


async def test_a_pong_tells_what_a_busy_reader_cost(
    autojump_clock: MockClock,
) -> None:
    """The ping at 31 s was answered at once: nothing had waited any more."""

    async def after(peer: Peer) -> None:
        await trio.sleep_until(5)
        await peer.publish()
        await peer.read_until("pusher:ping")
        await peer.say("pusher:pong")
        await trio.sleep_until(35)
        await peer.publish()
        await trio.sleep_until(36)

    async def busy() -> None:
        await trio.sleep(0.5)

    ear = _Ear()
    async with staged(_lost(after), spoken(work), listener=ear, pause=busy):
        await trio.sleep_until(40)
    assert [one.since_us for one in ear.interruptions] == [35 * SECOND]


async def test_any_frame_proves_what_was_sent_before_it(
    autojump_clock: MockClock,
) -> None:
    """What the server says last of all came behind every event."""

    async def after(peer: Peer) -> None:
        await trio.sleep_until(9)
        await peer.complain(4200)
        await trio.sleep_until(10)

    ear = _Ear()
    async with staged(_lost(after), spoken(work), listener=ear):
        await trio.sleep_until(20)
    assert [one.since_us for one in ear.interruptions] == [9 * SECOND]


async def test_a_frame_before_the_subscription_proves_nothing(
    autojump_clock: MockClock,
) -> None:
    """While nothing is subscribed, what is proved stays where it was."""

    async def after(peer: Peer) -> None:
        await trio.sleep_until(10)

    async def mute(peer: Peer) -> None:
        await peer.establish()
        await trio.sleep_forever()

    async with staged(_lost(after), spoken(mute)) as (_, session):
        await trio.sleep_until(15)
        assert session.statistics.proved_us == 1 * SECOND


async def test_a_connection_without_pong_was_deaf_since_the_last_event(
    autojump_clock: MockClock,
) -> None:
    """Earlier pongs prove nothing of a connection that turned out to be deaf."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        with trio.move_on_at(20):
            await peer.answer_pings()
        await peer.publish()
        with trio.move_on_at(60):
            await peer.answer_pings()
        await trio.sleep_forever()

    ear = _Ear()
    async with staged(spoken(script), spoken(work), listener=ear):
        await trio.sleep_until(120)
    assert ear.interruptions == [Interruption(Cause.DEAF, 20 * SECOND)]
    # Pings at 31, 61, and ten seconds for the pong.
    assert ear.told_at == [71]


@pytest.mark.parametrize("code", [4001, 4003, 4009])
async def test_a_subscribed_account_that_is_refused_is_told_as_refused(
    code: int, autojump_clock: MockClock
) -> None:
    """A verdict that is final for a start makes the cause `refused`."""

    async def after(peer: Peer) -> None:
        await trio.sleep_until(2)

    ear = _Ear()
    async with staged(_lost(after, code=code), spoken(work), listener=ear):
        await trio.sleep_until(60)
    assert [(one.cause, one.close_code) for one in ear.interruptions] == [
        (Cause.REFUSED, code)
    ]
    assert len(ear.subscriptions) == 2


async def test_a_message_above_the_cap_is_an_interruption_with_its_code(
    autojump_clock: MockClock,
) -> None:
    """The message is lost, and so is what comes until the next subscription."""

    async def after(peer: Peer) -> None:
        await trio.sleep_until(2)
        await peer.publish("small")
        await trio.sleep_until(3)
        await peer.publish("x" * 2000)
        await peer.answer_pings()

    ear = _Ear()
    async with staged(
        _lost(after), spoken(work), listener=ear, max_message_bytes=1024
    ) as (stage, _):
        await trio.sleep_until(10)
        assert [event.data for event in stage.deliveries.events] == ["small"]
    assert ear.interruptions == [
        Interruption(Cause.DISCONNECTED, 2 * SECOND, None, 1009)
    ]


async def test_who_was_never_subscribed_has_nothing_to_tell(
    autojump_clock: MockClock,
) -> None:
    """Failed attempts and refusals are no interruptions."""
    ear = _Ear()
    async with staged(closing(4200), listener=ear) as (_, session):
        await trio.sleep(60)
        assert session.statistics.proved_us is None
    await refusal(closing(4001), listener=ear)
    assert not ear.subscriptions
    assert not ear.interruptions


async def test_a_stopped_session_tells_nothing_and_keeps_what_is_proved(
    autojump_clock: MockClock,
) -> None:
    """Its end is its owner's to tell, from `proved_us` on."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        await trio.sleep_until(3)
        await peer.publish()
        await peer.answer_pings()

    ear = _Ear()
    async with staged(spoken(script), listener=ear) as (_, session):
        await trio.sleep_until(4)
        assert session.statistics.proved_us == 3 * SECOND
    assert ear.interruptions == []
    assert session.statistics.proved_us == 3 * SECOND


async def test_a_wall_clock_that_is_set_back_turns_nothing_around(
    autojump_clock: MockClock,
) -> None:
    """An interruption doesn't end before it began, and later proofs are of now."""
    offset_us = 3600 * SECOND

    def clock() -> int:
        return offset_us + int(trio.current_time() * SECOND)

    async def after(peer: Peer) -> None:
        nonlocal offset_us
        await trio.sleep_until(3)
        await peer.publish()
        await trio.sleep_until(4)
        offset_us = 0
        await trio.sleep_until(5)

    ear = _Ear()
    async with staged(_lost(after), spoken(work), listener=ear, wall_clock=clock) as (
        _,
        session,
    ):
        await trio.sleep_until(60)
        assert session.statistics.proved_us == 35 * SECOND
    (lost,) = ear.interruptions
    assert lost.since_us == 5 * SECOND
    assert ear.subscriptions[1] >= lost.since_us


async def test_a_wall_clock_that_is_set_back_in_between_makes_no_negative_gap(
    autojump_clock: MockClock,
) -> None:
    """A subscription isn't told to be before the interruption that it ends."""
    offset_us = 3600 * SECOND

    def clock() -> int:
        return offset_us + int(trio.current_time() * SECOND)

    async def after(peer: Peer) -> None:
        await trio.sleep_until(3)
        await peer.publish()

    async def slow(peer: Peer) -> None:
        nonlocal offset_us
        offset_us = 0
        await trio.sleep_until(8)
        await work(peer)

    ear = _Ear()
    async with staged(_lost(after), spoken(slow), listener=ear, wall_clock=clock):
        await trio.sleep_until(10)
    assert [one.since_us for one in ear.interruptions] == [3603 * SECOND]
    assert ear.subscriptions[1] == 3603 * SECOND
