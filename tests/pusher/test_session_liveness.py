"""A session against a scripted server: pings, pongs and what goes quiet."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.scripted import Peer, spoken, staged


_UNUSABLE: tuple[object, ...] = (None, 0, -1, 10**9, "soon", [], True)


@pytest.mark.parametrize(
    ("own", "servers", "interval"),
    [
        (30, 120, 30),
        (30, 20, 20),
        *((100, unusable, 30) for unusable in _UNUSABLE),
    ],
)
async def test_rows_03_08_silence_is_broken_by_a_pusher_ping(
    own: float, servers: object, interval: float, autojump_clock: MockClock
) -> None:
    """The shorter activity timeout counts, the default for an unusable one."""
    at: list[float] = []

    async def script(peer: Peer) -> None:
        await peer.enrol(activity_timeout=servers)
        while True:
            assert (await peer.read())["event"] == "pusher:ping"
            at.append(trio.current_time())
            await peer.say("pusher:pong", data={})

    async with staged(spoken(script), activity_timeout_seconds=own) as (_, session):
        await trio.sleep(interval * 3 + 1)
        assert at == [interval, interval * 2, interval * 3]
        assert session.coverage.connection_us == interval * 3 * 1_000_000


async def test_row_11_the_servers_pings_are_answered(autojump_clock: MockClock) -> None:
    """`pusher:ping` and a WebSocket ping each get their pong, within seconds."""
    answered_at: list[float] = []

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await trio.sleep_until(5)
        await peer.say("pusher:ping", data={})
        await peer.read_until("pusher:pong")
        answered_at.append(trio.current_time())
        await peer.socket.ping()
        answered_at.append(trio.current_time())
        # Behind the pong comes a ping, and what comes before its answer waits for it.
        await peer.say("pusher:ping")
        await peer.say("pusher:pong")
        await peer.read_until("pusher:pong")
        answered_at.append(trio.current_time())
        await peer.answer_pings()

    async with staged(spoken(script)):
        await trio.sleep(10)
        assert answered_at == [5, 5, 7]
