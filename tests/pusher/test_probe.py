"""The subscription probe: when it is sent, and what its answers mean."""

from __future__ import annotations

import math

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.pusher.interruption import Cause, Interruption
from bridge.pusher.probe import Habit
from bridge.pusher.statistics import ProbeOutcome, Probing, Statistics
from tests.pusher.ear import Ear
from tests.pusher.scripted import CHANNEL, Peer, Script, spoken, staged, work


SECOND = 1_000_000

# From the acknowledgement at one second to the probe that a session learns from.
_LEARNT_AT = 6.0


def _server(
    peers: list[Peer],
    *events_at: float,
    deaf_from: float = math.inf,
    closes_at: float = math.inf,
) -> Script:
    """Make a soketi that publishes at some moments, grows deaf at one and closes."""

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await trio.sleep_until(1)
        await peer.enrol()

        async def publish() -> None:
            for at in events_at:
                await trio.sleep_until(at)
                await peer.publish()

        async def grow_deaf() -> None:
            await trio.sleep_until(deaf_from)
            peer.acknowledges = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            nursery.start_soon(grow_deaf)
            with trio.move_on_at(closes_at):
                await peer.answer_pings()
            await peer.close(4200)

    return spoken(script)


async def test_a_server_that_acknowledges_is_probed_at_every_interval(
    autojump_clock: MockClock,
) -> None:
    """One early probe to learn from, then one every interval, on each connection."""
    peers: list[Peer] = []
    async with staged(_server(peers, closes_at=1000), _server(peers)) as (
        stage,
        session,
    ):
        await trio.sleep_until(999)
        assert peers[0].repeats == [_LEARNT_AT, 246, 486, 726, 966]
        statistics = session.statistics
        assert statistics.probing is Probing.ON
        assert statistics.probes == {ProbeOutcome.ACKNOWLEDGED: 5}
        assert statistics.unexpected == 0
        assert len(stage.server.dials) == 1
        await trio.sleep_until(1300)
        # What is known needs no early probe.
        assert peers[1].repeats == [1240]


async def test_a_repeated_acknowledgement_is_no_new_subscription(
    autojump_clock: MockClock,
) -> None:
    """It is told to nobody, and proves that the subscription stood when asked."""
    peers: list[Peer] = []
    ear = Ear()
    async with staged(_server(peers), listener=ear) as (_, session):
        with structlog.testing.capture_logs() as logs:
            await trio.sleep_until(300)
        assert ear.subscriptions == [1 * SECOND]
        assert session.statistics.proofs.heard_us == 246 * SECOND
    assert [log["event"] for log in logs] == ["session.subscribed"]


async def test_silence_with_jobs_in_flight_is_probed_at_doubling_distances(
    autojump_clock: MockClock,
) -> None:
    """After a minute, two more, then at the interval; an event begins it anew."""
    peers: list[Peer] = []
    async with staged(_server(peers, 10, 1000), has_jobs=lambda: True):
        await trio.sleep_until(1200)
    assert peers[0].repeats == [_LEARNT_AT, 70, 190, 430, 670, 910, 1060, 1180]


async def test_silence_without_jobs_is_no_reason(autojump_clock: MockClock) -> None:
    """Only the interval counts; a job that becomes known later is noticed."""
    peers: list[Peer] = []
    async with staged(_server(peers, 10), has_jobs=lambda: trio.current_time() > 300):
        await trio.sleep_until(330)
    # Looked at every minute since the event.
    assert peers[0].repeats == [_LEARNT_AT, 246, 310]


async def test_a_missing_acknowledgement_ends_the_connection_as_deaf(
    autojump_clock: MockClock,
) -> None:
    """Tried twice; pongs that come all the while prove nothing."""
    peers: list[Peer] = []
    ear = Ear()
    async with staged(_server(peers, 20, deaf_from=30), spoken(work), listener=ear) as (
        stage,
        session,
    ):
        with structlog.testing.capture_logs() as logs:
            await trio.sleep_until(300)
        assert peers[0].repeats == [_LEARNT_AT, 246, 256]
        assert session.statistics.subscribed
        assert session.statistics.probes == {
            ProbeOutcome.ACKNOWLEDGED: 1,
            ProbeOutcome.UNANSWERED: 1,
        }
        assert stage.server.dials == [0, 266]
    assert ear.interruptions == [Interruption(Cause.DEAF, 20 * SECOND)]
    assert ear.subscriptions == [1 * SECOND, 266 * SECOND]
    lost = next(log for log in logs if log["event"] == "session.lost")
    assert "no answer to 2 repeated subscriptions" in lost["reason"]
    assert lost["verdict"] == "retry_now"


async def test_a_late_acknowledgement_is_as_good_as_one_in_time(
    autojump_clock: MockClock,
) -> None:
    """The first try's answer may come while the second waits."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        with trio.move_on_at(240):
            await peer.answer_pings()
        peer.acknowledges = False
        with trio.move_on_at(258):
            await peer.answer_pings()
        await peer.acknowledge()
        await peer.answer_pings()

    ear = Ear()
    async with staged(spoken(script), listener=ear) as (_, session):
        await trio.sleep_until(270)
        assert session.statistics.probes == {ProbeOutcome.ACKNOWLEDGED: 2}
        assert session.statistics.proofs.heard_us == 246 * SECOND
        assert ear.interruptions == []


async def test_an_event_that_comes_meanwhile_stands_for_the_acknowledgement(
    autojump_clock: MockClock,
) -> None:
    """An acknowledgement may wait behind a flood, or be dropped by it."""
    peers: list[Peer] = []
    ear = Ear()
    async with staged(_server(peers, 250, deaf_from=30), listener=ear) as (
        stage,
        session,
    ):
        await trio.sleep_until(480)
        assert peers[0].repeats == [_LEARNT_AT, 246]
        assert session.statistics.probes[ProbeOutcome.HEARD] == 1
        assert session.statistics.subscribed
        assert ear.interruptions == []
        assert len(stage.server.dials) == 1


async def test_a_server_that_answers_with_an_error_is_not_probed(
    autojump_clock: MockClock,
) -> None:
    """Pusher's own: one probe in two tries, one log line, and silence."""
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        peer.acknowledges = False
        await peer.enrol()
        await trio.sleep_until(5.5)
        await peer.complain(4100, f"Existing subscription to channel {CHANNEL}")
        with trio.move_on_at(2000):
            await peer.answer_pings()
        if trio.current_time() >= 2000 and len(peers) == 1:
            await peer.close(4200)
        await peer.answer_pings()

    async with staged(spoken(script), has_jobs=lambda: True) as (stage, session):
        with structlog.testing.capture_logs() as logs:
            await trio.sleep_until(25)
            # Only a pong after it shows that the answer isn't just under way.
            states = [session.statistics.probing]
            await trio.sleep_until(4000)
            states.append(session.statistics.probing)
        assert states == [Probing.UNKNOWN, Probing.OFF]
        assert session.statistics.probes == {ProbeOutcome.UNANSWERED: 1}
        assert [peer.repeats for peer in peers] == [[5.5, 15], []]
        assert len(stage.server.dials) == 2
    assert [log["event"] for log in logs].count("session.not_probed") == 1


async def test_events_don_t_teach_that_a_server_acknowledges(
    autojump_clock: MockClock,
) -> None:
    """They come from Pusher's own servers, too."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        peer.acknowledges = False
        while True:
            with trio.move_on_after(2):
                await peer.answer_pings()
            await peer.publish()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep_until(400)
        assert session.statistics.probing is Probing.OFF
        assert session.statistics.probes == {ProbeOutcome.UNANSWERED: 1}
        assert len(stage.server.dials) == 1


async def test_a_connection_that_dies_teaches_nothing(
    autojump_clock: MockClock,
) -> None:
    """A probe without answer on a dead connection says nothing about the server."""
    peers: list[Peer] = []

    async def dead(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        await trio.sleep_forever()

    async with staged(spoken(dead), _server(peers)) as (stage, session):
        await trio.sleep_until(60)
        assert len(stage.server.dials) == 2
        assert session.statistics.probing is Probing.ON
        assert peers[0].repeats == [46]


async def test_an_answer_behind_the_learning_is_still_learnt_from(
    autojump_clock: MockClock,
) -> None:
    """A slow server answers after both tries, before the next pong."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        peer.acknowledges = False
        await peer.enrol()
        with trio.move_on_at(28):
            await peer.answer_pings()
        peer.acknowledges = True
        await peer.acknowledge()
        await peer.answer_pings()

    async with staged(spoken(script)) as (_, session):
        await trio.sleep_until(40)
        assert session.statistics.probing is Probing.ON


async def test_row_37_a_forged_error_during_a_probe_ends_nothing(
    autojump_clock: MockClock,
) -> None:
    """Publishers can forge errors and answers; only a missing answer counts."""
    forged = 0

    async def script(peer: Peer) -> None:
        nonlocal forged
        await trio.sleep_until(1)
        await peer.enrol()
        peer.acknowledges = False
        while True:
            with trio.move_on_after(4) as waiting:
                await peer.read_until("pusher:ping")
                await peer.say("pusher:pong")
            if waiting.cancelled_caught and len(peer.repeats) > forged:
                forged = len(peer.repeats)
                await peer.say(
                    "pusher:subscription_error",
                    channel=CHANNEL,
                    data={"type": "AuthError", "error": "no", "status": 401},
                )
                await peer.complain(4009)
                await peer.acknowledge()

    ear = Ear()
    async with staged(spoken(script), listener=ear) as (stage, session):
        await trio.sleep_until(600)
        assert forged == 3
        assert session.statistics.subscribed
        assert session.statistics.probes == {ProbeOutcome.ACKNOWLEDGED: 3}
        assert len(stage.server.dials) == 1
        assert len(ear.subscriptions) == 1
        assert ear.interruptions == []


async def test_a_process_that_stood_still_reads_before_it_misses_an_answer(
    autojump_clock: MockClock,
) -> None:
    """After a suspension past the deadline, the answer that waits is taken."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        with trio.move_on_at(240):
            await peer.answer_pings()
        peer.acknowledges = False
        with trio.move_on_at(250):
            await peer.answer_pings()
        autojump_clock.jump(60)
        await trio.sleep(0.1)
        await peer.acknowledge()
        peer.acknowledges = True
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep_until(400)
        assert session.statistics.probes == {ProbeOutcome.ACKNOWLEDGED: 2}
        assert len(stage.server.dials) == 1


async def test_a_server_that_was_replaced_by_another_kind_is_learnt_anew(
    autojump_clock: MockClock,
) -> None:
    """Three connections in a row end at their first probe; the fourth is kept."""
    peers: list[Peer] = []

    async def hosted(peer: Peer) -> None:
        peers.append(peer)
        peer.acknowledges = False
        await peer.enrol()
        await peer.answer_pings()

    ear = Ear()
    async with staged(_server([], deaf_from=30), spoken(hosted), listener=ear) as (
        stage,
        session,
    ):
        await trio.sleep_until(4000)
        assert session.statistics.probing is Probing.OFF
        assert session.statistics.subscribed
        assert len(stage.server.dials) == 4
    assert [one.cause for one in ear.interruptions] == [Cause.DEAF] * 3
    assert [len(peer.repeats) for peer in peers] == [2, 2, 2]


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        # a: acknowledged, m: missed by a server that acknowledges.
        ("a", Probing.ON),
        ("amm", Probing.ON),
        ("ammm", Probing.UNKNOWN),
        ("ammamm", Probing.ON),
        ("ammmamm", Probing.ON),
        ("ammmammm", Probing.UNKNOWN),
    ],
)
def test_three_misses_in_a_row_make_a_habit_doubtful(
    steps: str, state: Probing
) -> None:
    """One acknowledgement is enough to know it again."""
    habit = Habit(Statistics("42"))
    for step in steps:
        if step == "a":
            habit.acknowledged()
        else:
            habit.missed()
    assert habit.state is state
