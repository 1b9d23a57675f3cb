"""
An httpx transport that limits what a server sends before its response.

httpcore skips informational (1xx) responses without a limit. A server that repeats one
would keep a core busy for the whole timeout of a request.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpcore  # noqa: TID251 - this is the module that may
import httpx  # noqa: TID251 - this is the module that may
import trio


__all__ = ["BoundedTransport", "read_body"]

# The head of a response, with all 1xx responses before it. Real ones have some hundred
# bytes; 64 KiB of empty 1xx responses cost about a tenth of a second.
_MOST_HEAD_BYTES: Final = 64 * 1024

# Small, so that other tasks run while a hostile head is parsed.
_HEAD_READ_BYTES: Final = 4096

# On average. A chunk costs some 10 us however small it is.
_LEAST_CHUNK_BYTES: Final = 256

_ERRORS: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


class BoundedTransport(httpx.AsyncBaseTransport):
    """
    HTTP/1.1 on trio, without proxies; see above.

    Args:
        tls: The context of its TLS connections.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        # The limits are httpx's own defaults.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_Backend(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and wait for the head of its response, as httpx defines."""
        url = request.url
        with _httpx_errors(request):
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=url.raw_scheme,
                        host=url.raw_host,
                        port=url.port,
                        target=url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        stream = response.extensions["network_stream"]
        if isinstance(stream, _Stream):  # another one after 101 Switching Protocols
            stream.head_ended()
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response, request),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


async def read_body(response: httpx.Response, most_bytes: int) -> bytes | None:
    """
    Read a response's body as it is on the wire, unless it is too large.

    Args:
        response: A response of `httpx.AsyncClient.stream`.
        most_bytes: Reading stops once there are more.

    Returns:
        The body, or None if it has more, or very many small chunks.
    """
    body = bytearray()
    chunks = 0
    # Canceled instead of `break`: httpx nests generators, and those that are left
    # half-way are not closed.
    with trio.CancelScope() as reading:
        async for chunk in response.aiter_raw():
            body += chunk
            chunks += 1
            if len(body) > most_bytes or chunks > most_bytes // _LEAST_CHUNK_BYTES:
                reading.cancel()
    return None if reading.cancel_called else bytes(body)


class _Backend(httpcore.TrioBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(
            await super().connect_tcp(
                host, port, timeout, local_address, socket_options
            )
        )


class _Stream(httpcore.AsyncNetworkStream):
    """Counts what is read between a request and the end of its response's head."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        # None while a body is read.
        self._left: int | None = None

    def head_ended(self) -> None:
        """Leave what follows, the body, to whoever reads it."""
        self._left = None

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> bytes:
        if self._left is None:
            return await self._stream.read(max_bytes, timeout)
        if not self._left:
            raise httpcore.RemoteProtocolError(
                f"the server sent {_MOST_HEAD_BYTES} bytes of headers or informational"
                " (1xx) responses and no response"
            )
        most = min(max_bytes, self._left, _HEAD_READ_BYTES)
        data = await self._stream.read(most, timeout)
        self._left -= len(data)
        return data

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> None:
        self._left = _MOST_HEAD_BYTES
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(
            await self._stream.start_tls(ssl_context, server_hostname, timeout)
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Body(httpx.AsyncByteStream):
    """A response's body; closing it gives the connection back."""

    def __init__(self, response: httpcore.Response, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        stream = self._response.stream
        assert isinstance(stream, AsyncIterable)
        with _httpx_errors(self._request):
            async for chunk in stream:
                yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


@contextmanager
def _httpx_errors(request: httpx.Request) -> Iterator[None]:
    """Raise httpx's error for one of httpcore's; they have the same names."""
    try:
        yield
    except _ERRORS as error:
        kind = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise kind(str(error), request=request) from error
