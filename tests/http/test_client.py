"""The client of dryAPI at the socket: hostile servers, and TLS."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import structlog
import trio
import trustme

from bridge.errors import AuthorizationError, ConfigError, ConnectError
from bridge.http.client import ApiClient, ApiError, Response
from bridge.http.streams import open_stream
from bridge.http.tls import client_tls
from bridge.pusher.authorizer import authorize
from bridge.settings import Secret
from tests.kit.answering import Server, response


_EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
_MAX_BYTES = 500_000


async def _serving(
    nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[object]]
) -> ApiClient:
    """Serve connections; return a client of that server."""
    serve = partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
    (listener,) = await nursery.start(serve)
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    return ApiClient(url, Secret("t"), timeout_seconds=10)


async def _asked(client: ApiClient) -> Response:
    return await client.request("jobs/1", max_bytes=_MAX_BYTES)


@pytest.mark.parametrize(
    ("head", "endless", "words"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", "informational (1xx) responses"),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", "no response"),
        # Chunks of a byte, and a body above the limit.
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", b"x" * 100, ""),
    ],
    ids=["103 responses", "headers", "chunks", "body"],
)
async def test_an_endless_response_costs_little(
    nursery: trio.Nursery, head: bytes, endless: bytes, words: str
) -> None:
    """It fails long before the deadline of 10 s; a body isn't read to its end."""

    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await stream.receive_some()
                await stream.send_all(head)
                for part in repeat(endless * 1000):
                    await stream.send_all(part)
            except trio.BrokenResourceError:
                pass  # the client has closed the connection

    client = await _serving(nursery, handler)
    began, cpu_began = trio.current_time(), time.process_time()
    if words:
        with pytest.raises(ApiError) as caught:
            await _asked(client)
        assert words in str(caught.value)
    else:
        assert (await _asked(client)).body is None
    # Without a limit each takes all of the 10 s.
    assert time.process_time() - cpu_began < 3
    assert trio.current_time() - began < 6
    nursery.cancel_scope.cancel()


async def test_limit_of_a_head_is_not_that_of_a_body(nursery: trio.Nursery) -> None:
    """Informational responses and a large body are received."""
    body = b'{"result":"' + b"x" * 300_000 + b'"}'
    server = await Server(_EARLY * 300 + response(200, body)).start(nursery)
    answer = await _asked(server.client())
    assert (answer.status, answer.body) == (200, body)
    nursery.cancel_scope.cancel()


_BODY = b'{"auth":"app-key:%s"}' % (b"0" * 64)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


@asynccontextmanager
async def _serving_tls(
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
        async with _serving_tls(old) as old_url, _serving_tls(new) as new_url:

            async def ask(url: str) -> str:
                client = ApiClient(
                    url, Secret("a-token"), timeout_seconds=5, tls=context.current
                )
                return await authorize(client, "app-key", "1.2", "private-client.7")

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
    async with _serving_tls(authority, answer) as url:
        with pytest.raises(ConnectError, match=reason):
            await open_stream(urlsplit(url))


async def test_what_is_not_a_host_name_is_named() -> None:
    """A label above 63 characters can't be looked up."""
    with pytest.raises(ConnectError, match="isn't a host name"):
        await open_stream(urlsplit(f"ws://{'a' * 64}.test"))
