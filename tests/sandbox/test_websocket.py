"""The endpoint at `/app/{key}` behaves as soketi was measured to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio
from trio.testing import MemorySendStream, MockClock, memory_stream_pair
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from bridge.sandbox import SandboxConfig, Statistics, frames
from bridge.sandbox.channels import Channels
from bridge.sandbox.endpoint import Endpoint
from tests.sandbox.client import Client, connect, subscribed, wait_until
from tests.sandbox.conftest import Start


_TARGET = "/app/depin-api-prod-key?protocol=7&client=js&version=8.6.0"


class _Memory:
    """An endpoint without a port, for what takes long or breaks."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.config = SandboxConfig()
        self.statistics = Statistics()
        self.channels = Channels()
        self.endpoint = Endpoint(self.config, self.channels, self.statistics)
        self._nursery = nursery

    async def connect(self) -> Client:
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._serve, theirs)
        client = Client(ours)
        await client.upgrade(_TARGET)
        await client.established()
        return client

    async def _serve(self, stream: trio.abc.HalfCloseableStream) -> None:
        async with stream:
            head = await stream.receive_some()
            await self.endpoint.serve(stream, bytes(head))


@pytest.fixture
async def memory(nursery: trio.Nursery) -> AsyncIterator[_Memory]:
    """An endpoint on memory streams."""
    yield _Memory(nursery)
    nursery.cancel_scope.cancel()


async def test_first_frame_carries_a_string_and_thirty_seconds(start: Start) -> None:
    """A connection begins with its socket id, in a string within the frame."""
    _, base = await start()
    async with connect(base, _TARGET) as client:
        first = await client.receive()
        assert list(first) == ["event", "data"]
        data = json.loads(first["data"])
        assert data["activity_timeout"] == 30
        left, _, right = data["socket_id"].partition(".")
        assert left.isdigit()
        assert right.isdigit()


@pytest.mark.parametrize("query", ["", "?protocol=99", "?protocol=abc"])
async def test_any_protocol_version_is_taken(start: Start, query: str) -> None:
    """As soketi, the endpoint doesn't look at the version."""
    _, base = await start()
    async with connect(base, f"/app/depin-api-prod-key{query}") as client:
        await client.established()


async def test_a_wrong_key_is_upgraded_and_then_refused(start: Start) -> None:
    """The upgrade succeeds; an error object with 4001 follows, then the close."""
    sandbox, base = await start()
    async with connect(base, "/app/other-key") as client:
        assert client.accept is not None
        assert await client.receive() == {
            "event": "pusher:error",
            "data": {"code": 4001, "message": "App key other-key does not exist."},
        }
        assert await client.wait_closed() == (4001, "")
    assert sandbox.statistics.subscriptions == 0


@pytest.mark.parametrize("target", ["/", "/app/", "/app/a/b", "/other/key"])
async def test_a_wrong_path_gets_404(start: Start, target: str) -> None:
    """An upgrade anywhere else is answered with 404."""
    _, base = await start()
    async with connect(base, target) as client:
        assert client.status == 404


async def test_compression_is_not_agreed_on(start: Start) -> None:
    """A client that offers permessage-deflate gets a connection without."""
    _, base = await start()
    host, port = base.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        client = Client(stream)
        await client.upgrade(_TARGET, offer="permessage-deflate")
        assert client.accept is not None
        assert client.accept.extensions == []
        await client.established()


async def test_private_channel_needs_the_right_signature(start: Start) -> None:
    """A signature for another socket, a broken one and none are refused alike."""
    sandbox, base = await start()
    config = sandbox.config
    async with connect(base) as client:
        socket_id = await client.established()
        wrong = config.app.channel_auth("1.1", config.channel)
        for auth in (wrong, "x", "depin-api-prod-key:\u00e9", None, 5):
            data = {"channel": config.channel, "auth": auth}
            await client.send("pusher:subscribe", data)
            assert await client.receive() == {
                "event": "pusher:subscription_error",
                "channel": config.channel,
                "data": {
                    "type": "AuthError",
                    "error": "The connection is unauthorized.",
                    "status": 401,
                },
            }
        assert sandbox.statistics.subscriptions == 0
        # The connection lives and the right one is taken, as often as it comes.
        for _ in range(2):
            assert await client.subscribe(config.channel, config.app, socket_id) == {
                "event": "pusher_internal:subscription_succeeded",
                "channel": config.channel,
            }
        assert sandbox.statistics.subscriptions == 1


async def test_public_channels_are_open_and_presence_is_not(start: Start) -> None:
    """A public channel needs no signature; bad names and presence are refused."""
    _, base = await start()
    async with connect(base) as client:
        await client.established()
        expected = {
            "news": None,
            "presence-x": 401,
            "a b": 4009,
            "x" * 201: 4009,
        }
        for channel, status in expected.items():
            await client.send("pusher:subscribe", {"channel": channel})
            answer = await client.receive()
            assert answer["channel"] == channel
            assert answer.get("data", {}).get("status") == status


async def test_unsubscribing_ends_the_events(start: Start) -> None:
    """After `pusher:unsubscribe` nothing of the channel comes; others go on."""
    sandbox, base = await start(wait_for_subscriber=False, rate=200, fail=0)
    async with subscribed(sandbox, base) as client:
        assert (await client.receive())["channel"] == sandbox.config.channel
        await client.send("pusher:unsubscribe", {"channel": sandbox.config.channel})
        await client.send("pusher:ping")
        while (await client.receive())["event"] != "pusher:pong":
            pass
        assert sandbox.statistics.subscriptions == 0
        emitted = sandbox.statistics.events_emitted
        await wait_until(lambda: sandbox.statistics.events_emitted > emitted + 20)
        await client.send("pusher:ping")
        assert (await client.receive())["event"] == "pusher:pong"


async def test_pings_of_both_kinds_are_answered(start: Start) -> None:
    """`pusher:ping` gets a pong with an empty object, a WebSocket ping its echo."""
    _, base = await start()
    async with connect(base) as client:
        await client.established()
        for data in ("{}", '""', "null"):
            await client.send_text(f'{{"event":"pusher:ping","data":{data}}}')
            assert await client.receive() == {"event": "pusher:pong", "data": {}}
        await client.send_text('{"event":"pusher:ping"}')
        assert await client.receive_text() == '{"event":"pusher:pong","data":{}}'
        await client.ping(b"payload")


async def test_junk_is_ignored(start: Start) -> None:
    """No message of a client's is answered or ends the connection unless it must."""
    _, base = await start()
    async with connect(base) as client:
        await client.established()
        for text in (
            "",
            "null",
            "[]",
            "{",
            '{"event":7}',
            '{"event":"pusher:subscribe"}',
            '{"event":"pusher:subscribe","data":"x"}',
            '{"event":"pusher:subscribe","data":{"channel":5}}',
            '{"event":"pusher:unsubscribe","data":{"channel":"never"}}',
            '{"event":"pusher:pong","data":{}}',
            '{"event":"pusher:signin","data":{}}',
            '{"event":"\\ud800","data":{}}',
            "[" * 200_000,
        ):
            await client.send_text(text)
        await client.send("pusher:ping")
        assert await client.receive() == {"event": "pusher:pong", "data": {}}


async def test_binary_and_fragmented_messages_are_read(start: Start) -> None:
    """A message may come as bytes or in pieces."""
    _, base = await start()
    async with connect(base) as client:
        await client.established()
        await client.send_event(BytesMessage(data=b'{"event":"pusher:ping"}'))
        assert (await client.receive())["event"] == "pusher:pong"
        for piece, last in (('{"event":"pus', False), ('her:ping"}', True)):
            await client.send_event(TextMessage(data=piece, message_finished=last))
        assert (await client.receive())["event"] == "pusher:pong"


async def test_client_events_are_disabled(start: Start) -> None:
    """A client event is refused with 4301 and its channel; the connection lives."""
    _, base = await start()
    async with connect(base) as client:
        await client.established()
        await client.send("client-typing", {}, channel="private-x")
        answer = await client.receive()
        assert answer["channel"] == "private-x"
        assert answer["data"]["code"] == 4301
        await client.send("pusher:ping")
        assert (await client.receive())["event"] == "pusher:pong"


async def test_a_message_too_large_ends_the_connection(start: Start) -> None:
    """Past 1 MiB the connection is closed with 1009."""
    _, base = await start()
    async with connect(base) as client:
        await client.established()
        await client.send_text("x" * 1_100_000)
        assert await client.wait_closed() == (1009, "")


async def test_text_that_is_no_utf8_ends_the_connection(start: Start) -> None:
    """Invalid UTF-8 gets an end without a close frame, as measured."""
    _, base = await start()
    async with connect(base) as client:
        await client.established()
        # A masked text frame with a mask of zeros and one byte, 0xFF.
        await client.stream.send_all(b"\x81\x81\x00\x00\x00\x00\xff")
        assert await client.wait_closed() is None


async def test_a_close_is_answered(start: Start) -> None:
    """A client's close frame is echoed and its subscriptions end."""
    sandbox, base = await start()
    async with subscribed(sandbox, base) as client:
        await client.send_event(CloseConnection(code=1000))
        assert await client.wait_closed() == (1000, "")
    await wait_until(lambda: not sandbox.statistics.connections)
    assert sandbox.statistics.subscriptions == 0


async def test_idle_connection_is_closed_after_two_minutes(
    memory: _Memory, autojump_clock: MockClock
) -> None:
    """120 s after the last message that the server sent comes 4201, no error."""
    client = await memory.connect()
    begun = trio.current_time()
    for number in range(6):
        await trio.sleep(19)
        # Neither WebSocket pings nor messages without answer move the clock.
        await client.ping(b"%d" % number)
        await client.send("pusher:pong")
    with trio.fail_after(100):
        data = await client.stream.receive_some(65536)
    client.websocket.receive_data(bytes(data))
    (event,) = client.websocket.events()
    assert isinstance(event, CloseConnection)
    assert (event.code, event.reason or "") == (4201, "")
    assert trio.current_time() - begun == pytest.approx(120, abs=0.1)


async def test_answered_pings_keep_a_connection(
    memory: _Memory, autojump_clock: MockClock
) -> None:
    """A client that sends `pusher:ping` every 100 s stays as long as it likes."""
    client = await memory.connect()
    for _ in range(10):
        await trio.sleep(100)
        await client.send("pusher:ping")
        assert (await client.receive())["event"] == "pusher:pong"
    assert memory.statistics.connections == 1


async def test_a_client_that_sends_no_request_is_dropped(
    memory: _Memory, autojump_clock: MockClock
) -> None:
    """An upgrade that doesn't arrive within 10 s ends the connection."""
    ours, theirs = memory_stream_pair()
    with trio.fail_after(11):
        await memory.endpoint.serve(theirs, b"GET /app/x HTTP/1.1\r\n")
    await ours.aclose()
    assert memory.statistics.connections_total == 0


async def test_a_client_that_reads_nothing_is_dropped_in_the_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A writer that can't write for 120 s gives up, and nothing is left of it."""
    memory = _Memory(nursery)
    client = await memory.connect()
    await client.send("pusher:subscribe", {"channel": "news"})
    await client.receive()

    async def never() -> None:
        await trio.sleep_forever()

    # The memory stream's other end takes no more, as a full socket does.
    for connection in tuple(memory.endpoint._connections):
        stream = connection._stream
        assert isinstance(stream, trio.StapledStream)
        send_stream = stream.send_stream
        assert isinstance(send_stream, MemorySendStream)
        send_stream.send_all_hook = never
    memory.channels.publish("news", frames.channel_event("e", "news", "x"))
    await wait_until(lambda: not memory.statistics.connections, seconds=130)
    assert memory.statistics.subscriptions == 0
    assert memory.channels.count("news") == 0
    nursery.cancel_scope.cancel()


async def test_a_slow_reader_loses_events_in_silence(start: Start) -> None:
    """What exceeds 1 MiB is dropped and counted; the connection goes on."""
    sandbox, base = await start(
        wait_for_subscriber=True, rate=2_000, preview_bytes=60_000, fail=0
    )
    async with subscribed(sandbox, base) as client:
        await wait_until(lambda: sandbox.statistics.frames_dropped > 50, seconds=20)
        await sandbox.stop_emission()
        await trio.sleep(0.1)
        received = 0
        # Acknowledgements take the same way and may be dropped as well.
        with trio.fail_after(20):
            await client.send("pusher:ping")
            while received + sandbox.statistics.frames_dropped < (
                sandbox.statistics.events_emitted
            ):
                message = await client.receive()
                received += message["event"] == "request.status.updated"
        assert received > 0
        assert sandbox.statistics.bytes_dropped > 0
        await sandbox.set_rate(100)
        while (await client.receive())["event"] != "request.status.updated":
            pass


async def test_stopping_says_goodbye(start: Start) -> None:
    """Every client gets error 4200 and close 4200, as from soketi on SIGTERM."""
    sandbox, base = await start()
    async with connect(base) as client:
        await client.established()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sandbox.stop)
            answer = await client.receive()
            assert answer["event"] == "pusher:error"
            assert answer["data"]["code"] == 4200
            assert await client.wait_closed() == (4200, "")
            await client.stream.aclose()
    with pytest.raises(OSError, match="all attempts to connect"):
        async with connect(base):
            pass


async def test_a_plain_request_for_the_endpoint_gets_404(
    start: Start, http: httpx.AsyncClient
) -> None:
    """Whoever asks for `/app/{key}` without upgrading finds nothing there."""
    sandbox, base = await start()
    assert (await http.get(f"{base}/app/depin-api-prod-key")).status_code == 404
    assert sandbox.statistics.connections_total == 0


async def test_whoever_comes_while_it_stops_is_sent_away(memory: _Memory) -> None:
    """A connection that is accepted during the stop gets 4200 as well."""
    await memory.endpoint.stop()
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory._serve, theirs)
        client = Client(ours)
        await client.upgrade(_TARGET)
        assert (await client.receive())["data"]["code"] == 4200
        assert await client.wait_closed() == (4200, "")
        await ours.aclose()
