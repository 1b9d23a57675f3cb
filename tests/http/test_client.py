"""The client of dryAPI against hostile servers, at the socket."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import repeat

import pytest
import trio

from bridge.http.client import ApiClient, ApiError, Response
from bridge.settings import Secret
from tests.kit.answering import Server, response


_EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
_MAX_BYTES = 500_000


async def _serving(
    nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[object]]
) -> ApiClient:
    """Serve connections; return a client of that server."""
    serve = partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
    (listener,) = await nursery.start(serve)
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    return ApiClient(url, Secret("t"), timeout_seconds=10)


async def _asked(client: ApiClient) -> Response:
    return await client.request("jobs/1", max_bytes=_MAX_BYTES)


@pytest.mark.parametrize(
    ("head", "endless", "words"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", "informational (1xx) responses"),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", "no response"),
        # Chunks of a byte, and a body above the limit.
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", b"x" * 100, ""),
    ],
    ids=["103 responses", "headers", "chunks", "body"],
)
async def test_an_endless_response_costs_little(
    nursery: trio.Nursery, head: bytes, endless: bytes, words: str
) -> None:
    """It fails long before the deadline of 10 s; a body isn't read to its end."""

    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await stream.receive_some()
                await stream.send_all(head)
                for part in repeat(endless * 1000):
                    await stream.send_all(part)
            except trio.BrokenResourceError:
                pass  # the client has closed the connection

    client = await _serving(nursery, handler)
    began, cpu_began = trio.current_time(), time.process_time()
    if words:
        with pytest.raises(ApiError) as caught:
            await _asked(client)
        assert words in str(caught.value)
    else:
        assert (await _asked(client)).body is None
    # Without a limit each takes all of the 10 s.
    assert time.process_time() - cpu_began < 3
    assert trio.current_time() - began < 6
    nursery.cancel_scope.cancel()


async def test_limit_of_a_head_is_not_that_of_a_body(nursery: trio.Nursery) -> None:
    """Informational responses and a large body are received."""
    body = b'{"result":"' + b"x" * 300_000 + b'"}'
    server = await Server(_EARLY * 300 + response(200, body)).start(nursery)
    answer = await _asked(server.client())
    assert (answer.status, answer.body) == (200, body)
    nursery.cancel_scope.cancel()
