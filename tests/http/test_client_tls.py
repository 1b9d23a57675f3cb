"""TLS to dryAPI: what is trusted, files that are replaced, handshakes that fail."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import structlog
import trio
import trustme

from bridge.errors import AuthorizationError, ConfigError, ConnectError
from bridge.http.client import ApiClient, Authorizer
from bridge.http.streams import open_stream
from bridge.http.tls import client_tls
from bridge.settings import Secret


_ANSWER = b'{"auth":"app-key:%s"}' % (b"0" * 64)


@asynccontextmanager
async def endpoint(authority: trustme.CA) -> AsyncIterator[str]:
    """An authorisation endpoint with a certificate of an authority; its base URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def handle(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.receive_some()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            length = b"Content-Length: %d\r\n\r\n" % len(_ANSWER)
            await stream.send_all(head + length + _ANSWER)
        except trio.BrokenResourceError:
            # The client did not like the certificate.
            pass
        finally:
            await trio.aclose_forcefully(stream)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        secured = trio.SSLListener(listener, context, https_compatible=True)
        nursery.start_soon(trio.serve_listeners, handle, [secured])
        yield f"https://localhost:{port}"
        nursery.cancel_scope.cancel()


@pytest.mark.timeout(30)
async def test_a_replaced_ca_file_is_read_again(
    tmp_path: Path,
) -> None:
    """A file half written, missing or a FIFO leaves the previous CA in place."""
    old, new = trustme.CA(), trustme.CA()
    file = tmp_path / "authority.pem"
    old.cert_pem.write_to_path(file)
    context = client_tls(str(file))
    with structlog.testing.capture_logs() as lines:
        async with endpoint(old) as old_url, endpoint(new) as new_url:

            async def ask(url: str) -> str:
                client = ApiClient(
                    url, Secret("a-token"), timeout_seconds=5, tls=context.current
                )
                authorizer = Authorizer(client, app_key="app-key")
                return await authorizer.authorize("1.2", "private-client.7")

            signature = await ask(old_url)
            with pytest.raises(AuthorizationError, match=r"pusher\.ca_file"):
                await ask(new_url)
            file.write_bytes(new.cert_pem.bytes()[:300])
            assert await ask(old_url) == signature
            file.unlink()
            assert await ask(old_url) == signature
            # Opening one waits for a writer, and the event loop with it.
            os.mkfifo(file)
            assert await ask(old_url) == signature
            file.unlink()
            new.cert_pem.write_to_path(file)
            assert await ask(new_url) == signature
            with pytest.raises(AuthorizationError, match=r"pusher\.ca_file"):
                await ask(old_url)
    assert [line["event"] for line in lines] == [
        *["credentials.invalid"] * 3,
        "credentials.renewed",
    ]
    assert "pusher.ca_file (BRIDGE_PUSHER_CA_FILE)" in lines[0]["error"]
    assert "is not a regular file" in lines[2]["error"]
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="is not a regular file"):
        client_tls(str(tmp_path / "fifo"))


def test_without_a_change_the_certificates_are_read_once(tmp_path: Path) -> None:
    """All connections share one context: the system's takes half a megabyte."""
    file = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(file)
    for context in (client_tls(str(file)), client_tls(None)):
        assert context.current() is context.current()


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
