"""
A session against a scripted server: frames of every kind.

Those that chance makes stand in test_session_fuzz.py.
"""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.kit.scripted import CHANNEL, Peer, spoken, staged


async def test_row_37_a_forged_control_event_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    """Control events in a channel, and answers that nobody waits for, are counted."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        for event in (
            "pusher:error",
            "pusher:connection_established",
            "pusher:ping",
            "pusher:pong",
        ):
            await peer.say(event, channel=CHANNEL, data={"code": 4001})
        for channel in (CHANNEL, "other"):
            await peer.say(
                "pusher:subscription_error", channel=channel, data={"status": 401}
            )
        await peer.say("pusher_internal:subscription_succeeded", channel="other")
        await peer.establish(socket_id="6.6")
        await peer.say("pusher:pong")
        assert (await peer.read())["event"] == "pusher:ping"
        await peer.say("pusher:pong")
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(100)
        assert session.statistics.subscribed
        assert session.statistics.other_events == 4
        assert len(stage.server.dials) == 1


async def test_row_39_frames_that_are_no_events_are_counted(
    autojump_clock: MockClock,
) -> None:
    """The connection survives them, binary ones too."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        for text in ("null", "[]", "1", "{}", '{"event":5}', "[" * 50_000):
            await peer.socket.send_message(text)
        await peer.socket.send_message(b"\x00")
        await peer.publish("good")
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(1)
        assert session.statistics.unrecognized == 7
        assert session.statistics.subscribed
        assert [event.data for event in stage.deliveries.events] == ["good"]
        assert len(stage.server.dials) == 1
