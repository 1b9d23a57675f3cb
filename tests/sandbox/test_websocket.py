"""The endpoint at `/app/{key}` behaves as soketi was measured to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import h11
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from bridge.sandbox import SandboxConfig, Statistics
from bridge.sandbox.websocket import Endpoint
from tests.sandbox.client import Client, connect, subscribed, wait_until
from tests.sandbox.conftest import Start


_PONG = '{"event":"pusher:pong","data":{}}'


async def test_connections_begin_as_soketis_and_wrong_places_are_refused(
    start: Start,
) -> None:
    """Any protocol, no compression; an unknown key 4001, another path 404."""
    sandbox, base = await start()
    for query in ("", "?protocol=99"):
        async with connect(base, f"/app/depin-api-prod-key{query}") as client:
            assert client.extensions == 0
            text = await client.receive_text()
            assert text is not None
            assert text.startswith('{"event":"pusher:connection_established","data":"{')
            assert '\\"activity_timeout\\":30}"}' in text
    async with connect(base, "/app/other-key") as client:
        assert await client.receive() == {
            "event": "pusher:error",
            "data": {"code": 4001, "message": "App key other-key does not exist."},
        }
        assert await client.wait_closed() == 4001
    for target in ("/", "/app/", "/app/a/b", "/other/key"):
        async with connect(base, target) as client:
            assert client.status == 404
    assert sandbox.statistics.subscriptions == 0


async def test_subscriptions(start: Start) -> None:
    """A private channel needs its signature; the connection outlives refusals."""
    sandbox, base = await start()
    own, app = sandbox.config.channel, sandbox.config.app
    async with connect(base) as client:
        socket_id = await client.established()
        right, another = (app.channel_auth(one, own) for one in (socket_id, "1.1"))
        table: list[tuple[str, object, int | None]] = [
            *((own, auth, 401) for auth in (another, "é", None, 5)),
            *((own, right, None) for _ in range(2)),
            ("presence-x", right, 401),
            *((name, None, None) for name in ("news", "x" * 200)),
            *((name, None, 4009) for name in ("a b", "a/b", "x" * 201, "\N{SNOWMAN}")),
        ]
        wrong = []
        for channel, auth, status in table:
            await client.send("pusher:subscribe", {"channel": channel, "auth": auth})
            answer = await client.receive()
            assert answer["channel"] == channel
            if answer.get("data", {}).get("status") != status:
                wrong.append((channel, auth, answer))
        assert not wrong
        assert sandbox.statistics.subscriptions == 3
        await client.send("client-typing", {}, channel="private-x")
        answer = await client.receive()
        assert (answer["channel"], answer["data"]["code"]) == ("private-x", 4301)


async def test_unsubscribing_ends_the_events(start: Start) -> None:
    """After `pusher:unsubscribe` no event of the channel comes."""
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
            '{"event":"pusher:unsubscribe","data":{"channel":[]}}',
            '{"event":"\\ud800","data":{}}',
            "[" * 200_000,
        ):
            await client.emit(TextMessage(text))
        for ping in ('"data":{}', '"data":""', '"data":null', '"x":1'):
            await client.emit(TextMessage(f'{{"event":"pusher:ping",{ping}}}'))
            assert await client.receive_text() == _PONG
        await client.emit(BytesMessage(b'{"event":"pusher:ping"}'))
        assert await client.receive_text() == _PONG
        for piece, last in (('{"event":"pus', False), ('her:ping"}', True)):
            await client.emit(TextMessage(piece, message_finished=last))
        assert await client.receive_text() == _PONG


async def test_what_ends_a_connection(start: Start) -> None:
    """More than 1 MiB with 1009, no UTF-8 without a frame, a close with its echo."""
    sandbox, base = await start()
    for end, close in (("large", 1009), ("bytes", None), ("close", 1000)):
        async with subscribed(sandbox, base) as client:
            if end == "large":
                await client.emit(TextMessage("x" * 1_100_000))
            elif end == "bytes":
                # A masked text frame with a mask of zeros and one byte, 0xFF.
                await client.stream.send_all(b"\x81\x81\x00\x00\x00\x00\xff")
            else:
                await client.emit(CloseConnection(code=1000))
            assert await client.wait_closed() == close
        await wait_until(lambda: not sandbox.statistics.connections)
        assert sandbox.statistics.subscriptions == 0


@pytest.fixture
async def memory(nursery: trio.Nursery) -> AsyncIterator[Client]:
    """A client of an endpoint on memory streams, for what takes long."""
    endpoint = Endpoint(SandboxConfig(), Statistics())
    ours, theirs = memory_stream_pair()

    async def serve() -> None:
        async with theirs:
            http = h11.Connection(h11.SERVER)
            http.receive_data(bytes(await theirs.receive_some()))
            request = http.next_event()
            assert isinstance(request, h11.Request)
            path = request.target
            scope = {"path": path.decode(), "raw_path": path}
            headers = list(request.headers)
            await endpoint.serve({**scope, "headers": headers}, theirs, b"")

    nursery.start_soon(serve)
    client = Client(ours)
    await client.upgrade("/app/depin-api-prod-key")
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
        assert await memory.receive_text() == _PONG
    began = trio.current_time()
    # Neither WebSocket pings nor messages without an answer count.
    for payload in (b"a", b"b", b"c"):
        await trio.sleep(37)
        await memory.emit(Ping(payload))
        await memory.send("pusher:pong")
    assert await memory.receive_text() is None
    assert (memory.pongs, memory.close) == ([b"a", b"b", b"c"], 4201)
    assert trio.current_time() - began == pytest.approx(120, abs=0.1)


async def test_a_slow_reader_loses_events_silently(start: Start) -> None:
    """What exceeds 1 MiB is dropped and counted; the connection goes on."""
    sandbox, base = await start(rate=2_000, preview_bytes=60_000, fail=0)
    counts = sandbox.statistics
    async with subscribed(sandbox, base) as client:
        await wait_until(lambda: counts.frames_dropped > 50, seconds=20)
        await sandbox.simulation.set_rate(0)
        received = 0
        while received + counts.frames_dropped < counts.events_emitted:
            message = await client.receive()
            received += message["event"] == "request.status.updated"
        assert received > 0
        assert counts.bytes_dropped > 0
        await sandbox.simulation.set_rate(100)
        assert (await client.receive())["event"] == "request.status.updated"


async def test_clients_that_read_nothing_do_not_delay_the_end(
    start: Start, nursery: trio.Nursery
) -> None:
    """Cancelling ends the sandbox, whatever its clients leave unread."""
    sandbox, base = await start(rate=5_000, preview_bytes=60_000)
    counts = sandbox.statistics
    async with subscribed(sandbox, base):
        await wait_until(lambda: counts.frames_dropped > 0, seconds=20)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_until(lambda: not counts.connections)
