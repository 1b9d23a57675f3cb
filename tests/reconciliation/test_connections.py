"""The client's connections: which are opened, kept and closed, and what fails."""

from __future__ import annotations

import json
import ssl
from functools import partial

import pytest
import trio
import trustme

from bridge.reconciliation.client import Answer, Outcome, StatusClient
from bridge.settings import Secret
from tests.kit.process import free_ports


TOKEN = "token-8d1f"
BODY = json.dumps({"data": {"status": "done"}}).encode()


async def test_no_connection_is_a_failure() -> None:
    """The URL's user and password are not part of the reason."""
    port = free_ports(1)[0]
    url = f"http://user:word@127.0.0.1:{port}"
    async with StatusClient(url, Secret(TOKEN), timeout_seconds=10) as client:
        answer = await client.ask("job-1")
    assert answer.outcome is Outcome.FAILED
    assert f"http://127.0.0.1:{port}/api/v1" in answer.reason
    assert "word" not in answer.reason


class _Server:
    """A server that answers over TCP, and lets its connections open."""

    def __init__(self) -> None:
        self.connections = 0
        self.closed = 0
        self._news = trio.Event()
        self.may_answer = trio.Event()
        self.may_answer.set()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer each request of a connection."""
        self.connections += 1
        self._news.set()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
        async with stream:
            received = b""
            async for chunk in stream:
                received += chunk
                if received.endswith(b"\r\n\r\n"):
                    received = b""
                    await self.may_answer.wait()
                    await stream.send_all(head + BODY)
            self.closed += 1
            self._news.set()

    async def reach(self, connections: int, closed: int) -> None:
        """Wait until so many connections were opened, and so many closed."""
        with trio.fail_after(5):
            while (self.connections, self.closed) != (connections, closed):
                self._news = trio.Event()
                await self._news.wait()

    async def start(self, nursery: trio.Nursery) -> str:
        """Listen, and give the address."""
        serve = partial(trio.serve_tcp, self.serve, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        return f"http://127.0.0.1:{listener.socket.getsockname()[1]}"


async def test_connections_stay_open_while_the_client_is(
    nursery: trio.Nursery,
) -> None:
    """Calls share them, and leaving closes them."""
    server = _Server()
    url = await server.start(nursery)
    async with StatusClient(url, Secret(TOKEN), timeout_seconds=10) as client:
        for _ in range(3):
            assert (await client.ask("job-1")).outcome is Outcome.ANSWERED
        assert (server.connections, server.closed) == (1, 0)
    await server.reach(1, 1)


async def test_another_authority_gets_connections_of_its_own(
    nursery: trio.Nursery,
) -> None:
    """What is under way is finished, and its connection closed after that."""
    server = _Server()
    url = await server.start(nursery)
    contexts = [ssl.create_default_context()]
    answers: list[Answer] = []

    async def ask() -> None:
        answers.append(await client.ask("job-1"))

    client = StatusClient(
        url, Secret(TOKEN), timeout_seconds=10, tls=lambda: contexts[-1]
    )
    async with client:
        server.may_answer = trio.Event()
        async with trio.open_nursery() as asking:
            asking.start_soon(ask)
            await server.reach(1, 0)
            contexts.append(ssl.create_default_context())
            asking.start_soon(ask)
            await server.reach(2, 0)
            server.may_answer.set()
        assert [answer.outcome for answer in answers] == [Outcome.ANSWERED] * 2
        await server.reach(2, 1)
        await ask()
        assert (server.connections, server.closed) == (2, 1)


async def test_a_certificate_that_is_not_trusted_names_the_setting(
    nursery: trio.Nursery,
) -> None:
    """A private authority is the usual reason."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def handler(stream: trio.SSLStream[trio.SocketStream]) -> None:
        async with stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()

    serve = partial(
        trio.serve_ssl_over_tcp, handler, 0, ssl_context=context, host="127.0.0.1"
    )
    (listener,) = await nursery.start(serve)
    port = listener.transport_listener.socket.getsockname()[1]
    url = f"https://127.0.0.1:{port}"
    async with StatusClient(url, Secret(TOKEN), timeout_seconds=10) as client:
        answer = await client.ask("job-1")
    assert answer.outcome is Outcome.FAILED
    assert "BRIDGE_PUSHER_CA_FILE" in answer.reason


async def test_a_cancelled_request_leaves_the_client_usable(
    nursery: trio.Nursery,
) -> None:
    """Its connection is given up, and others are opened."""
    server = _Server()
    url = await server.start(nursery)
    server.may_answer = trio.Event()
    async with StatusClient(url, Secret(TOKEN), timeout_seconds=10) as client:
        for _ in range(3):
            with trio.move_on_after(0.05) as scope:
                await client.ask("job-1")
            assert scope.cancelled_caught
        server.may_answer.set()
        assert (await client.ask("job-1")).outcome is Outcome.ANSWERED
