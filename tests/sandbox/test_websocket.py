"""The endpoint at `/app/{key}` behaves as soketi was measured to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import h11
import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from bridge.sandbox import Sandbox, SandboxConfig, Statistics
from bridge.sandbox.websocket import Channels, Endpoint
from tests.sandbox.client import Client, connect, subscribed, wait_until
from tests.sandbox.conftest import Start


_TARGET = "/app/depin-api-prod-key?protocol=7&client=js&version=8.6.0"
_PONG = '{"event":"pusher:pong","data":{}}'


async def test_a_connection_begins_as_soketis(start: Start) -> None:
    """The socket id in a string within the frame; any protocol, no compression."""
    _, base = await start()
    host, port = base.removeprefix("http://").split(":")
    for query in ("", "?protocol=7", "?protocol=99", "?protocol=abc"):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            client = Client(stream)
            target = f"/app/depin-api-prod-key{query}"
            await client.upgrade(target, offer="permessage-deflate")
            assert client.accept is not None
            assert client.accept.extensions == []
            first = await client.receive()
            assert list(first) == ["event", "data"]
            assert first["event"] == "pusher:connection_established"
            data = json.loads(first["data"])
            assert data["activity_timeout"] == 30
            left, _, right = data["socket_id"].partition(".")
            assert left.isdigit()
            assert right.isdigit()


async def test_wrong_places_are_refused(start: Start, http: httpx.AsyncClient) -> None:
    """An unknown key after the upgrade with 4001, another path with 404."""
    sandbox, base = await start()
    async with connect(base, "/app/other-key") as client:
        assert await client.receive() == {
            "event": "pusher:error",
            "data": {"code": 4001, "message": "App key other-key does not exist."},
        }
        assert await client.wait_closed() == (4001, "")
    for target in ("/", "/app/", "/app/a/b", "/other/key"):
        async with connect(base, target) as client:
            assert client.status == 404
    # Without an upgrade nothing is there.
    assert (await http.get(f"{base}/app/depin-api-prod-key")).status_code == 404
    assert sandbox.statistics.subscriptions == 0


async def test_a_private_channel_needs_the_right_signature(start: Start) -> None:
    """Wrong ones are refused alike; the connection lives and the right one is taken."""
    sandbox, base = await start()
    config = sandbox.config
    async with connect(base) as client:
        socket_id = await client.established()
        wrong = config.app.channel_auth("1.1", config.channel)
        for auth in (wrong, "x", "depin-api-prod-key:é", None, 5):
            data = {"channel": config.channel, "auth": auth}
            await client.send("pusher:subscribe", data)
            assert await client.receive_text() == (
                '{"event":"pusher:subscription_error",'
                f'"channel":"{config.channel}",'
                '"data":{"type":"AuthError",'
                '"error":"The connection is unauthorized.","status":401}}'
            )
        assert sandbox.statistics.subscriptions == 0
        for _ in range(2):
            assert await client.subscribe(config.channel, config.app, socket_id) == {
                "event": "pusher_internal:subscription_succeeded",
                "channel": config.channel,
            }
        assert sandbox.statistics.subscriptions == 1


async def test_other_channels(start: Start) -> None:
    """Public ones are open; presence, bad names and client events are refused."""
    _, base = await start()
    expected = {"news": None, "x" * 200: None, "presence-x": 401}
    expected |= dict.fromkeys(("a b", "a/b", "x" * 201, "\N{SNOWMAN}"), 4009)
    async with connect(base) as client:
        await client.established()
        found = {}
        for channel in expected:
            await client.send("pusher:subscribe", {"channel": channel})
            answer = await client.receive()
            assert answer["channel"] == channel
            found[channel] = answer.get("data", {}).get("status")
        assert found == expected
        await client.send("client-typing", {}, channel="private-x")
        answer = await client.receive()
        assert (answer["channel"], answer["data"]["code"]) == ("private-x", 4301)


async def test_unsubscribing_ends_the_events(start: Start) -> None:
    """After `pusher:unsubscribe` nothing of the channel comes."""
    sandbox, base = await start(wait_for_subscriber=False, rate=200, fail=0)
    async with subscribed(sandbox, base) as client:
        assert (await client.receive())["channel"] == sandbox.config.channel
        await client.send("pusher:unsubscribe", {"channel": sandbox.config.channel})
        await client.send("pusher:ping")
        while (await client.receive())["event"] != "pusher:pong":
            pass
        emitted = sandbox.statistics.events_emitted
        await wait_until(lambda: sandbox.statistics.events_emitted > emitted + 20)
        await client.send("pusher:ping")
        assert (await client.receive())["event"] == "pusher:pong"


async def test_pings_are_answered_and_junk_is_ignored(start: Start) -> None:
    """In any form; nothing else is answered or ends the connection."""
    _, base = await start()
    async with connect(base) as client:
        await client.established()
        for text in (
            *("", "null", "[]", "{", '{"event":7}', '{"event":"pusher:subscribe"}'),
            '{"event":"pusher:subscribe","data":"x"}',
            '{"event":"pusher:subscribe","data":{"channel":5}}',
            '{"event":"pusher:unsubscribe","data":{"channel":"never"}}',
            '{"event":"pusher:pong","data":{}}',
            '{"event":"\\ud800","data":{}}',
            "[" * 200_000,
        ):
            await client.send_text(text)
        for ping in ('"data":{}', '"data":""', '"data":null', '"x":1'):
            await client.send_text(f'{{"event":"pusher:ping",{ping}}}')
            assert await client.receive_text() == _PONG
        await client.send_event(BytesMessage(data=b'{"event":"pusher:ping"}'))
        assert await client.receive_text() == _PONG
        for piece, last in (('{"event":"pus', False), ('her:ping"}', True)):
            await client.send_event(TextMessage(data=piece, message_finished=last))
        assert await client.receive_text() == _PONG
        await client.ping(b"payload")


async def test_what_ends_a_connection(start: Start) -> None:
    """More than 1 MiB with 1009, no UTF-8 without a frame, a close with its echo."""
    sandbox, base = await start()
    for end, close in (("large", (1009, "")), ("bytes", None), ("close", (1000, ""))):
        async with subscribed(sandbox, base) as client:
            if end == "large":
                await client.send_text("x" * 1_100_000)
            elif end == "bytes":
                # A masked text frame with a mask of zeros and one byte, 0xFF.
                await client.stream.send_all(b"\x81\x81\x00\x00\x00\x00\xff")
            else:
                await client.send_event(CloseConnection(code=1000))
            assert await client.wait_closed() == close
        await wait_until(lambda: not sandbox.statistics.connections)
        assert sandbox.statistics.subscriptions == 0


@pytest.fixture
async def memory(nursery: trio.Nursery) -> AsyncIterator[Client]:
    """A client of an endpoint on memory streams, for what takes long."""
    endpoint = Endpoint(SandboxConfig(), Channels(), Statistics())
    ours, theirs = memory_stream_pair()

    async def serve() -> None:
        async with theirs:
            http = h11.Connection(h11.SERVER)
            http.receive_data(bytes(await theirs.receive_some()))
            request = http.next_event()
            assert isinstance(request, h11.Request)
            path, _, _ = request.target.partition(b"?")
            scope = {"path": path.decode(), "raw_path": path}
            headers = list(request.headers)
            await endpoint.serve({**scope, "headers": headers}, theirs, b"")

    nursery.start_soon(serve)
    client = Client(ours)
    await client.upgrade(_TARGET)
    await client.established()
    yield client
    nursery.cancel_scope.cancel()


async def test_an_idle_connection_is_closed_after_two_minutes(
    memory: Client, autojump_clock: MockClock
) -> None:
    """120 s after the server's last message comes 4201; answered pings prevent it."""
    for _ in range(5):
        await trio.sleep(100)
        await memory.send("pusher:ping")
        assert (await memory.receive())["event"] == "pusher:pong"
    begun = trio.current_time()
    for number in range(6):
        await trio.sleep(19)
        # Neither WebSocket pings nor messages without answer move the clock.
        await memory.ping(b"%d" % number)
        await memory.send("pusher:pong")
    with trio.fail_after(100):
        data = await memory.stream.receive_some(65536)
    memory.websocket.receive_data(bytes(data))
    (event,) = memory.websocket.events()
    assert isinstance(event, CloseConnection)
    assert (event.code, event.reason or "") == (4201, "")
    assert trio.current_time() - begun == pytest.approx(120, abs=0.1)


async def test_a_slow_reader_loses_events_in_silence(start: Start) -> None:
    """What exceeds 1 MiB is dropped and counted; the connection goes on."""
    sandbox, base = await start(rate=2_000, preview_bytes=60_000, fail=0)
    counts = sandbox.statistics
    async with subscribed(sandbox, base) as client:
        await wait_until(lambda: counts.frames_dropped > 50, seconds=20)
        await sandbox.stop_emission()
        received = 0
        with trio.fail_after(20):
            while received + counts.frames_dropped < counts.events_emitted:
                message = await client.receive()
                received += message["event"] == "request.status.updated"
        assert received > 0
        assert counts.bytes_dropped > 0
        await sandbox.set_rate(100)
        assert (await client.receive())["event"] == "request.status.updated"


async def test_clients_that_read_nothing_do_not_hold_up_the_end() -> None:
    """Cancelling ends the sandbox, whatever its clients leave unread."""
    config = SandboxConfig(listen="127.0.0.1:0", rate=5_000, preview_bytes=60_000)
    sandbox = Sandbox(config)
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[str]) -> None:
            await sandbox.serve(task_status=task_status)

        base = await nursery.start(serve)
        async with subscribed(sandbox, base):
            await wait_until(lambda: sandbox.statistics.frames_dropped > 0, seconds=20)
            nursery.cancel_scope.cancel()
    assert sandbox.statistics.connections == 0
