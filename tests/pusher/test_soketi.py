"""A session against a real soketi, the server that dryAPI runs."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog.testing
import trio

from bridge.errors import RefusedError
from bridge.pusher.attempt import JOB_EVENT
from bridge.pusher.protocol import ChannelEvent
from bridge.pusher.session import Session
from bridge.pusher.state import State
from bridge.settings import PusherSettings
from tests.pusher.scripted import Deliveries
from tests.servers.publisher import Event, Soketi
from tests.servers.soketi import SoketiServer


_DEADLINE_SECONDS = 15.0

Sign = Callable[[str, str], str]


class _Signer:
    """Signs as dryAPI's endpoint would, without the endpoint."""

    def __init__(self, sign: Sign) -> None:
        self._sign = sign

    async def authorize(self, socket_id: str, channel: str) -> str:
        await trio.lowlevel.checkpoint()
        return self._sign(socket_id, channel)


class _Subscribed:
    """A session under way, and what it delivered."""

    def __init__(self, soketi: Soketi, client_id: str) -> None:
        self.channel = f"private-client.{client_id}"
        self.events: list[ChannelEvent] = []
        self.session = Session(
            client_id,
            PusherSettings(url=soketi.url, app_key=soketi.app.key),
            _Signer(soketi.sign_channel),
            self._deliver,
        )

    def _deliver(self, events: Sequence[ChannelEvent], received_at_us: int) -> None:
        assert received_at_us > 0
        self.events += events


async def _until(
    condition: Callable[[], bool], deadline_seconds: float = _DEADLINE_SECONDS
) -> None:
    """Wait for something that a real server brings about."""
    with trio.fail_after(deadline_seconds):
        while not condition():  # noqa: ASYNC110 - a counter has no event
            await trio.sleep(0.01)


@asynccontextmanager
async def _subscribed(soketi: Soketi) -> AsyncIterator[_Subscribed]:
    subscribed = _Subscribed(soketi, uuid.uuid4().hex)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribed.session.run)
        await _until(lambda: subscribed.session.statistics.subscribed)
        yield subscribed
        nursery.cancel_scope.cancel()


@pytest.mark.connected
async def test_events_of_the_own_channel_arrive_in_order(soketi: Soketi) -> None:
    """What is published after the acknowledgement is delivered, nothing else."""
    async with _subscribed(soketi) as subscribed, soketi.publisher() as publisher:
        payloads = [json.dumps({"n": number}) for number in range(200)]
        await publisher.publish("private-client.another", JOB_EVENT, "{}")
        await publisher.publish(subscribed.channel, "another.event", "{}")
        for start in range(0, len(payloads), 10):
            await publisher.publish_batch(
                [
                    Event(subscribed.channel, JOB_EVENT, payload)
                    for payload in payloads[start : start + 10]
                ]
            )
        await _until(lambda: len(subscribed.events) == len(payloads))
        assert [event.data for event in subscribed.events] == payloads
        statistics = subscribed.session.statistics
        assert statistics.other_events == 1
        assert statistics.unrecognised == statistics.unexpected == 0


@pytest.mark.connected
async def test_row_08_soketi_answers_the_pings(soketi: Soketi) -> None:
    """The pong is noted as proof of life."""
    async with trio.open_nursery() as nursery:
        session = Session(
            "42",
            PusherSettings(
                url=soketi.url, app_key=soketi.app.key, activity_timeout_seconds=0.1
            ),
            _Signer(soketi.sign_channel),
            Deliveries(),
        )
        nursery.start_soon(session.run)
        await _until(lambda: session.statistics.frames >= 10)
        assert session.statistics.proved_until_us is not None
        assert session.statistics.unexpected == 0
        nursery.cancel_scope.cancel()


async def _refusal(soketi: Soketi, app_key: str, sign: Sign) -> RefusedError:
    session = Session(
        "42",
        PusherSettings(url=soketi.url, app_key=app_key),
        _Signer(sign),
        Deliveries(),
    )
    with trio.fail_after(_DEADLINE_SECONDS), pytest.raises(RefusedError) as caught:
        await session.run()
    return caught.value


@pytest.mark.connected
async def test_row_17_a_wrong_app_key_is_refused(soketi: Soketi) -> None:
    """Soketi upgrades, says 4001 and closes; the error names the setting."""
    error = await _refusal(soketi, "no-such-key", soketi.sign_channel)
    assert error.code == 4001
    assert "BRIDGE_PUSHER_APP_KEY" in str(error)


@pytest.mark.connected
async def test_row_32_a_wrong_signature_is_refused(soketi: Soketi) -> None:
    """Soketi answers with a subscription error, twice."""
    error = await _refusal(
        soketi, soketi.app.key, lambda *_: f"{soketi.app.key}:{'0' * 64}"
    )
    assert error.code == 401
    assert "unauthorized" in str(error)


@pytest.mark.connected
@pytest.mark.parametrize("end", [SoketiServer.stop, SoketiServer.kill])
async def test_row_15_a_restarted_soketi_is_found_again(
    own_soketi: SoketiServer, end: Callable[[SoketiServer], None]
) -> None:
    """Subscribed within two seconds of its return, with one loss in the log."""
    async with _subscribed(own_soketi) as subscribed:
        statistics = subscribed.session.statistics
        with structlog.testing.capture_logs() as logs:
            await trio.to_thread.run_sync(end, own_soketi)
            assert statistics.state is not State.SUBSCRIBED
            await trio.to_thread.run_sync(own_soketi.start)
            await _until(lambda: statistics.subscribed, 2.5)
        assert [log["event"] for log in logs].count("session.lost") == 1
        assert statistics.reconnects == 1
        await own_soketi.publish(subscribed.channel, JOB_EVENT, "again")
        await _until(lambda: bool(subscribed.events))
        assert subscribed.events[0].data == "again"
