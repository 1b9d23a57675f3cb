"""Minutes against a real soketi; they pass once, for all of these tests together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from bridge.accounts import BackpressureGate
from bridge.errors import ConnectionLostError
from bridge.events.record import Envelope, Record
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.values import Loss
from bridge.pusher.protocol import JOB_EVENT, ChannelEvent, connect_url
from bridge.pusher.websocket import open_websocket
from bridge.settings import OutboxSettings
from tests.kit.publisher import Soketi
from tests.outbox.making import eventually, open_topics, threaded
from tests.pusher.account import PING, PONG, Account, Wire, subscribed, tapped, until


# Every test waits in the fixture, if it comes first.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

_IDLE_SECONDS = 320.0
_BUSY_SECONDS = 300.0
_STALL_SECONDS = 200.0

# Small against everything that soketi holds for a slow reader, large against the
# buffer of the consumer that stands still: 200 s of it are 4 MB.
_PAYLOAD = "x" * 2000
_EVERY_SECONDS = 0.1
_BUFFER_BYTES = 1_000_000


_ENVELOPE = Envelope("https://api.test/clients/7", "a.type", "socket", "text/plain")


class Standstill:
    """Takes events, and writes none of them until `resume`."""

    def __init__(self, directory: OutboxDirectory, buffer_bytes: int) -> None:
        settings = OutboxSettings(dir=directory.path, buffer_bytes=buffer_bytes)
        self.losses: list[Loss] = []
        self.outbox = Outbox(directory, settings)
        self.outbox.on_loss = self.losses.append
        self.pause = BackpressureGate(lambda: self.outbox.is_crowded).wait
        open_topics(self.outbox, "jobs")

    def deliver(self, events: Sequence[ChannelEvent], received_at_us: int) -> None:
        """Take a read's events, as a session gives them."""
        self._offer([event.original for event in events], received_at_us)

    def resume(self, then_us: int) -> None:
        """Let the disk work, one more record come, and all be written."""
        with threaded(self.outbox):
            eventually(lambda: self.outbox.is_drained)
            self._offer([b"last"], then_us)
            eventually(lambda: self.outbox.is_drained)

    def settles(self) -> bool:
        """Whether the loss is over; it is, a second after the last drop."""
        self.outbox.settle()
        return len(self.losses) > 1

    def _offer(self, values: Sequence[bytes], at_us: int) -> None:
        self.outbox.offer(
            [Record("jobs", b"job", value, at_us, _ENVELOPE) for value in values]
        )


@contextmanager
def standstill(path: Path, *, buffer_bytes: int) -> Iterator[Standstill]:
    """Open an outbox in a folder, without its thread."""
    with OutboxDirectory(path) as directory:
        disk = Standstill(directory, buffer_bytes)
        yield disk
        disk.outbox.close()


@dataclass
class _Minutes:
    """What became of those that were there."""

    idle: Account
    busy: Account
    stalled: Account
    standstill: Standstill
    bare: Wire
    published: int = 0
    bare_code: int | None = None
    bare_seconds: float = 0.0


async def _publish(soketi: Soketi, account: Account, seconds: float) -> int:
    """Publish steadily."""
    count, until_ = 0, trio.current_time() + seconds
    async with soketi.publisher() as publisher:
        while trio.current_time() < until_:
            await publisher.publish(account.channel, JOB_EVENT, _PAYLOAD)
            count += 1
            await trio.sleep(_EVERY_SECONDS)
    return count


async def _be_bare(soketi: Soketi, minutes: _Minutes) -> None:
    """Hold a WebSocket open and say nothing in it, as a client without pings."""
    begun_at = trio.current_time()
    try:
        async with open_websocket(
            connect_url(soketi.url, soketi.app.key),
            lambda _: False,
            max_message_bytes=1000,
            open_tcp=tapped(minutes.bare),
        ):
            await trio.sleep_forever()
    except ConnectionLostError as error:
        minutes.bare_code = error.code
    minutes.bare_seconds = trio.current_time() - begun_at


async def _live(soketi: Soketi, stand: Standstill) -> _Minutes:
    async with (
        subscribed(soketi) as idle,
        subscribed(soketi) as busy,
        subscribed(soketi, deliver=stand.deliver, pause=stand.pause) as stalled,
    ):
        minutes = _Minutes(idle, busy, stalled, stand, Wire())

        async def stall() -> None:
            minutes.published = await _publish(soketi, stalled, _STALL_SECONDS)
            statistics = stalled.session.statistics
            await until(lambda: statistics.events == minutes.published)
            await trio.to_thread.run_sync(stand.resume, time.time_ns() // 1000)
            await until(stand.settles)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_be_bare, soketi, minutes)
            nursery.start_soon(_publish, soketi, busy, _BUSY_SECONDS)
            nursery.start_soon(stall)
            await trio.sleep(_IDLE_SECONDS)
        await soketi.publish(idle.channel, JOB_EVENT, "after")
        await until(lambda: idle.data == ["after"])
        for account in (idle, busy, stalled):
            assert account.subscribed
        return minutes


@pytest.fixture(scope="module")
def minutes(
    shared_soketi: Soketi, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Minutes]:
    """More than five of them."""
    folder = tmp_path_factory.mktemp("outbox")
    with standstill(folder, buffer_bytes=_BUFFER_BYTES) as stand:
        yield trio.run(_live, shared_soketi, stand)


def _pings(account: Account) -> int:
    """Count the pings of an account that kept its connection; each was answered."""
    (wire,) = account.wires
    pings = [frame["event"] for frame in wire.said].count("pusher:ping")
    pongs = [frame["event"] for frame in wire.heard].count("pusher:pong")
    assert pings == pongs
    return pings


def test_row_10_steady_traffic_does_not_silence_the_pings(minutes: _Minutes) -> None:
    """With ten events a second, a ping goes out every two seconds, for the proof."""
    assert len(minutes.busy.events) > _BUSY_SECONDS / _EVERY_SECONDS / 2
    pings = _pings(minutes.busy)
    assert _BUSY_SECONDS / 2 * 0.9 < pings <= _BUSY_SECONDS / 2 + 2


def test_row_11_soketis_websocket_ping_is_answered(minutes: _Minutes) -> None:
    """A client that says nothing lives until soketi's own limit, not until uWS's.

    uWebSockets pings after 102.8 s and drops who doesn't answer at 118.9 s; soketi
    closes with 4201 at 120 s, which is why pings are `pusher:ping`.
    """
    assert PING in minutes.bare.opcodes_heard
    assert PONG in minutes.bare.opcodes_said
    assert minutes.bare_code == 4201
    assert 119 < minutes.bare_seconds < 123


def test_row_12_an_idle_session_is_not_closed(minutes: _Minutes) -> None:
    """Soketi's limit of 120 s passes twice, and events still come."""
    # Ten by the clock; the last event may have had one more sent behind it.
    assert _pings(minutes.idle) in {10, 11}
    assert minutes.idle.data == ["after"]


def test_row_13_a_consumer_that_stands_still_holds_nothing_up(
    minutes: _Minutes,
) -> None:
    """Everything is read, pings are answered, and what had no room is a gap."""
    account, stand = minutes.stalled, minutes.standstill
    assert account.session.statistics.events == minutes.published > 1000
    assert _pings(account) > _STALL_SECONDS / 2 * 0.9
    assert account.ear.interruptions == []
    begin, end = stand.losses
    assert (begin.cause, begin.until_us) == ("overflow", None)
    assert begin.since_us is not None
    assert end.until_us is not None
    assert begin.since_us == end.since_us
    assert begin.since_us < end.until_us
    counts = stand.outbox.statistics
    assert counts.committed + end.records == counts.accepted
    assert end.records == counts.dropped["overflow"] > 0
