"""Both clients of dryAPI against servers that send without an end, at the socket."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import repeat

import pytest
import trio

from bridge.errors import AuthorizationError
from bridge.http.client import ApiClient, Authorizer
from bridge.reconciliation.client import Outcome, StatusClient
from bridge.settings import Secret


Ask = Callable[[str], Awaitable[str]]

_EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


async def _signature(url: str) -> str:
    """Ask for a signature; give the error's message."""
    client = ApiClient(url, Secret("t"), timeout_seconds=10)
    authorizer = Authorizer(client, app_key="key")
    with pytest.raises(AuthorizationError) as caught:
        await authorizer.authorize("1.2", "private-client.7")
    assert not caught.value.terminal
    return str(caught.value)


async def _status(url: str) -> str:
    """Ask for a job's status; give the reason of the failure."""
    async with StatusClient(url, Secret("t"), timeout_seconds=10) as client:
        answer = await client.ask("job-1")
    assert answer.outcome is Outcome.FAILED
    return answer.reason


@pytest.mark.parametrize("ask", [_signature, _status])
@pytest.mark.parametrize(
    ("head", "endless", "words", "most_seconds"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", "informational (1xx) responses", 1),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", "no response", 1),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\n{\r\n",
            "too many chunks",
            3,
        ),
    ],
    ids=["103 responses", "headers", "chunks of a byte"],
)
async def test_an_endless_response_costs_little(
    nursery: trio.Nursery,
    *,
    ask: Ask,
    head: bytes,
    endless: bytes,
    words: str,
    most_seconds: float,
) -> None:
    """It fails long before the deadline of 10 s."""

    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await stream.receive_some()
                await stream.send_all(head)
                for part in repeat(endless * 1000):
                    await stream.send_all(part)
            except trio.BrokenResourceError:
                pass  # the client has closed the connection

    serve = partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
    (listener,) = await nursery.start(serve)
    began, cpu_began = trio.current_time(), time.process_time()
    reason = await ask(f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
    cpu_seconds = time.process_time() - cpu_began
    assert words in reason
    # Without a limit each takes all of the 10 s.
    assert cpu_seconds < most_seconds
    assert trio.current_time() - began < 2 * most_seconds


async def test_informational_responses_and_a_large_body_are_received(
    nursery: trio.Nursery,
) -> None:
    """The limit is for one response's head: not the body's, nor the connection's."""
    body = b'{"result":"' + b"x" * 300_000 + b'"}'
    connections = 0

    async def handler(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        async with stream:
            while await stream.receive_some():
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                await stream.send_all(_EARLY * 300 + head + body)

    serve = partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
    (listener,) = await nursery.start(serve)
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with StatusClient(url, Secret("t"), timeout_seconds=10) as client:
        for _ in range(5):
            answer = await client.ask("job-1")
            assert (answer.outcome, answer.body) == (Outcome.ANSWERED, body)
    assert connections == 1
