"""
The subscription probe: when it is sent, and what its answers mean.

How a session learns whether its server answers stands in test_probe_habit.py.
"""

from __future__ import annotations

from typing import cast

import structlog.testing
import trio
from trio.testing import MockClock

from bridge.errors import ConnectionLostError
from bridge.pusher.continuity import Continuity
from bridge.pusher.coverage import Cause, Interruption, Nobody
from bridge.pusher.keepalive import KeepAlive
from bridge.pusher.probe import Habit, Probe
from bridge.pusher.statistics import ProbeOutcome, Probing, Statistics
from bridge.pusher.websocket import Connection
from bridge.settings import PusherSettings
from tests.kit.scripted import CHANNEL, Peer, spoken, staged, work
from tests.pusher.ear import Ear
from tests.pusher.soketi_alike import soketi_alike


SECOND = 1_000_000

# From the acknowledgement at one second to the probe that a session learns from.
_LEARNT_AT = 6.0


async def test_a_server_that_acknowledges_is_probed_at_every_interval(
    autojump_clock: MockClock,
) -> None:
    """One early probe to learn from, then one every interval, on each connection."""
    peers: list[Peer] = []
    async with staged(soketi_alike(peers, closes_at=1000), soketi_alike(peers)) as (
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


async def test_an_acknowledgement_that_comes_twice_at_once_is_one(
    autojump_clock: MockClock,
) -> None:
    """The second is read before anything could have asked for it."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        await peer.read_until("pusher:subscribe")
        acknowledgement = {
            "event": "pusher_internal:subscription_succeeded",
            "channel": CHANNEL,
        }
        await peer.say_at_once(acknowledgement, acknowledgement)
        await peer.answer_pings()

    async with staged(spoken(script)) as (_, session):
        await trio.sleep(1)
        assert session.statistics.subscribed
        assert session.statistics.probing is Probing.UNKNOWN
        assert session.statistics.unexpected == 0


async def test_a_probe_on_a_lost_connection_ends_without_a_word(
    autojump_clock: MockClock,
) -> None:
    """The reader knows how it ended."""

    async def gone() -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionLostError("gone")

    statistics = Statistics("42")
    statistics.probing = Probing.ON
    continuity = Continuity(Nobody(), statistics, lambda: 0)
    probe = Probe(
        gone,
        habit=Habit(statistics),
        keep_alive=KeepAlive(
            # Nothing is sent by it here.
            cast("Connection", None),
            interval_seconds=30,
            pong_timeout_seconds=10,
            continuity=continuity,
        ),
        has_jobs=lambda: False,
        settings=PusherSettings(),
        continuity=continuity,
        statistics=statistics,
        clock=lambda: 0,
    )
    assert await probe.run() is None
    assert not statistics.probes


async def test_a_repeated_acknowledgement_is_no_new_subscription(
    autojump_clock: MockClock,
) -> None:
    """It is told to nobody, and proves that the subscription stood when asked."""
    peers: list[Peer] = []
    ear = Ear()
    async with staged(soketi_alike(peers), listener=ear) as (_, session):
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
    async with staged(soketi_alike(peers, 10, 1000), has_jobs=lambda: True):
        await trio.sleep_until(1200)
    assert peers[0].repeats == [_LEARNT_AT, 70, 190, 430, 670, 910, 1060, 1180]


async def test_silence_without_jobs_is_no_reason(autojump_clock: MockClock) -> None:
    """Only the interval counts; a job that becomes known later is noticed."""
    peers: list[Peer] = []
    async with staged(
        soketi_alike(peers, 10), has_jobs=lambda: trio.current_time() > 300
    ):
        await trio.sleep_until(330)
    # Looked at every minute since the event.
    assert peers[0].repeats == [_LEARNT_AT, 246, 310]


async def test_a_missing_acknowledgement_ends_the_connection_as_deaf(
    autojump_clock: MockClock,
) -> None:
    """Tried twice; pongs that come all the while prove nothing."""
    peers: list[Peer] = []
    ear = Ear()
    async with staged(
        # The ping behind the first event is proved by the second.
        soketi_alike(peers, 20, 21, deaf_from=30),
        spoken(work),
        listener=ear,
    ) as (
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
    async with staged(soketi_alike(peers, 250, deaf_from=30), listener=ear) as (
        stage,
        session,
    ):
        await trio.sleep_until(480)
        assert peers[0].repeats == [_LEARNT_AT, 246]
        assert session.statistics.probes[ProbeOutcome.HEARD] == 1
        assert session.statistics.subscribed
        assert ear.interruptions == []
        assert len(stage.server.dials) == 1


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
        with trio.move_on_at(260):
            await peer.answer_pings()
        # The second try waits for its answer.
        autojump_clock.jump(60)
        await trio.sleep(0.1)
        await peer.acknowledge()
        peer.acknowledges = True
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep_until(400)
        assert session.statistics.probes == {ProbeOutcome.ACKNOWLEDGED: 2}
        assert len(stage.server.dials) == 1
