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


_BODY = b'{"auth":"app-key:%s"}' % (b"0" * 64)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


@asynccontextmanager
async def _serving(
    authority: trustme.CA | None, answer: bytes = _ANSWER
) -> AsyncIterator[str]:
    """Answer whatever comes, over TLS if there is an authority; give the URL."""

    async def handle(stream: trio.abc.Stream) -> None:
        if authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost").configure_cert(context)
            stream = trio.SSLStream(
                stream, context, server_side=True, https_compatible=True
            )
        # The client may not trust the certificate.
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, handle, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        yield f"https://localhost:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.timeout(30)
async def test_a_replaced_ca_file_is_read_again(tmp_path: Path) -> None:
    """A file half written, missing or a FIFO leaves the previous CA in place."""
    old, new = trustme.CA(), trustme.CA()
    file = tmp_path / "authority.pem"
    old.cert_pem.write_to_path(file)
    context = client_tls(str(file))
    with structlog.testing.capture_logs() as lines:
        async with _serving(old) as old_url, _serving(new) as new_url:

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
            assert context.current() is context.current()
    assert [line["event"] for line in lines] == [
        *["credentials.invalid"] * 3,
        "credentials.renewed",
    ]
    assert "pusher.ca_file (BRIDGE_PUSHER_CA_FILE)" in lines[0]["error"]
    assert "is not a regular file" in lines[2]["error"]
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="is not a regular file"):
        client_tls(str(tmp_path / "fifo"))


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
    async with _serving(authority, answer) as url:
        with pytest.raises(ConnectError, match=reason):
            await open_stream(urlsplit(url))


async def test_what_is_not_a_host_name_is_named() -> None:
    """A label above 63 characters can't be looked up."""
    with pytest.raises(ConnectError, match="isn't a host name"):
        await open_stream(urlsplit(f"ws://{'a' * 64}.test"))
