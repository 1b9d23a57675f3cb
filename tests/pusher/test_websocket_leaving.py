"""How a connection is left, whoever else has gone or is deaf."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio

from bridge.errors import ConnectionLostError
from bridge.pusher.websocket import Connection, connect_websocket
from tests.kit.scripted import (
    MAX_MESSAGE_BYTES,
    Script,
    ScriptedServer,
    upgrade,
)


def _connect(
    script: Script, nursery: trio.Nursery, url: str = "ws://pusher.test/app/k?x=1"
) -> AbstractAsyncContextManager[Connection]:
    server = ScriptedServer([script], nursery)
    return connect_websocket(
        url, max_message_bytes=MAX_MESSAGE_BYTES, open_stream=server.open_stream
    )


async def test_leaving_a_dead_server_takes_a_second(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A close handshake that nobody answers is given up, cancelled or not."""

    async def deaf(stream: trio.abc.Stream) -> None:
        await upgrade(stream)
        await trio.sleep_forever()

    before = trio.current_time()
    async with _connect(deaf, nursery):
        pass
    assert trio.current_time() - before == pytest.approx(1)
    before = trio.current_time()
    with trio.CancelScope() as scope:
        async with _connect(deaf, nursery):
            scope.cancel()
            await trio.sleep_forever()
    assert trio.current_time() - before == pytest.approx(1)


async def test_leaving_an_aborted_connection_takes_no_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A connection that was given up is dropped."""

    async def deaf(stream: trio.abc.Stream) -> None:
        await upgrade(stream)
        await trio.sleep_forever()

    before = trio.current_time()
    async with _connect(deaf, nursery) as connection:
        connection.abort()
    assert trio.current_time() == before


async def test_a_ping_during_the_close_handshake_does_no_harm(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Wsproto refuses to answer it then; that is no error of anyone's."""

    async def script(stream: trio.abc.Stream) -> None:
        await upgrade(stream)
        await stream.receive_some()
        await stream.send_all(b"\x89\x00")
        await trio.sleep_forever()

    async with _connect(script, nursery) as connection:
        await connection.aclose()
        with pytest.raises(ConnectionLostError):
            await connection.receive_run()
