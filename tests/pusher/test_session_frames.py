"""
A session against a scripted server: frames of every kind.

Those that chance makes stand in test_session_fuzz.py.
"""

from __future__ import annotations

import pytest
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


async def test_row_38_events_of_other_names_and_channels_are_counted(
    autojump_clock: MockClock,
) -> None:
    """They are not delivered and do no harm."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.publish(channel="private-client.43")
        await peer.publish(event="another.event")
        await peer.say("request.status.updated", data="{}")
        await peer.say(
            "request.status.updated", channel=CHANNEL, data="{}", user_id="u"
        )
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(1)
        assert session.statistics.other_events == 3
        assert len(stage.deliveries.events) == 1


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


@pytest.mark.parametrize("data", ["not json", "null", 0, {"a": 1}, [1], True])
async def test_row_40_data_of_any_shape_is_delivered(
    data: object, autojump_clock: MockClock
) -> None:
    """What it means is not the session's business."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.publish(data)
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, _):
        await trio.sleep(1)
        assert [event.data for event in stage.deliveries.events] == [data]


async def test_row_42_an_error_of_the_receiver_leaks_nothing(
    autojump_clock: MockClock,
) -> None:
    """It is a bug of ours and ends the session, with the socket closed."""

    def deliver(events: object, received_at_us: int) -> None:
        raise ZeroDivisionError

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.publish()
        await peer.answer_pings()

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with staged(spoken(script), deliver=deliver) as (stage, _):
            await trio.sleep(1)
    assert stage.server.live == 0
