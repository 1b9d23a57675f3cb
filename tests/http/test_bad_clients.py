"""Tests of what clients get that would keep a port busy for nothing."""

from __future__ import annotations

import pytest
import structlog
import trio

from bridge.http.server import Limits
from tests.http.clients import (
    BRIEF,
    GET,
    PATIENCE_SECONDS,
    POST,
    asked,
    connected,
    descriptors,
    said,
    served,
    trickle,
    until_end,
)


def _work(seconds: float) -> bytes:
    path = f"/work/{seconds}".encode()
    return GET.replace(b"/", path, 1)[:-2] + b"Connection: close\r\n\r\n"


_CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


async def _ends(
    port: int, attacks: dict[str, tuple[bytes, bytes]]
) -> dict[str, tuple[bytes, float]]:
    """Send each beginning, then its piece again and again; return how they ended."""
    ends = {}

    async def attack(name: str, first: bytes, piece: bytes) -> None:
        begun = trio.current_time()
        stream = await connected(port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle, stream, first, piece)
            answer, _ = await until_end(stream)
            ends[name] = answer, trio.current_time() - begun
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        for name, (first, piece) in attacks.items():
            nursery.start_soon(attack, name, first, piece)
    return ends


async def test_head_that_never_comes_ends_the_connection() -> None:
    """The deadline is one of the whole head, whatever trickles in."""
    attacks = {
        "silent": (b"", b""),
        "headers": (b"GET / HTTP/1.1\r\n", b"A: b\r\n"),
        "a header": (b"GET / HTTP/1.1\r\nA: ", b"b"),
        "method": (b"", b"G"),
    }
    async with served(BRIEF) as port:
        ends = await _ends(port, attacks)
    assert len(ends) == len(attacks)
    for answer, seconds in ends.values():
        assert 0 <= seconds - BRIEF.phase_seconds < PATIENCE_SECONDS
        assert answer == b""


async def test_body_that_never_ends_is_refused() -> None:
    """The deadline is one of the whole body; 408 says what was wrong."""
    asks = POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    attacks = {
        "silent": (POST + b"Content-Length: 100000\r\n\r\n", b""),
        "bytes": (POST + b"Content-Length: 100000\r\n\r\n", b"a"),
        "chunks": (_CHUNKED, b"1\r\na\r\n"),
        "a chunk's head": (_CHUNKED + b"5;", b"x"),
        "100-continue": (asks, b""),
    }
    with structlog.testing.capture_logs() as logs:
        async with served(BRIEF) as port:
            ends = await _ends(port, attacks)
    # A bad client isn't a bug.
    assert [line["event"] for line in logs] == ["port.listening"]
    for answer, seconds in ends.values():
        assert b"HTTP/1.1 408 " in answer
        assert b"connection: close" in answer.lower()
        assert 0 <= seconds - BRIEF.phase_seconds < PATIENCE_SECONDS


@pytest.mark.parametrize("reads", [False, True], ids=["not at all", "trickling"])
async def test_answer_that_is_not_read_ends_the_connection(
    reads: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A client that takes nothing, or too little, keeps no answer in memory."""
    async with served(BRIEF) as port:
        before = descriptors()
        stream = await connected(port)
        await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: here\r\n\r\n")
        begun = trio.current_time()
        while trio.current_time() < begun + BRIEF.phase_seconds + 0.2:
            await trio.sleep(0.05)
            if reads:
                await stream.receive_some(100)
        with trio.fail_after(PATIENCE_SECONDS):
            # The port's end is gone, though the kernel still has bytes for the client.
            while descriptors() > before + 1:  # noqa: ASYNC110 - no event for it
                await trio.sleep(0.02)
        await stream.aclose()


_MAX_BODY_BYTES = 100_000

# What isn't HTTP, requests of which two servers may disagree where they end, and those
# of which anything is too large.
_REFUSED: list[tuple[bytes, int]] = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 404),
    (b"GET /\r\n\r\n", 400),
    (b"\r\n" * 10, 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (_CHUNKED + b"xyz\r\n", 400),
    (GET[:-2] + b"A\x00: b\r\n\r\n", 400),
    (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n0\r\n\r\n", 400),
    (POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nfive!", 400),
    (POST + b"Content-Length: +5\r\n\r\nfive!", 400),
    (POST + b"Content-Length : 5\r\n\r\nfive!", 400),
    (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 501),
    (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
    (_CHUNKED + b"5\nfive!\n0\n\n", 400),
    (_CHUNKED + b"0x5\r\nfive!\r\n0\r\n\r\n", 400),
    # As soon as it is too large, whatever would follow.
    (GET[:-2] + b"A: " + b"b" * 24 * 1024, 431),
    (_CHUNKED + b"0\r\nA: " + b"b" * 200_000, 431),
    (POST + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000, 413),
    (_CHUNKED + b"493e0\r\n" + b"x" * 300_000, 413),
    # Chunks of a byte cost the loop more than they cost their sender.
    (_CHUNKED + b"1\r\na\r\n" * 5000, 413),
]


async def test_bad_request_is_refused(subtests: pytest.Subtests) -> None:
    """One refusal and the end: what follows on the connection isn't a request."""
    async with served(Limits(max_body_bytes=_MAX_BODY_BYTES)) as port:
        for sent, status in _REFUSED:
            with subtests.test(sent=sent[:99]):
                with trio.fail_after(PATIENCE_SECONDS):
                    answer = await said(port, sent + GET)
                # HTTP/2 asks for `*`, which isn't there.
                assert answer.count(b"HTTP/1.1 ") == 1
                assert answer.startswith(b"HTTP/1.1 %d " % status)
                assert b"connection: close" in answer.lower()


async def test_answer_without_an_end_lasts_while_it_is_read() -> None:
    """The time of an answer is that of a piece: all together take longer."""
    async with served(BRIEF) as port, await connected(port) as stream:
        await stream.send_all(GET.replace(b"/", b"/last/10", 1))
        begun = trio.current_time()
        while trio.current_time() < begun + 3 * BRIEF.phase_seconds:
            with trio.fail_after(PATIENCE_SECONDS):
                assert await stream.receive_some(65536)


@pytest.mark.parametrize("protocol", [b"h2c\r\nHTTP2-Settings: ", b"websocket"])
async def test_nothing_is_upgraded(protocol: bytes) -> None:
    """A request for another protocol is answered like any other."""
    asks = b"Connection: close, upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
    async with served() as port:
        answer = await said(port, GET[:-2] + asks)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n0")


async def test_second_request_is_thrown_away() -> None:
    """A connection ends with its answer, so none is kept by cheap requests."""
    async with served() as port:
        stream = await connected(port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle, stream, GET * 2000, GET * 100)
            answer, _ = await until_end(stream)
            await stream.aclose()
        assert answer.count(b"HTTP/1.1 200 ") == 1
        assert answer.lower().count(b"connection: close") == 1


async def test_nothing_is_read_ahead() -> None:
    """While a request is worked on what follows stays with its sender."""
    async with served() as port, await connected(port) as stream:
        sent = 0
        await stream.send_all(GET.replace(b"/", b"/work/2", 1))
        with trio.move_on_after(0.2) as scope:
            while True:
                await stream.send_all(GET * 1000)
                sent += 1
        assert scope.cancelled_caught
        # The kernel's buffers of both ends take some megabytes.
        assert sent * 1000 * len(GET) < 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("idle", "limit"),
    [(60, 10), pytest.param(1000, 100, marks=pytest.mark.slow)],
)
async def test_idle_connections_do_not_starve_a_good_client(
    idle: int, limit: int
) -> None:
    """All who came before it have their `crowded_seconds`, no longer."""
    # All other deadlines are far away.
    limits = Limits(max_connections=limit, crowded_seconds=0.1)
    before = descriptors()
    with structlog.testing.capture_logs() as logs:
        async with served(limits) as port:
            streams = [await connected(port) for _ in range(idle)]
            begun = trio.current_time()
            assert await asked(port, seconds=30) == "5"
            turns = idle / limits.max_connections
            assert trio.current_time() - begun < turns * 0.1 + PATIENCE_SECONDS
            # One end of each, and the port's of those that have a slot.
            assert descriptors() <= before + idle + limits.max_connections + 8
            for stream in streams:
                await stream.aclose()
    assert descriptors() <= before + 1
    # The log's own folding counts them.
    assert {line["event"] for line in logs} == {"port.listening", "port.crowded"}
    assert {line["setting"] for line in logs} == {"webhook.listen"}


async def test_whoever_keeps_the_port_waiting_makes_room() -> None:
    """Wherever bad clients stand still, a good one gets its place before long."""
    firsts = {
        "silent": b"",
        "in its head": b"GET / HTTP/1.1\r\n",
        "in its body": POST + b"Content-Length: 9\r\n\r\n",
        "answered": GET,
        "not reading": GET.replace(b"/", b"/flood", 1),
    }
    # All other deadlines are far away.
    limits = Limits(max_connections=len(firsts), crowded_seconds=0.2)
    async with served(limits) as port:
        bad = [await connected(port) for _ in firsts]
        for stream, first in zip(bad, firsts.values(), strict=True):
            await stream.send_all(first)
        await trio.sleep(0.05)
        # As many good ones as there are places, each of which keeps one in its turn.
        async with trio.open_nursery() as nursery:
            begun = trio.current_time()
            for _ in firsts:
                nursery.start_soon(_asked_and_stayed, port)
        assert trio.current_time() - begun < 0.2 + PATIENCE_SECONDS
        for stream in bad:
            await stream.aclose()


async def _asked_and_stayed(port: int) -> None:
    stream = await connected(port)
    await stream.send_all(GET)
    assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 200 ")
    await trio.sleep(0.1)
    await stream.aclose()


async def test_request_under_way_keeps_its_place() -> None:
    """The application's time is not the client's: no client is disconnected for it."""
    limits = Limits(max_connections=1, crowded_seconds=0.1)
    async with served(limits) as port, trio.open_nursery() as nursery:
        answers: list[bytes] = []

        async def work() -> None:
            answers.append(await said(port, _work(0.4)))

        nursery.start_soon(work)
        await trio.sleep(0.1)
        assert await asked(port) == "5"
        assert answers[0].endswith(b"done")
