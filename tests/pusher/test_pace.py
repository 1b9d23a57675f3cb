"""When a paced stream reads: at once while little comes, in turns while much does."""

from __future__ import annotations

import ssl

import pytest
import trio
import trustme
from trio.testing import memory_stream_pair

from bridge.pusher.pace import PacedStream


_Stream = trio.StapledStream[
    trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream
]

# As long as a packet may wait for others.
PACE_SECONDS = 0.003


@pytest.fixture
def ends() -> tuple[_Stream, PacedStream]:
    """A server's end, and the paced one."""
    server, client = memory_stream_pair()
    return server, PacedStream(client)


async def reads(stream: trio.abc.Stream, into: list[tuple[float, bytes]]) -> None:
    """Note each read with the time that has passed since the start."""
    began = trio.current_time()
    while received := await stream.receive_some():
        into.append((trio.current_time() - began, bytes(received)))


async def sent_at(
    ends: tuple[_Stream, PacedStream], packets: list[tuple[float, bytes]]
) -> list[tuple[float, bytes]]:
    """Send packets at their times; give what was read, and when, to the microsecond."""
    server, paced = ends
    read: list[tuple[float, bytes]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reads, paced, read)
        began = trio.current_time()
        for moment, packet in packets:
            await trio.sleep_until(began + moment)
            await server.send_all(packet)
            await trio.testing.wait_all_tasks_blocked()
        await server.send_eof()
    return [(round(moment, 6), data) for moment, data in read]


async def test_packets_that_come_alone_are_read_at_once(
    autojump_clock: trio.testing.MockClock, ends: tuple[_Stream, PacedStream]
) -> None:
    """Nobody knows of a next one, so nothing is waited for."""
    alone = [(round(0.01 * number, 6), b"%d" % number) for number in range(5)]

    assert await sent_at(ends, alone) == alone


async def test_packets_that_follow_each_other_are_read_together(
    autojump_clock: trio.testing.MockClock, ends: tuple[_Stream, PacedStream]
) -> None:
    """The first four show that it is a stream; from then on a read takes three."""
    stream = [(0.001 * number, b"%x" % number) for number in range(11)]

    assert await sent_at(ends, stream) == [
        (0.0, b"0"),
        (0.001, b"1"),
        (0.002, b"2"),
        (0.003, b"3"),
        (0.006, b"456"),
        (0.009, b"789"),
        (0.012, b"a"),
    ]


async def test_a_stream_that_has_paused_begins_at_once(
    autojump_clock: trio.testing.MockClock, ends: tuple[_Stream, PacedStream]
) -> None:
    """After a while without packets the next one is alone again."""
    stream = [(0.001 * number, b"%d" % number) for number in range(4)]
    packets = [*stream, (0.1, b"c"), (0.2, b"d")]

    assert await sent_at(ends, packets) == packets


async def test_a_flood_is_read_as_fast_as_it_comes(
    autojump_clock: trio.testing.MockClock, ends: tuple[_Stream, PacedStream]
) -> None:
    """A read that brought much was worth it: there is more already."""
    flood = [(round(0.0001 * number, 6), b"x" * 8192) for number in range(50)]

    assert await sent_at(ends, flood) == flood


async def test_a_cancelled_read_takes_nothing(
    autojump_clock: trio.testing.MockClock, ends: tuple[_Stream, PacedStream]
) -> None:
    """Whether it waits for its turn or for a packet."""
    server, paced = ends
    for packet in (b"1", b"2", b"3", b"4"):
        await server.send_all(packet)
        assert await paced.receive_some() == packet
    await server.send_all(b"c")
    with trio.move_on_after(PACE_SECONDS / 2) as turn:
        await paced.receive_some()
    assert turn.cancelled_caught
    assert await paced.receive_some() == b"c"
    with trio.move_on_after(1) as packet_wait:
        await paced.receive_some()
    assert packet_wait.cancelled_caught
    await server.send_all(b"d")
    assert await paced.receive_some() == b"d"


async def test_what_is_sent_waits_for_no_turn(
    autojump_clock: trio.testing.MockClock, ends: tuple[_Stream, PacedStream]
) -> None:
    """A pong goes out while the next read is waited for; closing closes the other."""
    server, paced = ends
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reads, paced, [])
        for packet in (b"1", b"2", b"3", b"4"):
            await server.send_all(packet)
            await trio.testing.wait_all_tasks_blocked()
        await paced.wait_send_all_might_not_block()
        await paced.send_all(b"pong")
        assert await server.receive_some() == b"pong"
        assert trio.current_time() == began
        nursery.cancel_scope.cancel()
    await paced.aclose()
    assert await server.receive_some() == b""


async def test_records_of_tls_that_came_together_are_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It stands below: a read above it gives one record, of which there may be many."""
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("pusher.test").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    server_end, client_end = memory_stream_pair()
    server = trio.SSLStream(server_end, server_context, server_side=True)
    client = trio.SSLStream(
        PacedStream(client_end), client_context, server_hostname="pusher.test"
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        await client.do_handshake()
    # The session tickets of TLS 1.3 are in the way until somebody reads.
    await server.send_all(b"first")
    assert await client.receive_some() == b"first"
    await trio.sleep(1)
    for number in range(100):
        await server.send_all(b"%3d" % number)
    began = trio.current_time()
    got = b""
    while len(got) < 300:
        got += await client.receive_some()
    assert got == b"".join(b"%3d" % number for number in range(100))
    assert trio.current_time() - began <= 2 * PACE_SECONDS
