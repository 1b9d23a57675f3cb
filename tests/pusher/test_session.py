"""
A session against a scripted server: the handshake, delivery and the end.

Subscriptions stand in test_session_subscription.py, frames in
test_session_frames.py, liveness in test_session_liveness.py, ends of connections
in test_session_ends.py.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import structlog.testing
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.pusher.connection import State
from tests.kit.scripted import (
    Peer,
    spoken,
    staged,
    work,
)


async def test_events_are_delivered_once_a_run_with_the_time_of_reading(
    autojump_clock: MockClock,
) -> None:
    """What one read brought is one delivery, in order."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await trio.sleep(4)
        await peer.publish_at_once("zero", "one", "two")
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(4.5)
        ((events, received_at_us),) = stage.deliveries.runs
        assert [event.data for event in events] == ["zero", "one", "two"]
        assert received_at_us == 4_000_000
        statistics = session.statistics
        assert statistics.subscribed
        assert statistics.state is State.SUBSCRIBED
        assert statistics.events == 3
        # Two of the enrolment, and the pong behind the events.
        assert statistics.frames == 6
        assert statistics.connects == {"subscribed": 1}
    assert not session.statistics.subscribed
    assert session.statistics.state is State.DISCONNECTED


async def test_an_event_right_behind_the_acknowledgement_is_delivered(
    autojump_clock: MockClock,
) -> None:
    """No event of the channel is too early."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        await peer.read_until("pusher:subscribe")
        await peer.publish("before")
        await peer.acknowledge()
        await peer.publish("after")
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, _):
        await trio.sleep(1)
        assert [event.data for event in stage.deliveries.events] == ["before", "after"]


@pytest.mark.parametrize("data", [{"socket_id": None}, {"socket_id": "no number"}])
async def test_row_04_a_connection_without_socket_id_is_tried_again(
    data: dict[str, object], autojump_clock: MockClock
) -> None:
    """The attempt fails at once, and the next one works."""

    async def script(peer: Peer) -> None:
        await peer.establish(**data)
        await trio.sleep_forever()

    async with staged(spoken(script), spoken(work)) as (stage, session):
        await trio.sleep(5)
        assert session.statistics.subscribed
        assert session.statistics.connects["not_established"] == 1
        assert 1 <= stage.server.dials[1] <= 2.4


async def test_row_05_silence_after_the_upgrade_is_a_timeout(
    autojump_clock: MockClock,
) -> None:
    """The handshake has one deadline, from dialling to the socket id."""

    async def script(peer: Peer) -> None:
        await trio.sleep(6)
        await trio.sleep_forever()

    async with staged(spoken(script), spoken(work), connect_timeout_seconds=8) as (
        stage,
        session,
    ):
        with structlog.testing.capture_logs() as logs:
            await trio.sleep(15)
        assert session.statistics.subscribed
        # The deadline, a second for the close handshake, and a wait.
        assert 9 <= stage.server.dials[1] - stage.server.dials[0] <= 11
    assert "connection_established within 8 s" in logs[0]["reason"]


@pytest.mark.parametrize(
    "first",
    [
        "junk",
        "null",
        '{"event":5}',
        '{"event":"pusher:ping"}',
        '{"event":"pusher:pong"}',
    ],
)
async def test_row_06_a_first_frame_that_is_junk_fails_the_attempt(
    first: str, autojump_clock: MockClock
) -> None:
    """The session backs off and connects again, again and again."""

    async def script(peer: Peer) -> None:
        await peer.socket.send_message(first)
        await trio.sleep_forever()

    junk = spoken(script)
    async with staged(junk, junk, junk, spoken(work)) as (stage, session):
        await trio.sleep(10)
        assert session.statistics.subscribed
        assert session.statistics.connects["not_established"] == 3
        dials = stage.server.dials
        assert all(later - earlier >= 1 for earlier, later in pairwise(dials))


async def test_row_06_nothing_but_other_events_is_a_timeout(
    autojump_clock: MockClock,
) -> None:
    """They don't keep a handshake alive."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.publish(channel="other")
            await trio.sleep(1)

    async with staged(spoken(script), spoken(work)) as (_, session):
        await trio.sleep(15)
        assert session.statistics.subscribed


async def test_row_42_a_cancelled_session_closes_its_socket_politely(
    autojump_clock: MockClock,
) -> None:
    """The server sees close code 1000 and nothing of it is left."""
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await work(peer)

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert stage.server.live == 1
    assert stage.server.live == 0
    assert peers[0].socket.closed is not None
    assert peers[0].socket.closed.code == 1000
    assert not session.statistics.subscribed


async def test_row_42_no_secret_is_in_any_log_line(
    autojump_clock: MockClock,
) -> None:
    """Signatures stay between the endpoint and the server."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.complain(4301, "slow down")
        await peer.close(4200)

    with structlog.testing.capture_logs() as logs:
        async with staged(spoken(script)):
            await trio.sleep(20)
    assert {log["event"] for log in logs} == {
        "session.subscribed",
        "session.server_error",
        "session.lost",
    }
    assert "signature" not in repr(logs)


async def test_row_42_a_receiver_that_raises_ends_its_session(
    autojump_clock: MockClock,
) -> None:
    """With its own error, though a ping meets the broken connection meanwhile."""

    def deliver(events: object, received_at_us: int) -> None:
        raise ZeroDivisionError

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await trio.sleep(2)
        await peer.publish()
        await peer.answer_pings()

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with staged(spoken(script), deliver=deliver):
            await trio.sleep(20)
