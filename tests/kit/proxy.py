"""One proxy for TCP connections that a test can make fail.

proxy = FaultProxy(soketi.url)
await nursery.start(proxy.serve)
proxy.reset()
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import trio

from tests.kit.process import free_ports


_CHUNK_BYTES = 16 * 1024

# How many chunks the proxy itself keeps. Few, so that a reader that has stopped holds
# the writer up after little more than what the kernels buffer.
_CHUNKS = 64

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)

# Closing with a linger of zero seconds sends RST instead of FIN (socket(7)).
_NO_LINGER = struct.pack("ii", 1, 0)

Chunks = AsyncGenerator[bytes, None]

FrameLength = Callable[[bytearray], int | None]


class View:
    """What one connection's bytes become on their way; here they stay as they are."""

    def onward(self, chunks: Chunks) -> Chunks:
        """Give what the server receives for what the client sends."""
        return chunks

    def back(self, chunks: Chunks) -> Chunks:
        """Give what the client receives for what the server sends."""
        return chunks


class FaultProxy:
    """A TCP proxy in front of one server; it listens whether the server is up or not.

    A client that comes while the server is down is accepted and reset. What a client
    has sent reaches the server even if the client is gone by then.
    """

    # How many chunks wait within the proxy until it stops to read.
    chunks: float = _CHUNKS

    def __init__(self, server: str, *, port: int | None = None) -> None:
        self.lead_to(server)
        self._port = free_ports(1)[0] if port is None else port
        self.address = f"127.0.0.1:{self._port}"
        self.url = f"{urlsplit(server).scheme}://{self.address}"
        self.accepts: list[float] = []
        self.delay_seconds = 0.0
        self._connections: set[_Connection] = set()
        self._passes = trio.Event()
        self._passes.set()
        self._refuses = False

    def view(self) -> View:
        """Make the view of a new connection."""
        return View()

    def lead_to(self, server: str) -> None:
        """Lead new connections to a server: a URL, or host and port."""
        parts = urlsplit(server if "//" in server else f"//{server}")
        assert parts.hostname is not None
        assert parts.port is not None
        self._server = parts.hostname, parts.port

    async def serve(
        self, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Pass connections on until cancelled; `nursery.start` waits for the port."""
        await trio.serve_tcp(
            self._accept, self._port, host="127.0.0.1", task_status=task_status
        )

    def reset(self) -> None:
        """Reset every connection, on both sides."""
        for connection in self._connections:
            _reset_at_close(connection.client)
            _reset_at_close(connection.server)
        self.cut()

    def cut(self) -> None:
        """Close every connection, on both sides."""
        for connection in self._connections:
            connection.scope.cancel()

    def lose(self) -> None:
        """Close every connection towards the server; to the client it seems open."""
        for connection in self._connections:
            connection.lost = True
        self.cut()

    def hang(self) -> None:
        """Pass nothing on, of old and new connections, until `resume`."""
        self._passes = trio.Event()

    def refuse(self) -> None:
        """Reset every new connection, until `resume`."""
        self._refuses = True

    def resume(self) -> None:
        """Pass everything on at once, what was held up too; what is lost stays lost."""
        self.delay_seconds = 0.0
        self._refuses = False
        self._passes.set()

    async def _accept(self, client: trio.SocketStream) -> None:
        self.accepts.append(time.time())
        async with client:
            try:
                if self._refuses:
                    raise ConnectionRefusedError
                # The kernel accepts for a server that is paused.
                server = await trio.open_tcp_stream(*self._server)
            except OSError:
                _reset_at_close(client)
                return
            connection = _Connection(client, server)
            self._connections.add(connection)
            try:
                async with server:
                    await self._pass_on(connection)
                if connection.lost:
                    await _discard(client)
            finally:
                self._connections.discard(connection)

    async def _pass_on(self, connection: _Connection) -> None:
        """Pass bytes both ways until one side has ended, or a fault ends it."""
        view = self.view()
        client, server = connection.client, connection.server
        with connection.scope:
            async with trio.open_nursery() as nursery:
                for source, sink, change in (
                    (client, server, view.onward),
                    (server, client, view.back),
                ):
                    into, out_of = trio.open_memory_channel[tuple[float, bytes]](
                        self.chunks
                    )
                    nursery.start_soon(self._take, source, into)
                    nursery.start_soon(
                        self._bring, self._due(out_of), change, sink, connection
                    )

    async def _take(
        self,
        source: trio.SocketStream,
        into: trio.MemorySendChannel[tuple[float, bytes]],
    ) -> None:
        """Read what comes, and note when it is due."""
        async with into:
            with suppress(*_BROKEN):
                while chunk := await source.receive_some(_CHUNK_BYTES):
                    due = trio.current_time() + self.delay_seconds
                    await into.send((due, bytes(chunk)))

    async def _due(
        self, out_of: trio.MemoryReceiveChannel[tuple[float, bytes]]
    ) -> Chunks:
        """Give chunks when they are due and nothing hangs."""
        async with out_of:
            async for due, chunk in out_of:
                await trio.sleep_until(due)
                await self._passes.wait()
                yield chunk
        await self._passes.wait()

    async def _bring(
        self,
        due: Chunks,
        change: Callable[[Chunks], Chunks],
        sink: trio.SocketStream,
        connection: _Connection,
    ) -> None:
        """Send it to the other side; the end of this direction ends the connection."""
        async with aclosing(due), aclosing(change(due)) as chunks:
            async for chunk in chunks:
                # A side that is gone shows in the other direction too, behind what
                # it had sent before.
                with suppress(*_BROKEN):
                    await sink.send_all(chunk)
        connection.scope.cancel()


@dataclass(eq=False)
class _Connection:
    """One connection through the proxy, and whether the client was left with it."""

    client: trio.SocketStream
    server: trio.SocketStream
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    lost: bool = False


async def _discard(client: trio.SocketStream) -> None:
    """Read what the client sends, until it closes."""
    with suppress(*_BROKEN):
        while await client.receive_some(_CHUNK_BYTES):
            pass


def _reset_at_close(stream: trio.SocketStream) -> None:
    """Let this stream end with a reset."""
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


class Frames:
    """The frames in one direction of a connection."""

    def __init__(self, *lengths: FrameLength) -> None:
        self._lengths = list(lengths)
        self._gathered = bytearray()

    def take(self, chunk: bytes) -> Iterator[bytes]:
        """Give the frames that are whole with this chunk."""
        self._gathered += chunk
        while length := self._lengths[0](self._gathered):
            if len(self._gathered) < length:
                break
            frame = bytes(self._gathered[:length])
            del self._gathered[:length]
            if len(self._lengths) > 1:
                self._lengths.pop(0)
            yield frame
