"""What each fault of the proxy does to a connection.

Held requests are tried by e2e/test_late_write.py, dropped messages by test_gaps.py.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import trio

from tests.kit.proxy import FaultProxy


_DEADLINE_SECONDS = 20.0
_MOMENT_SECONDS = 0.1


async def _echo(stream: trio.SocketStream) -> None:
    try:
        async for chunk in stream:
            await stream.send_all(chunk)
    except trio.BrokenResourceError:
        pass


@pytest.fixture
async def proxy(nursery: trio.Nursery) -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server that sends back what it receives."""
    listeners = await nursery.start(trio.serve_tcp, _echo, 0)
    port = listeners[0].socket.getsockname()[1]
    made = FaultProxy(f"127.0.0.1:{port}")
    await nursery.start(made.serve)
    with trio.fail_after(_DEADLINE_SECONDS):
        yield made


async def _connect(proxy: FaultProxy) -> trio.SocketStream:
    host, _, port = proxy.address.partition(":")
    return await trio.open_tcp_stream(host, int(port))


async def _echoed(client: trio.SocketStream, text: bytes) -> bytes:
    await client.send_all(text)
    return bytes(await client.receive_some())


async def _is_silent(client: trio.SocketStream) -> bool:
    with trio.move_on_after(_MOMENT_SECONDS):
        await client.receive_some()
        return False
    return True


async def _is_reset(client: trio.SocketStream) -> bool:
    try:
        await client.receive_some()
    except trio.BrokenResourceError:
        return True
    return False


async def test_connections_end_as_ordered_and_new_ones_work(proxy: FaultProxy) -> None:
    """A reset is an error, a cut an end, and a lost connection is open and dead."""
    async with await _connect(proxy) as client:
        assert await _echoed(client, b"one") == b"one"
        proxy.reset()
        assert await _is_reset(client)
    async with await _connect(proxy) as client:
        assert await _echoed(client, b"two") == b"two"
        proxy.cut()
        assert await client.receive_some() == b""
    async with await _connect(proxy) as client:
        assert await _echoed(client, b"three") == b"three"
        proxy.lose()
        await client.send_all(b"four")
        assert await _is_silent(client)
        async with await _connect(proxy) as another:
            assert await _echoed(another, b"five") == b"five"
    assert len(proxy.accepts) == 4
    assert all(time.time() - at < _DEADLINE_SECONDS for at in proxy.accepts)


async def test_what_hangs_arrives_when_it_is_resumed(proxy: FaultProxy) -> None:
    """Old and new connections hang, and lose nothing."""
    async with await _connect(proxy) as client:
        proxy.hang()
        async with await _connect(proxy) as another:
            await client.send_all(b"one")
            await another.send_all(b"two")
            assert await _is_silent(client)
            proxy.resume()
            assert await client.receive_some() == b"one"
            assert await another.receive_some() == b"two"
