"""What `soketi` and `publisher` promise, shown on a real soketi.

The subscriber is a plain WebSocket client that shares no code with the bridge.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import psutil
import pytest
import trio
import trio_websocket  # noqa: TID251  # a client of the test's own

from tests.kit.process import PortTakenError, ProcessError
from tests.kit.publisher import (
    APP_VARIABLE,
    EXISTING_VARIABLE,
    App,
    Event,
    Soketi,
    SoketiError,
    SoketiSettingError,
    existing_soketi,
)
from tests.kit.soketi import SoketiServer, start_soketi


_CHANNEL = "private-client.7"
_DEADLINE_SECONDS = 10.0
_MAX_MESSAGE_BYTES = 2**24  # the largest test message has 5 MB


async def _receive(
    connection: trio_websocket.WebSocketConnection,
) -> dict[str, Any]:
    with trio.fail_after(_DEADLINE_SECONDS):
        message: dict[str, Any] = json.loads(await connection.get_message())
        return message


@asynccontextmanager
async def _subscriber(
    soketi: Soketi,
) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """Connect and subscribe to the private channel."""
    url = f"{soketi.url}/app/{soketi.app.key}?protocol=7"
    async with trio_websocket.open_websocket_url(
        url, max_message_size=_MAX_MESSAGE_BYTES
    ) as connection:
        # trio-websocket leaves the socket open when the peer breaks off.
        stream = connection._stream
        assert isinstance(stream, trio.SocketStream)
        with closing(stream.socket):
            yield await _subscribed(connection, soketi)


async def _subscribed(
    connection: trio_websocket.WebSocketConnection, soketi: Soketi
) -> trio_websocket.WebSocketConnection:
    established = await _receive(connection)
    socket_id = json.loads(established["data"])["socket_id"]
    auth = soketi.sign_channel(socket_id, _CHANNEL)
    data = {"channel": _CHANNEL, "auth": auth}
    await connection.send_message(
        json.dumps({"event": "pusher:subscribe", "data": data})
    )
    answer = await _receive(connection)
    assert answer["event"] == "pusher_internal:subscription_succeeded"
    return connection


async def test_published_event_reaches_a_subscriber(soketi: Soketi) -> None:
    """An event's name, channel and data arrive as they were published."""
    async with _subscriber(soketi) as connection:
        await soketi.publish(_CHANNEL, "job.status", {"request_id": "r-1"})

        message = await _receive(connection)

    assert message["event"] == "job.status"
    assert message["channel"] == _CHANNEL
    assert json.loads(message["data"]) == {"request_id": "r-1"}


async def test_text_is_published_untouched(soketi: Soketi) -> None:
    """Data that is text already is not encoded a second time."""
    async with _subscriber(soketi) as connection, soketi.publisher() as publisher:
        for text in ("not JSON {", '{"a": 1}', "snow \u2603"):
            await publisher.publish(_CHANNEL, "job.status", text)

            assert (await _receive(connection))["data"] == text


async def test_batch_arrives_in_order(soketi: Soketi) -> None:
    """Ten events of one request arrive once each, in their order."""
    events = [Event(_CHANNEL, "job.status", str(number)) for number in range(10)]
    async with _subscriber(soketi) as connection:
        await soketi.publish_batch(events)

        received = [(await _receive(connection))["data"] for _ in events]

    assert received == [event.data for event in events]


async def test_wrong_secret_is_refused(soketi: Soketi) -> None:
    """A wrong signature is an error with soketi's answer, and without the secret."""
    stranger = Soketi(soketi.url, App(soketi.app.id, soketi.app.key, "wrong-secret"))

    with pytest.raises(SoketiError) as caught:
        await stranger.publish(_CHANNEL, "job.status", "x")

    assert caught.value.code == 401
    assert "wrong-secret" not in str(caught.value)
    assert "wrong-secret" not in repr(stranger.app)


async def test_wrong_channel_signature_is_refused(soketi: Soketi) -> None:
    """A subscription that the app's secret didn't sign gets no channel."""
    stranger = Soketi(soketi.url, App(soketi.app.id, soketi.app.key, "wrong-secret"))
    with pytest.raises(AssertionError):
        async with _subscriber(stranger):
            pass  # pragma: no cover


async def test_too_large_event_is_refused(own_soketi: SoketiServer) -> None:
    """Above soketi's own limit of 100 KB the publisher hears of it."""
    with pytest.raises(SoketiError) as caught:
        await own_soketi.publish(_CHANNEL, "job.status", "x" * 102_500)

    assert caught.value.code == 413


async def test_options_reach_the_server() -> None:
    """An option given by its dotted name is in force."""
    limit = {"eventLimits.maxPayloadInKb": 6000}
    async with start_soketi(options=limit) as soketi, _subscriber(soketi) as connection:
        await soketi.publish(_CHANNEL, "job.status", "x" * 5_000_000)

        assert len((await _receive(connection))["data"]) == 5_000_000
    assert not soketi.running


async def test_killed_server_comes_back_on_its_port(own_soketi: SoketiServer) -> None:
    """SIGKILL breaks the connection; a start serves under the same address."""
    async with _subscriber(own_soketi) as connection:
        own_soketi.kill()
        with pytest.raises(trio_websocket.ConnectionClosed):
            await _receive(connection)
    with pytest.raises(ProcessError, match="is not running"):
        _ = own_soketi.pid

    await trio.to_thread.run_sync(own_soketi.start)

    async with _subscriber(own_soketi) as connection:
        await own_soketi.publish(_CHANNEL, "job.status", "again")
        assert (await _receive(connection))["data"] == "again"


async def test_stop_says_farewell(own_soketi: SoketiServer) -> None:
    """SIGTERM tells subscribers why, and closes with a code of the protocol."""
    async with _subscriber(own_soketi) as connection:
        await trio.to_thread.run_sync(own_soketi.stop)
        farewell = await _receive(connection)
        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await _receive(connection)

    assert farewell["event"] == "pusher:error"
    assert farewell["data"]["code"] == 4200
    assert caught.value.reason is not None
    assert caught.value.reason.code == 4200
    assert not own_soketi.running


async def test_it_listens_on_this_machine_alone(own_soketi: SoketiServer) -> None:
    """Every socket of the process, UDP too, is bound to 127.0.0.1."""
    sockets = psutil.Process(own_soketi.pid).net_connections()

    assert len(sockets) >= 3  # its own, metrics, discovery
    assert {one.laddr.ip for one in sockets} == {"127.0.0.1"}


@pytest.mark.connected
def test_second_server_on_a_taken_port_is_refused() -> None:
    """A port that somebody took while the server was down is an error that names it."""
    with SoketiServer() as first:
        port = first.url.rpartition(":")[2]
        second = SoketiServer(port=int(port))
        try:
            with pytest.raises(PortTakenError, match=port):
                second.start()
        finally:
            second.close()


@pytest.mark.connected
def test_close_is_short() -> None:
    """Ending a server at the end of a run doesn't wait for its grace of 3 s."""
    with SoketiServer() as soketi:
        started = time.monotonic()

    assert time.monotonic() - started < 2
    assert not soketi.running


def test_existing_server_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Address and app of an existing soketi are taken from their variables."""
    monkeypatch.delenv(EXISTING_VARIABLE, raising=False)
    assert existing_soketi() is None

    monkeypatch.setenv(EXISTING_VARIABLE, "wss://soketi.example:6001/")
    monkeypatch.setenv(APP_VARIABLE, "1:k:s")

    existing = existing_soketi()
    assert existing is not None
    assert existing.url == "wss://soketi.example:6001"
    assert existing.http_url == "https://soketi.example:6001"
    assert existing.app == App("1", "k", "s")


@pytest.mark.parametrize(
    ("url", "app", "named"),
    [
        ("http://host:1", "1:k:s", EXISTING_VARIABLE),
        ("ws://", "1:k:s", EXISTING_VARIABLE),
        ("ws://host:1", "", APP_VARIABLE),
        ("ws://host:1", "1:k", APP_VARIABLE),
        ("ws://host:1", "1::s", APP_VARIABLE),
    ],
)
def test_malformed_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str, app: str, named: str
) -> None:
    """A variable that can't be used is named in the error."""
    monkeypatch.setenv(EXISTING_VARIABLE, url)
    monkeypatch.setenv(APP_VARIABLE, app)

    with pytest.raises(SoketiSettingError, match=f"{named} must be"):
        existing_soketi()
