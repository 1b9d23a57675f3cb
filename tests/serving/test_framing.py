"""Tests of requests of which two servers may disagree where they end."""

from __future__ import annotations

import pytest

from tests.serving.clients import GET, POST, connected, served, until_end


_END = b"0\r\n\r\n"

# What is refused, and with what.
_AMBIGUOUS = {
    "length, then chunks": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + _END,
        400,
    ),
    "chunks, then length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n" + _END,
        400,
    ),
    "two lengths": (
        POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nfive!",
        400,
    ),
    "a length of its own kind": (POST + b"Content-Length: +5\r\n\r\nfive!", 400),
    "a space before the colon": (POST + b"Content-Length : 5\r\n\r\nfive!", 400),
    "chunks in chunks": (
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + _END,
        501,
    ),
    "chunks of another kind": (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
    "chunks' lines without a return": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\nfive!\n0\n\n",
        400,
    ),
    "a chunk's size of its own kind": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nfive!\r\n" + _END,
        400,
    ),
}


async def test_request_that_ends_in_two_places_is_the_last(
    subtests: pytest.Subtests,
) -> None:
    """It is refused, and what follows on the connection is no request."""
    for sent, status in _AMBIGUOUS.values():
        with subtests.test(sent=sent, status=status):
            async with served() as port:
                stream = await connected(port)
                await stream.send_all(sent + GET)
                answer, _ = await until_end(stream)
                await stream.aclose()
            assert answer.count(b"HTTP/1.1 ") == 1
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert b"connection: close\r\n" in answer
