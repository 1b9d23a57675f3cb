"""Byte streams to a server, on real sockets and with real TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

import pytest
import trio
import trustme

from bridge.errors import ConnectError
from bridge.http.streams import open_stream


@asynccontextmanager
async def _serving(
    answer: bytes = b"", tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve TLS, or answer whatever comes with some bytes; give the address."""

    async def handle(stream: trio.SocketStream) -> None:
        if tls is None:
            await stream.receive_some()
            await stream.send_all(answer)
            return
        secured = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        # The client may not trust the certificate.
        with suppress(trio.BrokenResourceError):
            await secured.send_all(answer)

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, handle, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        yield f"wss://localhost:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def _tls_of(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_tls_with_a_trusted_authority_works() -> None:
    """A private authority's certificate is enough when it is trusted."""
    authority, trusting = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusting)
    async with _serving(b"secret", _tls_of(authority)) as url:
        stream = await open_stream(urlsplit(url), trusting)
        assert await stream.receive_some() == b"secret"
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    ("answer", "authority", "reason"),
    [
        (b"", trustme.CA(), "BRIDGE_PUSHER_CA_FILE"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", None, "no TLS with localhost:"),
        (b"", None, "localhost:.* ended the connection during the TLS handshake"),
    ],
)
async def test_a_failed_tls_handshake_is_a_typed_error(
    answer: bytes, authority: trustme.CA | None, reason: str
) -> None:
    """An unknown authority, a server without TLS, one that ends the connection."""
    tls = None if authority is None else _tls_of(authority)
    async with _serving(answer, tls) as url:
        with pytest.raises(ConnectError, match=reason):
            await open_stream(urlsplit(url))


async def test_what_is_not_a_host_name_is_named() -> None:
    """A label above 63 characters can't be looked up."""
    with pytest.raises(ConnectError, match="isn't a host name"):
        await open_stream(urlsplit(f"ws://{'a' * 64}.test"))
