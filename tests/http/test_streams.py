"""The byte stream under the WebSocket, on real sockets and with real TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest
import trio
import trio_websocket  # noqa: TID251 - what websocket.py stands on is looked at
import trustme

from bridge.errors import ConnectError, ConnectionLostError
from bridge.pusher.websocket import Connection, connect_websocket
from tests.kit.scripted import (
    MAX_MESSAGE_BYTES,
    upgrade,
)


Handler = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def _serving(handler: Handler) -> AsyncIterator[int]:
    """Serve on a free port of this machine, and give the port."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def _open(
    url: str, tls: ssl.SSLContext | None = None
) -> AbstractAsyncContextManager[Connection]:
    return connect_websocket(url, max_message_bytes=MAX_MESSAGE_BYTES, tls=tls)


async def _fails(url: str, match: str, tls: ssl.SSLContext | None = None) -> None:
    with pytest.raises(ConnectError, match=match):
        async with _open(url, tls):
            pytest.fail("connected")


async def test_a_name_that_is_none_is_named() -> None:
    """A label above 63 characters can't be looked up."""
    await _fails(f"ws://{'a' * 64}.test", "is no host name")


def _tls_handler(authority: trustme.CA, name: str) -> Handler:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    async def handler(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(
            stream, context, server_side=True, https_compatible=True
        )
        try:
            await secured.do_handshake()
            async with trio.open_nursery() as nursery:
                request = await trio_websocket.wrap_server_stream(nursery, secured)
                connection = await request.accept()
                await connection.send_message("secret hello")
                with pytest.raises(trio_websocket.ConnectionClosed):
                    await connection.get_message()
                nursery.cancel_scope.cancel()
        except trio.BrokenResourceError:
            # The client did not like the certificate.
            pass
        finally:
            await trio.aclose_forcefully(secured)

    return handler


async def test_tls_with_a_trusted_authority_works() -> None:
    """A private authority's certificate is enough when it is trusted."""
    authority = trustme.CA()
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    async with (
        _serving(_tls_handler(authority, "localhost")) as port,
        _open(f"wss://localhost:{port}", tls) as connection,
    ):
        assert await connection.receive_run() == ["secret hello"]


async def test_tls_with_an_unknown_authority_names_the_setting() -> None:
    """The error says where a private authority belongs."""
    async with _serving(_tls_handler(trustme.CA(), "localhost")) as port:
        await _fails(f"wss://localhost:{port}", "BRIDGE_PUSHER_CA_FILE")


async def test_tls_with_a_server_that_speaks_none_is_a_typed_error() -> None:
    """Plain text on the port is recognised."""

    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with _serving(handler) as port:
        await _fails(f"wss://127.0.0.1:{port}", f"no TLS with 127.0.0.1:{port}")


async def test_tls_with_a_server_that_hangs_up_is_a_typed_error() -> None:
    """An end within the handshake is named as such."""

    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with _serving(handler) as port:
        await _fails(f"wss://127.0.0.1:{port}", "during the TLS handshake")


async def test_row_24_a_reset_ends_the_connection_without_code() -> None:
    """A TCP reset of a real socket is an ordinary end."""

    async def reset(stream: trio.SocketStream) -> None:
        await upgrade(stream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()

    async with _serving(reset) as port:
        async with _open(f"ws://127.0.0.1:{port}") as connection:
            with pytest.raises(ConnectionLostError) as caught:
                await connection.receive_run()
        assert caught.value.code is None
