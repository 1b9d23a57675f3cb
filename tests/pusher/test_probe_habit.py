"""How a session learns whether its server acknowledges a repeated subscription."""

from __future__ import annotations

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.pusher.interruption import Cause
from bridge.pusher.probe import Habit
from bridge.pusher.statistics import ProbeOutcome, Probing, Statistics
from tests.kit.scripted import CHANNEL, Peer, spoken, staged
from tests.pusher.ear import Ear
from tests.pusher.soketi_alike import soketi_alike


async def test_a_server_that_answers_with_an_error_is_not_probed(
    autojump_clock: MockClock,
) -> None:
    """Pusher's own: one probe in two tries for each connection, and one log line."""
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        peer.acknowledges = False
        await peer.enrol()
        await trio.sleep(5.5)
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
        assert session.statistics.probes == {ProbeOutcome.UNANSWERED: 2}
        assert [peer.repeats for peer in peers] == [[5.5, 15], [2005.5, 2015]]
        assert len(stage.server.dials) == 2
    assert [log["event"] for log in logs].count("session.not_probed") == 1


async def test_a_deaf_connection_that_is_not_probed_was_heard_at_its_last_pong(
    autojump_clock: MockClock,
) -> None:
    """A gap from the last event on could be days long, with nothing to show for it."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        peer.acknowledges = False
        await peer.enrol()
        await trio.sleep(5.5)
        await peer.complain(4100, f"Existing subscription to channel {CHANNEL}")
        with trio.move_on_at(1000):
            await peer.answer_pings()
        await trio.sleep_forever()

    ear = Ear()
    async with staged(spoken(script), soketi_alike([]), listener=ear):
        await trio.sleep_until(1100)
    (interruption,) = ear.interruptions
    assert interruption.cause is Cause.DEAF
    assert 960_000_000 <= interruption.since_us <= 1_000_000_000


async def test_events_don_t_teach_that_a_server_acknowledges(
    autojump_clock: MockClock,
) -> None:
    """They come from Pusher's own servers, too; but a server that sends them lives."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        peer.acknowledges = False
        while True:
            with trio.move_on_after(2):
                await peer.answer_pings()
            await peer.publish()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep_until(400)
        assert session.statistics.probing is Probing.UNKNOWN
        assert session.statistics.probes == {ProbeOutcome.UNANSWERED: 2}
        assert len(stage.server.dials) == 1


async def test_silence_on_the_first_probe_is_deafness(
    autojump_clock: MockClock,
) -> None:
    """A subscription lost within seconds is noticed, though nothing was learnt yet."""
    peers: list[Peer] = []

    async def deaf(peer: Peer) -> None:
        await trio.sleep_until(1)
        peer.acknowledges = False
        await peer.enrol()
        await peer.answer_pings()

    ear = Ear()
    async with staged(spoken(deaf), soketi_alike(peers), listener=ear) as (
        stage,
        session,
    ):
        await trio.sleep_until(100)
        assert session.statistics.probing is Probing.ON
        assert len(stage.server.dials) == 2
    assert [one.cause for one in ear.interruptions] == [Cause.DEAF]


async def test_a_server_that_stays_silent_is_kept_in_the_end(
    autojump_clock: MockClock,
) -> None:
    """It may be of a kind of its own: the fourth connection stays, without probes."""
    peers: list[Peer] = []

    async def silent(peer: Peer) -> None:
        await trio.sleep_until(1)
        peers.append(peer)
        peer.acknowledges = False
        await peer.enrol()
        with trio.move_on_at(4000):
            await peer.answer_pings()
        if trio.current_time() >= 4000 and len(peers) == 4:
            await peer.close(4200)
        await peer.answer_pings()

    ear = Ear()
    async with staged(spoken(silent), listener=ear) as (_, session):
        await trio.sleep_until(3900)
        assert (session.statistics.probing, len(peers)) == (Probing.OFF, 4)
        await trio.sleep_until(8000)
        # The next connection is asked once, and kept as well.
        assert (session.statistics.probing, len(peers)) == (Probing.OFF, 5)
        assert len(peers[4].repeats) == 2
    assert [one.cause for one in ear.interruptions] == [
        *[Cause.DEAF] * 3,
        Cause.DISCONNECTED,
    ]


async def test_a_connection_that_dies_teaches_nothing(
    autojump_clock: MockClock,
) -> None:
    """A probe without answer on a dead connection says nothing about the server."""
    peers: list[Peer] = []

    async def dead(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        await trio.sleep_forever()

    async with staged(spoken(dead), soketi_alike(peers)) as (stage, session):
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
    async with staged(soketi_alike([], deaf_from=30), spoken(hosted), listener=ear) as (
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
