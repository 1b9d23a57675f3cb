"""What a session takes for a proof that it has received everything, on the wire."""

from __future__ import annotations

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.pusher.coverage import Cause, Interruption, Stalls
from tests.kit.scripted import CHANNEL, Peer, spoken, staged, work
from tests.pusher.courses import (
    Course,
    Ear,
    await_ping,
    check,
    close,
    hang,
    jump,
    lost,
    set_back,
)


SECOND = 1_000_000


async def test_a_quiet_connection_is_proved_by_the_ping_that_was_answered(
    autojump_clock: MockClock,
) -> None:
    """Not by the pong's receipt: what was sent behind it may be lost."""

    async def after(peer: Peer) -> None:
        await peer.read_until("pusher:ping")
        await trio.sleep_until(33)
        await peer.say("pusher:pong")
        await trio.sleep_until(40)

    ear = Ear()
    async with staged(lost(after), spoken(work), listener=ear) as (_, session):
        await trio.sleep_until(39)
        assert session.coverage.connection_us == 31 * SECOND
        await trio.sleep_until(50)
    assert [one.since_us for one in ear.interruptions] == [31 * SECOND]


async def _say_unasked(peer: Peer) -> None:
    await peer.publish(channel="other")
    await peer.say("pusher:pong")


def test_what_is_told_reaches_back_to_what_was_proved() -> None:
    """An event proves nothing, the answered ping behind it does."""
    cut = Cause.DISCONNECTED
    courses: dict[str, tuple[Course, list[Interruption]]] = {
        "an event whose ping finds no answer": (
            [(10, "proved"), (14, "not proved", await_ping, close(4200))],
            [Interruption(cut, 10 * SECOND, None, 4200)],
        ),
        "frames that weren't asked for": (
            [(8, _say_unasked), (10, close(4200))],
            [Interruption(cut, 1 * SECOND, None, 4200)],
        ),
        # Pongs prove nothing of a deaf connection, but for those before an event.
        "deaf since the last echo": (
            [(20, "first"), (21, "echo"), (60, hang)],
            [Interruption(Cause.DEAF, 20 * SECOND)],
        ),
        # An interruption doesn't end before it began.
        "a clock that is set back after an event": (
            [(3, "proves"), (4, set_back), (5, close(4200))],
            [Interruption(cut, 5 * SECOND, None, 4200)],
        ),
        # The first ping by the new time bounds it, however late the end is found:
        # pings at 20, 22, 52, 82, 112.
        "deaf, by a clock that was set back": (
            [(20, "first"), (21, "echo"), (40, set_back), (100, hang)],
            [Interruption(Cause.DEAF, 52 * SECOND)],
        ),
        **{
            f"refused with {code}": (
                [(2, close(code))],
                [Interruption(Cause.REFUSED, 1 * SECOND, None, code)],
            )
            for code in (4001, 4003, 4009)
        },
    }
    check(courses)


_JOB_FRAME = {"event": "request.status.updated", "channel": CHANNEL, "data": "{}"}
_PONG_FRAME = {"event": "pusher:pong"}


@pytest.mark.parametrize(
    ("run", "since_us"),
    [
        ([_PONG_FRAME, _JOB_FRAME], 31 * SECOND),
        ([_JOB_FRAME, _PONG_FRAME], 1 * SECOND),
        ([_JOB_FRAME, _PONG_FRAME, _JOB_FRAME], 31 * SECOND),
    ],
)
async def test_only_an_event_behind_the_pong_is_its_echo(
    run: list[dict[str, str]], since_us: int, autojump_clock: MockClock
) -> None:
    """In one run of messages too: before it, the subscription may just have gone."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        peer.acknowledges = False
        await peer.read_until("pusher:ping")
        await peer.say_at_once(*run)
        await trio.sleep_forever()

    ear = Ear()
    # Its server keeps silent on repeats, so that only echoes prove anything.
    async with staged(
        spoken(script), spoken(work), listener=ear, timeout_seconds=60
    ) as (_, session):
        await trio.sleep_until(32)
        assert session.coverage.connection_us == 31 * SECOND
        await trio.sleep_until(140)
    assert ear.interruptions == [Interruption(Cause.DEAF, since_us)]


async def test_an_event_right_behind_the_acknowledgement_is_no_earlier_echo(
    autojump_clock: MockClock,
) -> None:
    """What the connection before was proved by means nothing on this one."""

    async def first(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        for at in (2, 3):
            await trio.sleep_until(at)
            await peer.publish()
            with trio.move_on_after(0.5):
                await peer.answer_pings()
        await peer.close(4200)

    async def second(peer: Peer) -> None:
        await peer.establish()
        await peer.read_until("pusher:subscribe")
        await peer.publish("too early")
        await trio.sleep_until(5)
        acknowledgement = {
            "event": "pusher_internal:subscription_succeeded",
            "channel": CHANNEL,
        }
        await peer.say_at_once(acknowledgement, _JOB_FRAME)
        await trio.sleep_forever()

    ear = Ear()
    scripts = spoken(first), spoken(second), spoken(work)
    async with staged(*scripts, listener=ear) as (stage, _):
        await trio.sleep_until(60)
        # None is too early, neither before the acknowledgement nor right behind it.
        data = [event.data for event in stage.deliveries.events]
        assert data[2:] == ["too early", "{}"]
    assert [(one.cause, one.since_us) for one in ear.interruptions] == [
        (Cause.DISCONNECTED, 2 * SECOND),
        (Cause.DEAF, 5 * SECOND),
    ]


class _Line:
    """A way from a server that may become slower; what is on it at its cut is lost."""

    def __init__(self, peer: Peer, nursery: trio.Nursery) -> None:
        self._peer = peer
        self.delay_seconds = 0.0
        self._sender, self._frames = trio.open_memory_channel[
            tuple[float, dict[str, str]]
        ](10_000)
        nursery.start_soon(self._carry)

    def send(self, frame: dict[str, str]) -> None:
        """Have it arrive after the delay, behind what was sent before."""
        due = trio.current_time() + self.delay_seconds
        self._sender.send_nowait((due, frame))

    async def _carry(self) -> None:
        async for due, frame in self._frames:
            await trio.sleep_until(due)
            await self._peer.say_at_once(frame)


@pytest.mark.parametrize("cut_at", [25.0, 25.5, 26.0, 26.5])
@pytest.mark.parametrize("delay_seconds", [0.5, 1.9, 4])
async def test_a_line_that_becomes_slower_before_it_is_cut_loses_nothing_silently(
    delay_seconds: float, cut_at: float, autojump_clock: MockClock
) -> None:
    """Events that were sent before the last one was read lie in the gap too."""
    slow_at = 20.2
    sent: list[float] = []

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        async with trio.open_nursery() as nursery:
            line = _Line(peer, nursery)

            async def publish() -> None:
                while True:
                    await trio.sleep(0.1)
                    sent.append(trio.current_time())
                    line.send({**_JOB_FRAME, "data": str(len(sent) - 1)})

            async def slow_down() -> None:
                await trio.sleep_until(slow_at)
                line.delay_seconds = delay_seconds

            nursery.start_soon(publish)
            nursery.start_soon(slow_down)
            with trio.move_on_at(cut_at):
                while True:
                    await peer.read_until("pusher:ping")
                    line.send(_PONG_FRAME)
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(peer.stream)

    ear = Ear()
    async with staged(spoken(script), spoken(work), listener=ear) as (stage, _):
        await trio.sleep_until(30)
        read = {int(str(event.data)) for event in stage.deliveries.events}
        last_read_at = stage.deliveries.runs[-1][1] / SECOND
    lost_at = [at for number, at in enumerate(sent) if number not in read]
    (told,) = ear.interruptions
    since = told.since_us / SECOND
    # The trap: they were on their way while others were read.
    assert any(at < last_read_at for at in lost_at)
    assert min(lost_at) >= since
    # Two pings that weren't answered yet, at worst: one of them is under way.
    assert since >= min(lost_at) - 2 - delay_seconds - 0.2


async def _pings(peer: Peer, at: list[float]) -> None:
    while True:
        await peer.read_until("pusher:ping")
        at.append(trio.current_time())
        await peer.say("pusher:pong")


async def test_an_event_after_silence_has_a_ping_sent_behind_it_at_once(
    autojump_clock: MockClock,
) -> None:
    """Also the first one of a connection; one that follows soon has one after it."""
    at: list[float] = []

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pings, peer, at)
            for moment in (7, 50, 51.9):
                await trio.sleep_until(moment)
                await peer.publish()

    async with staged(spoken(script)) as (_, session):
        await trio.sleep_until(100)
        assert session.coverage.connection_us == 82 * SECOND
    assert at == [7, 37, 50, 52, 82]


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
    """The first look finds it; what is late by less than a second is none."""
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
