"""
The WebSocket seam, on memory streams.

What a real socket and TLS add stands in test_transport.py.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from bridge.errors import ConnectError, ConnectionLostError, MessageTooLargeError
from bridge.pusher.websocket import Connection, connect_websocket
from tests.kit.scripted import (
    MAX_MESSAGE_BYTES,
    Peer,
    Script,
    ScriptedServer,
    end_at_once,
    spoken,
)


_UPGRADED = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"


async def _read_all(connection: Connection, received: list[str | bytes]) -> None:
    while True:
        received += await connection.receive_run()


def _connect(
    script: Script, nursery: trio.Nursery, url: str = "ws://pusher.test/app/k?x=1"
) -> AbstractAsyncContextManager[Connection]:
    server = ScriptedServer([script], nursery)
    return connect_websocket(
        url, max_message_bytes=MAX_MESSAGE_BYTES, open_stream=server.open_stream
    )


async def test_one_read_of_the_socket_is_one_run(nursery: trio.Nursery) -> None:
    """Messages that came together are given together, in order."""

    async def script(peer: Peer) -> None:
        await peer.socket.get_message()
        frames = b"".join(b"\x81\x02%02d" % number for number in range(50))
        await peer.stream.send_all(frames)
        await trio.sleep_forever()

    async with _connect(spoken(script), nursery) as connection:
        await connection.send("go")
        run = await connection.receive_run()
        assert run == [f"{number:02d}" for number in range(50)]


async def test_a_run_that_waits_already_is_given_whole(nursery: trio.Nursery) -> None:
    """What came while nobody read is one run, and a cancelled wait loses nothing."""

    async def script(peer: Peer) -> None:
        for word in ("one", "two"):
            await peer.socket.send_message(word)
        await peer.socket.send_message(b"\x00")
        await trio.sleep_forever()

    async with _connect(spoken(script), nursery) as connection:
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.receive_run()
        assert await connection.receive_run() == ["one", "two", b"\x00"]


async def test_what_came_before_the_end_is_given_before_the_end(
    nursery: trio.Nursery,
) -> None:
    """The close frame comes after the messages, and its code is told."""

    async def script(peer: Peer) -> None:
        await peer.socket.send_message("last")
        await peer.socket.aclose(4200, "Server closed\n")

    async with _connect(spoken(script), nursery) as connection:
        await wait_all_tasks_blocked()
        assert await connection.receive_run() == ["last"]
        for _ in range(2):
            with pytest.raises(ConnectionLostError) as caught:
                await connection.receive_run()
        assert caught.value.code == 4200
        assert "pusher.test:80" in str(caught.value)
        assert "'Server closed\\n'" in str(caught.value)
        with pytest.raises(ConnectionLostError):
            await connection.send("too late")


async def test_row_24_an_end_within_a_frame_delivers_no_part_of_it(
    nursery: trio.Nursery,
) -> None:
    """Half a message is none, and an end without close frame has no code."""

    async def script(peer: Peer) -> None:
        await peer.socket.send_message("whole")
        await peer.stream.send_all(b"\x81\x7e\x04\x00half of it")

    async with _connect(spoken(script), nursery) as connection:
        assert await connection.receive_run() == ["whole"]
        with pytest.raises(ConnectionLostError, match="broke") as caught:
            await connection.receive_run()
        assert caught.value.code is None


async def test_row_39_bad_utf8_ends_the_connection_with_1007(
    nursery: trio.Nursery,
) -> None:
    """The WebSocket standard forbids it; nothing but our error is raised."""

    async def script(peer: Peer) -> None:
        await peer.stream.send_all(b"\x81\x02\xff\xfe")
        await trio.sleep_forever()

    async with _connect(spoken(script), nursery) as connection:
        with pytest.raises(ConnectionLostError) as caught:
            await connection.receive_run()
        assert caught.value.code == 1007


@pytest.mark.parametrize("payload", ["ü" * 3, "abcdef"])
async def test_row_41_a_fragmented_message_arrives_whole(
    payload: str, nursery: trio.Nursery
) -> None:
    """Fragments make one message, also where each has half of a character."""
    raw = payload.encode()

    async def script(peer: Peer) -> None:
        await peer.stream.send_all(b"\x01\x03" + raw[:3] + b"\x89\x00")
        await peer.stream.send_all(b"\x80\x03" + raw[3:])
        await trio.sleep_forever()

    async with _connect(spoken(script), nursery) as connection:
        assert await connection.receive_run() == [payload]


async def test_row_41_a_message_in_very_many_fragments_arrives_whole(
    nursery: trio.Nursery,
) -> None:
    """Joining what came on the way loses and moves nothing, whatever its kind."""
    raw = "äö".encode() * 2500

    async def script(peer: Peer) -> None:
        for first in (b"\x01", b"\x02"):
            fragments = b"".join(b"\x00\x01%c" % byte for byte in raw[1:])
            await peer.stream.send_all(first + b"\x01" + raw[:1] + fragments)
            await peer.stream.send_all(b"\x80\x00")
        await trio.sleep_forever()

    async with _connect(spoken(script), nursery) as connection:
        received: list[str | bytes] = []
        while len(received) < 2:
            received += await connection.receive_run()
        assert received == [raw.decode(), raw]


async def test_row_13_empty_messages_are_bounded_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A message without characters is still one that waits, and counts as 64."""

    async def script(peer: Peer) -> None:
        await peer.stream.send_all(b"\x81\x00" * 20_000)
        await trio.sleep_forever()

    async with _connect(spoken(script), nursery) as connection:
        await trio.sleep(1)
        assert await connection.receive_run() == [""] * (2**20 // 64 + 1)


async def test_row_41_a_message_up_to_the_cap_passes(nursery: trio.Nursery) -> None:
    """Size alone is no trouble below the cap."""

    async def script(peer: Peer) -> None:
        await peer.socket.send_message("x" * MAX_MESSAGE_BYTES)
        await trio.sleep_forever()

    async with _connect(spoken(script), nursery) as connection:
        assert await connection.receive_run() == ["x" * MAX_MESSAGE_BYTES]


async def test_row_41_a_message_above_the_cap_is_a_typed_error(
    nursery: trio.Nursery,
) -> None:
    """It ends the connection with 1009, and nothing after it is delivered."""

    async def script(peer: Peer) -> None:
        await peer.socket.send_message("before")
        await peer.socket.send_message("x" * (MAX_MESSAGE_BYTES + 1))
        await peer.socket.send_message("after")
        await trio.sleep_forever()

    async with _connect(spoken(script), nursery) as connection:
        received: list[str | bytes] = []
        with pytest.raises(MessageTooLargeError, match="1000000") as caught:
            await _read_all(connection, received)
        assert caught.value.code == 1009
        assert received == ["before"]


async def test_row_11_a_websocket_ping_is_answered_without_a_reader(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """The answer goes out even while nobody takes messages."""
    ponged = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.socket.ping()
        ponged.set()

    async with _connect(spoken(script), nursery):
        with trio.fail_after(5):
            await ponged.wait()


async def test_row_13_a_reader_that_stands_still_bounds_what_waits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Beyond a MiB the socket is not read any further, and then all arrives."""
    read_on = trio.Event()

    async def script(peer: Peer) -> None:
        for number in range(100):
            await peer.socket.send_message(f"{number:0100000d}")
        await peer.socket.ping()
        read_on.set()
        await trio.sleep_forever()

    async with _connect(spoken(script), nursery) as connection:
        await trio.sleep(200)
        assert not read_on.is_set()
        received = await connection.receive_run()
        # Each counts its characters and some for being a message; one more waits.
        assert len(received) == 11
        while len(received) < 100:
            received += await connection.receive_run()
        assert received == [f"{number:0100000d}" for number in range(100)]
        with trio.fail_after(5):
            await read_on.wait()


async def test_errors_of_the_body_pass_as_they_are(nursery: trio.Nursery) -> None:
    """A lost connection is not wrapped in a group."""

    async def script(peer: Peer) -> None:
        await peer.close(4100)

    with pytest.raises(ConnectionLostError) as caught:
        async with _connect(spoken(script), nursery) as connection:
            await _read_all(connection, [])
    assert caught.value.code == 4100


@pytest.mark.parametrize("status", [101 + 300, 404, 503, 302])
async def test_row_07_an_http_answer_is_a_typed_error(
    nursery: trio.Nursery, status: int
) -> None:
    """The status is told, and an endless body is not waited for."""

    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        head = f"HTTP/1.1 {status} No\r\nLocation: /login\r\nContent-Length: 99\r\n\r\n"
        await stream.send_all(head.encode())
        await trio.sleep_forever()

    with pytest.raises(ConnectError, match=f"pusher.test:80.* {status}") as caught:
        async with _connect(script, nursery):
            pytest.fail("connected")
    assert caught.value.status == status
    assert ("redirect" in str(caught.value)) is (status == 302)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        _UPGRADED + b"\r\n",
        _UPGRADED + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
        _UPGRADED + b"Sec-WebSocket-Accept: \xff\r\n\r\n",
    ],
)
async def test_an_answer_that_is_no_upgrade_is_a_typed_error(
    nursery: trio.Nursery, answer: bytes
) -> None:
    """Another service on that port is named as what it isn't."""

    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await trio.sleep_forever()

    with pytest.raises(ConnectError, match="doesn't answer like a WebSocket server"):
        async with _connect(script, nursery):
            pytest.fail("connected")


async def test_an_end_during_the_upgrade_is_noticed_at_once(
    nursery: trio.Nursery,
) -> None:
    """It is not waited for until a deadline."""
    with pytest.raises(ConnectError, match="during the upgrade"):
        async with _connect(end_at_once, nursery):
            pytest.fail("connected")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://pusher.test", "pusher.test"),
        ("ws://pusher.test:6001/app/k?x=1", "pusher.test:6001"),
        ("ws://[::1]/app", "[::1]"),
        ("ws://[::1]:6001", "[::1]:6001"),
    ],
)
async def test_row_01_the_request_carries_host_path_and_user_agent(
    nursery: trio.Nursery, url: str, host: str
) -> None:
    """The upgrade asks for the whole path of the right host."""
    requests: list[bytes] = []

    async def script(stream: trio.abc.Stream) -> None:
        requests.append(bytes(await stream.receive_some()))

    with pytest.raises(ConnectError):
        async with _connect(script, nursery, url):
            pytest.fail("connected")
    head, *lines = requests[0].decode().split("\r\n")
    target = url.partition("//")[2].partition("/")[2]
    assert head == f"GET /{target} HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines if line)
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["host"] == host
    assert headers["user-agent"].startswith("dryapi-kafka-bridge/")
