"""What the firehose promises to a Pusher client, tried with trio-websocket."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio_websocket  # noqa: TID251 # a client of the test's own

from benchmarks.firehose import FirehoseServer
from benchmarks.orders import Firehose, OrderError
from benchmarks.traffic import APP_KEY, CHANNEL, Traffic, channel_of


_DEADLINE_SECONDS = 10.0


@pytest.fixture
def firehose() -> Iterator[Firehose]:
    """A firehose in a thread; its port is the system's choice."""
    server = FirehoseServer(0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Firehose(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_DEADLINE_SECONDS)


async def _receive(client: trio_websocket.WebSocketConnection) -> dict[str, str]:
    message: dict[str, str] = json.loads(await client.get_message())
    return message


@asynccontextmanager
async def _subscribed(
    firehose: Firehose, channel: str = CHANNEL, *, of: int = 1
) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    with trio.fail_after(_DEADLINE_SECONDS):
        async with trio_websocket.open_websocket_url(firehose.pusher_url) as client:
            established = await _receive(client)
            assert established["event"] == "pusher:connection_established"
            data = {"channel": channel, "auth": "any:any"}
            await client.send_message(
                json.dumps({"event": "pusher:subscribe", "data": data})
            )
            answer = await _receive(client)
            assert answer["event"] == "pusher_internal:subscription_succeeded"
            assert answer["channel"] == channel
            await trio.to_thread.run_sync(firehose.wait_subscribed, of)
            yield client


@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_all_events_come_in_order(firehose: Firehose, rate: float | None) -> None:
    """A flood and a trickle alike bring every event once and in order."""
    traffic = Traffic(events=300, jobs=10)
    received: list[str] = []

    async with _subscribed(firehose) as client, trio.open_nursery() as nursery:

        async def read() -> None:
            events = [await _receive(client) for _ in range(traffic.events)]
            received.extend(event["data"] for event in events)

        nursery.start_soon(read)
        emission = await trio.to_thread.run_sync(
            firehose.emit, traffic, rate, _DEADLINE_SECONDS
        )

    assert received == list(traffic.payloads())
    assert emission.written_ns > emission.started_ns
    assert len(emission.stamps_ns) == (traffic.events if rate else 0)
    assert emission.stamps_ns == sorted(emission.stamps_ns)


@pytest.mark.parametrize("rate", [None, 2000.0])
async def test_each_account_gets_its_own(
    firehose: Firehose, rate: float | None
) -> None:
    """With several accounts each has its own jobs' events, on its own channel."""
    traffic = Traffic(events=60, jobs=10, accounts=2)
    first, second = map(channel_of, traffic.client_ids)
    received: dict[str, list[str]] = {first: [], second: []}

    async def read(channel: str, client: trio_websocket.WebSocketConnection) -> None:
        for _ in range(traffic.events // 2):
            event = await _receive(client)
            assert event["channel"] == channel
            received[channel].append(event["data"])

    async with (
        _subscribed(firehose, first) as one,
        _subscribed(firehose, second, of=2) as other,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(read, first, one)
        nursery.start_soon(read, second, other)
        await trio.to_thread.run_sync(firehose.emit, traffic, rate, _DEADLINE_SECONDS)

    payloads = list(traffic.payloads())
    assert received == {first: payloads[0::2], second: payloads[1::2]}


async def test_rate_is_kept(firehose: Firehose) -> None:
    """At a rate no event is written before its time."""
    async with _subscribed(firehose):
        emission = await trio.to_thread.run_sync(
            firehose.emit, Traffic(events=50), 500.0, _DEADLINE_SECONDS
        )

    early = [
        stamp - emission.started_ns - index * 2_000_000
        for index, stamp in enumerate(emission.stamps_ns)
    ]
    assert min(early) >= 0


async def test_pings_are_answered(firehose: Firehose) -> None:
    """A Pusher ping gets a Pusher pong, a WebSocket ping a WebSocket pong."""
    async with _subscribed(firehose) as client:
        await client.send_message('{"event":"pusher:ping","data":{}}')

        assert (await _receive(client))["event"] == "pusher:pong"
        await client.ping(b"are you there")


async def test_leaver_is_forgotten(firehose: Firehose) -> None:
    """Who has left is no subscriber any more, however often it had subscribed."""
    async with _subscribed(firehose) as client:
        data = {"channel": CHANNEL, "auth": "any:any"}
        await client.send_message(
            json.dumps({"event": "pusher:subscribe", "data": data})
        )
        answer = await _receive(client)
        assert answer["event"] == "pusher_internal:subscription_succeeded"

    await trio.to_thread.run_sync(firehose.wait_subscribed, 0)


def test_any_channel_is_authorised(firehose: Firehose) -> None:
    """The authorisation has the form that clients check."""
    request = urllib.request.Request(  # noqa: S310 # http on this machine
        f"{firehose.api_url}/broadcasting/auth", b"{}", method="POST"
    )
    with urllib.request.urlopen(request, timeout=_DEADLINE_SECONDS) as answer:  # noqa: S310 # the same
        auth = json.loads(answer.read())["auth"]

    key, _, signature = auth.partition(":")
    assert key == APP_KEY
    assert len(bytes.fromhex(signature)) == 32


def test_order_without_subscriber_is_an_error(firehose: Firehose) -> None:
    """Events for nobody are refused, and the benchmark hears of it."""
    with pytest.raises(OrderError, match="409"):
        firehose.emit(Traffic(events=1), None, _DEADLINE_SECONDS)
