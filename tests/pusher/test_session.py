"""A session against a scripted server: handshake, delivery, junk and the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

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


def _says(text: str) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        await peer.socket.send_message(text)
        await trio.sleep_forever()

    return script


async def _says_nothing(peer: Peer) -> None:
    await peer.socket.get_message()


async def _says_other_things(peer: Peer) -> None:
    while True:
        await peer.publish(channel="other")
        await trio.sleep(1)


_GREETING = '{"event":"pusher:connection_established","data":'


@pytest.mark.parametrize(
    ("first", "least_seconds", "most_seconds"),
    [
        *((_says(text), 1.0, 2.4) for text in ("junk", "null", '{"event":5}')),
        *((_says(f'{{"event":"pusher:{one}"}}'), 1.0, 2.4) for one in ("ping", "pong")),
        (_says(_GREETING + '{"socket_id":null}}'), 1.0, 2.4),
        (_says(_GREETING + '{"socket_id":"no number"}}'), 1.0, 2.4),
        # The deadline, a second for the close handshake, and a wait.
        (_says_nothing, 9.0, 11.0),
        (_says_other_things, 9.0, 11.0),
    ],
)
async def test_rows_04_05_06_what_is_no_greeting_fails_the_attempt(
    first: Callable[[Peer], Awaitable[None]],
    least_seconds: float,
    most_seconds: float,
    autojump_clock: MockClock,
) -> None:
    """Junk at once, silence and other events at the deadline; another try follows."""
    script = spoken(first)
    async with staged(script, script, spoken(work), timeout_seconds=8) as (
        stage,
        session,
    ):
        await trio.sleep(40)
        assert session.statistics.subscribed
        assert session.statistics.connects["not_established"] == 2
        one, two, three = stage.server.dials
        assert least_seconds <= two - one <= most_seconds
        assert three - two >= 1
