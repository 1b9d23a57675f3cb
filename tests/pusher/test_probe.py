"""The subscription probe: when it is sent, and what its answers mean."""

from __future__ import annotations

import math
from typing import Any

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.pusher.coverage import Cause, Interruption
from bridge.pusher.keepalive import ProbeOutcome
from tests.kit.scripted import CHANNEL, Peer, Script, spoken, staged, work
from tests.pusher.courses import Ear


SECOND = 1_000_000


def soketi_alike(
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


_PROBED: dict[str, tuple[tuple[float, ...], float, dict[str, Any], list[float]]] = {
    # When events come, from when on jobs are in flight, settings, and what follows.
    "a setting turns it off, for servers that ignore a repeated subscription": (
        *((), 0, {"probe_interval_seconds": 0}),
        [],
    ),
    "after each minute; an event begins it again": (
        *((10, 1000), 0, {}),
        [*range(70, 1000, 60), 1062, 1122, 1182],
    ),
    "without jobs only the interval counts; one that is known later is noticed": (
        *((10,), 300, {}),
        [250, *range(310, 1200, 60)],
    ),
}


@pytest.mark.parametrize("name", _PROBED)
async def test_silence_is_probed(name: str, autojump_clock: MockClock) -> None:
    """With jobs in flight after a minute each, else at the interval."""
    events_at, jobs_from, settings, repeats = _PROBED[name]
    peers: list[Peer] = []
    async with staged(
        soketi_alike(peers, *events_at),
        has_jobs=lambda: trio.current_time() > jobs_from,
        **settings,
    ):
        await trio.sleep_until(1200)
    assert peers[0].repeats == repeats


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
    ) as (stage, session):
        with structlog.testing.capture_logs() as logs:
            await trio.sleep_until(300)
        assert peers[0].repeats == [262, 272]
        assert session.statistics.subscribed
        assert session.statistics.probes == {ProbeOutcome.UNANSWERED: 1}
        assert stage.server.dials == [0, 282]
    assert ear.interruptions == [Interruption(Cause.DEAF, 20 * SECOND)]
    assert ear.subscriptions == [1 * SECOND, 282 * SECOND]
    lost = next(log for log in logs if log["event"] == "session.lost")
    assert "no answer to 2 repeated subscriptions" in lost["reason"]
    assert lost["action"] == "retry_now"


async def test_an_event_that_comes_meanwhile_stands_for_the_acknowledgement(
    autojump_clock: MockClock,
) -> None:
    """An acknowledgement may wait behind a flood, or be dropped by it."""
    peers: list[Peer] = []
    ear = Ear()
    async with staged(soketi_alike(peers, 245, deaf_from=30), listener=ear) as (
        stage,
        session,
    ):
        await trio.sleep_until(470)
        assert peers[0].repeats == [241]
        assert session.statistics.probes == {ProbeOutcome.EVENTS: 1}
        assert session.statistics.subscribed
        assert ear.interruptions == []
        assert len(stage.server.dials) == 1


async def test_a_server_that_answers_with_an_error_is_probed_no_more(
    autojump_clock: MockClock,
) -> None:
    """Pusher's own; a later silence began at the last pong, not at the last event."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        peer.acknowledges = False
        while trio.current_time() < 900:
            with trio.move_on_after(5):
                await peer.read_until("pusher:ping")
                await peer.say("pusher:pong")
            if len(peer.repeats) == 1:
                await peer.complain(4009, "Existing subscription")
                peer.repeats.append(0.0)
        await trio.sleep_forever()

    ear = Ear()
    peers: list[Peer] = []

    async def remembered(peer: Peer) -> None:
        peers.append(peer)
        await script(peer)

    with structlog.testing.capture_logs() as logs:
        async with staged(spoken(remembered), spoken(work), listener=ear) as (
            _,
            session,
        ):
            await trio.sleep_until(960)
            assert session.statistics.probes == {ProbeOutcome.UNSUPPORTED: 1}
    assert peers[0].repeats == [241, 0.0]
    (gap,) = ear.interruptions
    assert gap.cause is Cause.DEAF
    assert gap.since_us > 850 * SECOND
    assert [log["event"] for log in logs].count("session.probe_unsupported") == 1


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
                for event in ("pusher:subscription_error", "pusher:error"):
                    await peer.say(
                        event,
                        channel=CHANNEL,
                        data={"error": "no", "status": 401, "code": 4009},
                    )
                await peer.acknowledge()

    ear = Ear()
    async with staged(spoken(script), listener=ear) as (stage, session):
        await trio.sleep_until(600)
        assert forged == 2
        assert session.statistics.probes == {ProbeOutcome.ACKNOWLEDGED: 2}
        assert len(stage.server.dials) == 1
        assert len(ear.subscriptions) == 1
        assert ear.interruptions == []
