"""The cable of `make soak`: what each of its faults does to a connection."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.chaos.cable import Cable


_SOON_SECONDS = 5.0
_MOMENT_SECONDS = 0.1


async def _echo(stream: trio.SocketStream) -> None:
    try:
        async for chunk in stream:
            await stream.send_all(chunk)
    except trio.BrokenResourceError:
        pass


@asynccontextmanager
async def _cable() -> AsyncIterator[tuple[Cable, trio.Nursery]]:
    """Lay a cable to a server that says what it hears."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, _echo, 0)
        port = listeners[0].socket.getsockname()[1]
        cable = Cable(f"ws://127.0.0.1:{port}")
        await nursery.start(cable.serve)
        with trio.fail_after(_SOON_SECONDS):
            yield cable, nursery
        nursery.cancel_scope.cancel()


async def _client(cable: Cable) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", int(cable.url.rpartition(":")[2]))


async def _said(client: trio.SocketStream, text: bytes) -> bytes:
    await client.send_all(text)
    return bytes(await client.receive_some())


async def test_a_healthy_cable_passes_everything_and_counts() -> None:
    """Bytes pass both ways, and each connection is counted when it comes."""
    async with _cable() as (cable, _):
        async with await _client(cable) as first, await _client(cable) as second:
            assert await _said(first, b"one") == b"one"
            assert await _said(second, b"two") == b"two"
        assert [time.time() - at < _SOON_SECONDS for at in cable.accepts] == [True] * 2


async def test_a_reset_is_an_error_and_no_end() -> None:
    """The client sees RST; a new connection works at once."""
    async with _cable() as (cable, _):
        async with await _client(cable) as client:
            await _said(client, b"one")
            cable.reset()
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
        async with await _client(cable) as client:
            assert await _said(client, b"two") == b"two"


async def test_a_lost_connection_is_open_and_dead() -> None:
    """What is sent is taken and nothing comes back; a new connection works."""
    async with _cable() as (cable, _), await _client(cable) as client:
        await _said(client, b"one")
        cable.lose()
        with trio.move_on_after(_MOMENT_SECONDS) as waited:
            await _said(client, b"two")
        assert waited.cancelled_caught
        async with await _client(cable) as another:
            assert await _said(another, b"three") == b"three"


async def test_what_is_stopped_up_comes_when_it_is_healed() -> None:
    """Old and new connections stand still, and lose nothing."""
    async with _cable() as (cable, _), await _client(cable) as client:
        cable.stop_up()
        async with await _client(cable) as another:
            await client.send_all(b"one")
            await another.send_all(b"two")
            with trio.move_on_after(_MOMENT_SECONDS) as waited:
                await client.receive_some()
            assert waited.cancelled_caught
            cable.heal()
            assert await client.receive_some() == b"one"
            assert await another.receive_some() == b"two"


async def test_a_slow_cable_takes_its_time_each_way() -> None:
    """An answer takes twice the delay, and order is kept."""
    async with _cable() as (cable, _), await _client(cable) as client:
        cable.delay_seconds = 0.05
        began = trio.current_time()
        await client.send_all(b"one")
        await trio.sleep(0.01)
        assert await _said(client, b"two") == b"one"
        assert trio.current_time() - began >= 0.1
        assert await client.receive_some() == b"two"


async def test_without_a_server_a_connection_is_reset() -> None:
    """The cable listens on; who comes is counted and turned away."""
    async with _cable() as (cable, nursery):
        cable._server_port = 1  # nobody listens there
        async with await _client(cable) as client:
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
        assert len(cable.accepts) == 1
        assert not nursery.cancel_scope.cancel_called
