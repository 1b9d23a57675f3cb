"""The WebSocket seam, on memory streams."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from itertools import pairwise

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from bridge.errors import ConnectError, ConnectionLostError
from bridge.pusher.websocket import Message, WebSocket, open_websocket
from tests.kit.scripted import (
    MAX_MESSAGE_BYTES,
    Peer,
    Script,
    ScriptedServer,
    spoken,
    upgrade,
)


_UPGRADED = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"


class Reads(list[list[Message]]):
    """What each read delivered."""

    def __call__(self, messages: Sequence[Message]) -> bool:
        """Take a read."""
        self.append(list(messages))
        return True

    @property
    def messages(self) -> list[Message]:
        """All messages."""
        return [message for read in self for message in read]


def _open(
    script: Script,
    nursery: trio.Nursery,
    reads: Reads | None = None,
    url: str = "ws://pusher.test/app/k?x=1",
) -> AbstractAsyncContextManager[WebSocket]:
    server = ScriptedServer([script], nursery)
    return open_websocket(
        url,
        Reads() if reads is None else reads,
        max_message_bytes=MAX_MESSAGE_BYTES,
        open_tcp=server.open_stream,
    )


async def _read(script: Script, nursery: trio.Nursery) -> tuple[Reads, Exception]:
    """Read until the server ends the connection."""
    reads = Reads()
    with pytest.raises(ConnectionLostError) as caught:
        async with _open(script, nursery, reads):
            await trio.sleep_forever()
    return reads, caught.value


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(b"\x8a\x00", id="pongs"),
        pytest.param(b"\x89\x00", id="pings"),
        pytest.param(b"\x00\x00", id="fragments"),
    ],
)
async def test_row_39_a_flood_of_empty_frames_ends_the_connection(
    frames: bytes, nursery: trio.Nursery
) -> None:
    """Other tasks run meanwhile, and it costs a second of CPU at most."""

    async def script(stream: trio.abc.Stream) -> None:
        await upgrade(stream)
        await stream.send_all(b"\x01\x00")
        while True:
            await stream.send_all(frames * 50_000)

    late_seconds: list[float] = []

    async def beat() -> None:
        while True:
            before = time.thread_time()
            await trio.lowlevel.checkpoint()
            late_seconds.append(time.thread_time() - before)

    async with trio.open_nursery() as beating:
        beating.start_soon(beat)
        before = time.thread_time()
        _, error = await _read(_ignoring_ends(script), nursery)
        beating.cancel_scope.cancel()
    assert "more than 4096 control frames or fragments in a row" in str(error)
    assert max(late_seconds) < 0.5
    assert time.thread_time() - before < 5


def _ignoring_ends(script: Script) -> Script:
    async def run(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError):
            await script(stream)

    return run


async def test_row_13_nothing_is_read_under_backpressure(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Much waits until it may be written; a little is delivered at once."""
    calls: list[tuple[float, int]] = []
    reads = Reads()

    async def backpressure() -> None:
        calls.append((trio.current_time(), len(reads)))
        await trio.sleep(1)

    async def script(peer: Peer) -> None:
        await peer.socket.send_message("light")
        await trio.sleep_until(5)
        await peer.socket.send_message("x" * 3000)
        await trio.sleep_forever()

    server = ScriptedServer([spoken(script)], nursery)
    async with open_websocket(
        "ws://pusher.test",
        reads,
        backpressure,
        max_message_bytes=MAX_MESSAGE_BYTES,
        open_tcp=server.open_stream,
    ):
        await trio.sleep(10)
    assert calls == [(0, 1), (5, 1), (6, 2)]


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        *(
            (
                b"HTTP/1.1 %d No\r\nLocation: /l\r\nContent-Length: 99\r\n\r\n"
                % status,
                status,
                rf"pusher.test:80.* {status}",
            )
            for status in (401, 404, 503)
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", 302, "302.*redirect"),
        # Another service on that port.
        *(
            (answer, None, "doesn't answer like a WebSocket server")
            for answer in (
                b"SSH-2.0-OpenSSH\r\n\r\n",
                b"\x00\x01\x02\x03\r\n\r\n",
                _UPGRADED + b"\r\n",
                _UPGRADED + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
                _UPGRADED + b"Sec-WebSocket-Accept: \xff\r\n\r\n",
                _UPGRADED + b"X: x\r\n" * 20_000,
            )
        ),
    ],
)
async def test_row_07_an_answer_that_is_no_upgrade_is_a_typed_error(
    nursery: trio.Nursery, answer: bytes, status: int | None, words: str
) -> None:
    """Its status is reported, and an endless body is not waited for."""

    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await trio.sleep_forever()

    with pytest.raises(ConnectError, match=words) as caught:
        async with _open(_ignoring_ends(script), nursery):
            pytest.fail("connected")
    assert caught.value.status == status


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
        async with _open(script, nursery, url=url):
            pytest.fail("connected")
    lines = requests[0].decode().lower().split("\r\n")
    target = url.partition("//")[2].partition("/")[2]
    assert lines[0] == f"get /{target} http/1.1"
    assert f"host: {host}" in lines
    assert any(line.startswith("user-agent: dryapi-kafka-bridge/") for line in lines)


async def _deaf(stream: trio.abc.Stream) -> None:
    await upgrade(stream)
    await trio.sleep_forever()


async def test_leaving_a_dead_server_takes_a_second(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """An unanswered close handshake is abandoned; after an abort there is none."""
    async with _open(_deaf, nursery):
        pass
    assert trio.current_time() == pytest.approx(1)
    with trio.CancelScope() as scope:
        async with _open(_deaf, nursery):
            scope.cancel()
            await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(2)
    async with _open(_deaf, nursery) as websocket:
        websocket.abort()
    assert trio.current_time() == pytest.approx(2)


@pytest.mark.parametrize("linger_seconds", [0.0, 0.005])
async def test_packets_that_follow_one_another_are_read_a_linger_apart(
    nursery: trio.Nursery, autojump_clock: MockClock, linger_seconds: float
) -> None:
    """What comes when all is idle is read at once, and nothing waits with 0."""
    sent: list[float] = []
    read: list[tuple[float, int]] = []

    async def script(peer: Peer) -> None:
        for pause in (1.0, *[0.001] * 20, 1.0):
            await trio.sleep(pause)
            sent.append(trio.current_time())
            await peer.stream.send_all(b"\x81\x05event")
        await trio.sleep_forever()

    def receive(messages: Sequence[Message]) -> bool:
        read.append((trio.current_time(), len(messages)))
        return True

    server = ScriptedServer([spoken(script)], nursery)
    async with open_websocket(
        "ws://pusher.test",
        receive,
        max_message_bytes=MAX_MESSAGE_BYTES,
        linger_seconds=linger_seconds,
        open_tcp=server.open_stream,
    ):
        await trio.sleep(3)
    assert sum(count for _, count in read) == len(sent) == 22
    moments = [at for at, _ in read]
    if not linger_seconds:
        assert moments == pytest.approx(sent)
        return
    assert [moments[0], moments[-1]] == pytest.approx([sent[0], sent[-1]])
    stream = moments[1:-1]
    apart = [after - before for before, after in pairwise(stream)]
    assert min(apart) >= linger_seconds * 0.999
    assert len(stream) <= 6
    # None waits for longer than a linger.
    assert stream[-1] - sent[-2] <= linger_seconds
