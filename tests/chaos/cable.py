"""The cable between the bridge and soketi: it can be cut, stopped up and slowed down.

Owns the way of the bytes, and the count of connections. Which fault happens when is
`soak_faults`' business.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from urllib.parse import urlsplit

import trio

from tests.kit.process import free_ports


__all__ = ["Cable"]

_CHUNK_BYTES = 16 * 1024

# What lies in the cable itself. Few, so that a reader that stands still is felt by
# soketi after little more than what kernels buffer.
_CHUNKS = 64

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)

# Closing with a linger of zero seconds sends RST instead of FIN (socket(7)).
_NO_LINGER = struct.pack("ii", 1, 0)


class _Line:
    """One connection through the cable: two streams that may be broken apart."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.client = client
        self.server = server
        self.scope = trio.CancelScope()
        self.lost = False


class Cable:
    """
    A TCP proxy in front of one server; it listens whether the server is up or not.

    A client that comes while the server is down is accepted and reset.

    Args:
        url: The server, `ws://host:port`.

    Attributes:
        url: Where clients go.
        accepts: When each connection came, in seconds since the epoch.
        delay_seconds: How long everything takes, each way.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._server_port = parts.hostname, parts.port
        (self._port,) = free_ports(1)
        self.url = f"ws://127.0.0.1:{self._port}"
        self.accepts: list[float] = []
        self.delay_seconds = 0.0
        self._lines: set[_Line] = set()
        self._clear = trio.Event()
        self._clear.set()

    async def serve(
        self, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Pass connections on until cancelled; `nursery.start` waits for the port."""
        await trio.serve_tcp(
            self._pass_on, self._port, host="127.0.0.1", task_status=task_status
        )

    # -- Faults ---------------------------------------------------------------

    def reset(self) -> None:
        """Reset every connection, on both sides."""
        for line in self._lines:
            _send_reset(line.client)
            _send_reset(line.server)
            line.scope.cancel()

    def lose(self) -> None:
        """Lose every connection behind the client's back: it stays open, and dead."""
        for line in self._lines:
            line.lost = True
            line.scope.cancel()

    def stop_up(self) -> None:
        """Let nothing through, of old and new connections, until `heal`."""
        self._clear = trio.Event()

    def heal(self) -> None:
        """Let everything through at once; what is lost stays lost."""
        self.delay_seconds = 0.0
        self._clear.set()

    # -- The way of the bytes -------------------------------------------------

    async def _pass_on(self, client: trio.SocketStream) -> None:
        self.accepts.append(time.time())
        async with client:
            try:
                # A server that stands still has its kernel accept.
                server = await trio.open_tcp_stream(self._host, self._server_port)
            except OSError:
                _send_reset(client)
                return
            line = _Line(client, server)
            self._lines.add(line)
            try:
                async with server:
                    await self._connect(line)
                if line.lost:
                    await _swallow(client)
            finally:
                self._lines.discard(line)

    async def _connect(self, line: _Line) -> None:
        """Pass both ways until one side ends, or the line is broken."""
        with line.scope:
            async with trio.open_nursery() as nursery:
                for source, sink in (
                    (line.client, line.server),
                    (line.server, line.client),
                ):
                    into, out_of = trio.open_memory_channel[tuple[float, bytes]](
                        _CHUNKS
                    )
                    nursery.start_soon(self._take, source, into)
                    nursery.start_soon(self._bring, out_of, sink, line.scope)

    async def _take(
        self,
        source: trio.SocketStream,
        into: trio.MemorySendChannel[tuple[float, bytes]],
    ) -> None:
        """Take what comes, with the time at which it may arrive."""
        async with into:
            with suppress(*_BROKEN):
                # No deadline: a quiet connection is as good as any.
                while chunk := await source.receive_some(_CHUNK_BYTES):
                    due = trio.current_time() + self.delay_seconds
                    await into.send((due, bytes(chunk)))

    async def _bring(
        self,
        out_of: trio.MemoryReceiveChannel[tuple[float, bytes]],
        sink: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        """Bring it to the other side; its end is the line's."""
        async with out_of:
            async for due, chunk in out_of:
                await trio.sleep_until(due)
                await self._clear.wait()
                try:
                    await sink.send_all(chunk)
                except _BROKEN:
                    break
            await self._clear.wait()
        scope.cancel()


async def _swallow(client: trio.SocketStream) -> None:
    """Take what the client sends, until it gives up."""
    with suppress(*_BROKEN):
        while await client.receive_some(_CHUNK_BYTES):
            pass


def _send_reset(stream: trio.SocketStream) -> None:
    """Let the end of this stream be a reset."""
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
