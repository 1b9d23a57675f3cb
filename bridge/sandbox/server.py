"""
The sandbox's one port: accepting, and telling WebSockets from other requests.

The only place of the sandbox that speaks hypercorn. What begins with
`GET /app/` goes to the WebSocket endpoint on the bare stream, because soketi's
habits (no compression, silent drops, ends without close frame) need that; all
else goes through hypercorn to the application. Routes stand in `application`.
"""

from __future__ import annotations

import errno
import logging
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, Framework
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from bridge.sandbox.config import split_address
from bridge.sandbox.endpoint import Endpoint
from bridge.sandbox.errors import SandboxError


__all__ = ["Server", "open_listeners"]

# How long a client may take to say what it wants, and how long that may be.
_REQUEST_LINE_SECONDS = 10.0
_MAX_REQUEST_LINE_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024
# Clients that keep a connection for the next request: longer than most wait.
_KEEP_ALIVE_SECONDS = 75.0


async def open_listeners(listen: str) -> list[trio.SocketListener]:
    """
    Bind the port.

    Args:
        listen: `host:port`; port 0 takes a free one.

    Returns:
        The listeners, one per address of the host.

    Raises:
        SandboxError: It can't be bound; the message says why.
    """
    host, port = split_address(listen)
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SandboxError(
                f"{listen} is in use: stop what listens there, or choose another"
                " port with --listen"
            ) from error
        raise SandboxError(f"can't listen on {listen}: {error}") from error


class Server:
    """
    Accepts connections and serves them until cancelled or stopped.

    Args:
        application: What answers plain requests.
        endpoint: What serves `/app/{key}`; None leaves it to the application.
    """

    def __init__(self, application: ASGIApp, endpoint: Endpoint | None) -> None:
        config = Config()
        config.accesslog = None
        config.errorlog = logging.getLogger("hypercorn.error")
        config.keep_alive_timeout = _KEEP_ALIVE_SECONDS
        config.include_server_header = False
        config.include_date_header = False  # `Answers` has it
        self._config = config
        # Two libraries' words for the same ASGI callable.
        framework = cast("Framework", application)
        self._application = wrap_app(framework, config.wsgi_max_body_size, "asgi")
        self._endpoint = endpoint
        self._context = WorkerContext(None)
        self._streams: set[trio.SocketStream] = set()

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serve until cancelled; then every connection ends at once."""
        async with trio.open_nursery() as nursery:
            try:
                await trio.serve_listeners(
                    self._handle, listeners, handler_nursery=nursery
                )
            finally:
                # hypercorn shields its writes from cancellation: only an end of
                # the socket gets it away from a client that doesn't read.
                for stream in self._streams:
                    stream.socket.close()

    async def _handle(self, stream: trio.SocketStream) -> None:
        self._streams.add(stream)
        try:
            head = await _read_request_line(stream)
            if head is None:
                return
            if self._endpoint is not None and head.startswith(b"GET /app/"):
                await self._endpoint.serve(stream, head)
            else:
                replayed = cast("trio.SSLStream[Any]", _ReplayedStream(stream, head))
                await TCPServer(
                    self._application,
                    self._config,
                    self._context,
                    ConnectionState({}),
                    replayed,
                ).run()
        finally:
            self._streams.discard(stream)
            await trio.aclose_forcefully(stream)


async def _read_request_line(stream: trio.SocketStream) -> bytes | None:
    head = bytearray()
    with trio.move_on_after(_REQUEST_LINE_SECONDS):
        try:
            while b"\n" not in head and len(head) < _MAX_REQUEST_LINE_BYTES:
                data = await stream.receive_some(_READ_BYTES)
                if not data:
                    return None
                head += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return None
        return bytes(head)
    return None


class _ReplayedStream(trio.abc.HalfCloseableStream):
    # A stream of which the beginning has been read already.
    def __init__(self, stream: trio.SocketStream, head: bytes) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._head = head

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._head:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head, b""
            return head
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()
