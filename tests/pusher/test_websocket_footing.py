"""What the WebSocket seam stands on: a release that moves it fails here."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket  # noqa: TID251 - what websocket.py stands on is looked at
from wsproto import ConnectionType, WSConnection

from bridge.pusher.websocket import connect_websocket
from tests.kit.scripted import MAX_MESSAGE_BYTES, Peer, ScriptedServer, spoken


async def test_trio_websocket_has_the_names_that_the_seam_stands_on() -> None:
    """A release that moves an internal name fails here, and says which."""
    client, server = trio.testing.memory_stream_pair()
    connection = trio_websocket.WebSocketConnection(
        client, WSConnection(ConnectionType.CLIENT), host="h", path="/"
    )
    assert isinstance(connection._send_channel, trio.MemorySendChannel)
    assert isinstance(connection._recv_channel, trio.MemoryReceiveChannel)
    assert isinstance(connection._open_handshake, trio.Event)
    assert isinstance(connection._close_handshake, trio.Event)
    for name in (
        "_reader_task",
        "_handle_accept_connection_event",
        "_handle_reject_connection_event",
        "_handle_message_event",
    ):
        assert inspect.iscoroutinefunction(getattr(connection, name)), name
    # The reader sends whole messages through the one and closes the other.
    reader = inspect.getsource(trio_websocket.WebSocketConnection)
    for code in (
        "self._message_parts.append(event.data)",
        "await self._send_channel.send(msg)",
        "async with self._send_channel",
        "await self._send_channel.aclose()",
        "await self._recv_channel.aclose()",
        "await self._close_handshake.wait()",
        "self._wsproto.receive_data(data)",
        "for event in self._wsproto.events():",
    ):
        assert code in reader, code
    connection._send_channel.close()
    connection._recv_channel.close()
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


async def test_whole_text_messages_come_without_trio_websockets_help(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its coroutine for each message is called for what `Frames` leaves to it alone."""
    handled: list[object] = []
    handle = trio_websocket.WebSocketConnection._handle_message_event

    async def look(self: trio_websocket.WebSocketConnection, event: Any) -> None:
        handled.append(event.data)
        await handle(self, event)

    monkeypatch.setattr(
        trio_websocket.WebSocketConnection, "_handle_message_event", look
    )

    async def script(peer: Peer) -> None:
        await peer.stream.send_all(b"\x81\x03one\x01\x01t\x80\x02wo\x81\x05three")
        await trio.sleep_forever()

    server = ScriptedServer([spoken(script)], nursery)
    async with connect_websocket(
        "ws://pusher.test",
        max_message_bytes=MAX_MESSAGE_BYTES,
        open_stream=server.open_stream,
    ) as connection:
        received: list[str | bytes] = []
        while len(received) < 3:
            received += await connection.receive_run()
        assert received == ["one", "two", "three"]
        assert handled == ["t", "wo"]
