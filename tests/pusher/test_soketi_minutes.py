"""Minutes against a real soketi; they pass once, for all of these tests together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import trio
from wsproto.frame_protocol import Opcode

from bridge.accounts import BackpressureGate
from bridge.pusher.protocol import JOB_EVENT, ChannelEvent
from tests.kit.publisher import Soketi
from tests.pusher.account import Account, subscribed, until


# Every test waits in the fixture, if it comes first.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

_IDLE_SECONDS = 320.0
_BUSY_SECONDS = 300.0

# Small against everything that soketi holds for a slow reader.
_PAYLOAD = "x" * 2000
_EVERY_SECONDS = 0.1


@dataclass
class _Minutes:
    """What became of the accounts."""

    idle: Account
    busy: Account
    crowded: Account
    published: int = 0


async def _publish(soketi: Soketi, minutes: _Minutes) -> None:
    """Publish steadily."""
    until_ = trio.current_time() + _BUSY_SECONDS
    async with soketi.publisher() as publisher:
        while trio.current_time() < until_:
            for account in (minutes.busy, minutes.crowded):
                await publisher.publish(account.channel, JOB_EVENT, _PAYLOAD)
            minutes.published += 1
            await trio.sleep(_EVERY_SECONDS)


def _drop(_: Sequence[ChannelEvent], __: int) -> None:
    """Take events as an outbox without room does."""


async def _live(soketi: Soketi) -> _Minutes:
    # Four seconds of ten, for all of the time.
    gate = BackpressureGate(lambda: trio.current_time() % 10 < 4)
    async with (
        subscribed(soketi) as idle,
        subscribed(soketi) as busy,
        subscribed(soketi, deliver=_drop, pause=gate.wait) as crowded,
    ):
        minutes = _Minutes(idle, busy, crowded)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_publish, soketi, minutes)
            await trio.sleep(_IDLE_SECONDS)
        await soketi.publish(idle.channel, JOB_EVENT, "after")
        await until(lambda: idle.data == ["after"])
        for account in (idle, busy, crowded):
            assert account.subscribed
        return minutes


@pytest.fixture(scope="module")
def minutes(shared_soketi: Soketi) -> _Minutes:
    """More than five of them."""
    return trio.run(_live, shared_soketi)


def _pings(account: Account) -> int:
    """Count the pings of an account that kept its connection; each was answered."""
    (wire,) = account.wires
    assert Opcode.PING not in wire.opcodes_said
    pings = [frame["event"] for frame in wire.said].count("pusher:ping")
    pongs = [frame["event"] for frame in wire.heard].count("pusher:pong")
    assert pings == pongs
    return pings


def test_row_10_steady_traffic_does_not_silence_the_pings(minutes: _Minutes) -> None:
    """With ten events a second, a ping goes out every two seconds, for the proof."""
    assert len(minutes.busy.events) == minutes.published
    assert minutes.published > _BUSY_SECONDS / _EVERY_SECONDS / 2
    pings = _pings(minutes.busy)
    assert _BUSY_SECONDS / 2 * 0.9 < pings <= _BUSY_SECONDS / 2 + 2


def test_row_12_an_idle_session_is_not_closed(minutes: _Minutes) -> None:
    """Soketi's limit of 120 s passes twice, and events still come."""
    # Ten by the clock; the last event may have had one more sent behind it.
    assert _pings(minutes.idle) in {10, 11}


def test_row_13_backpressure_again_and_again_costs_nothing(
    minutes: _Minutes,
) -> None:
    """Everything is read, pings are answered, and nothing is called lost."""
    account = minutes.crowded
    assert account.session.statistics.events == minutes.published
    assert _pings(account) > 10
    assert account.ear.interruptions == []
