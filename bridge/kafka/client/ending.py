"""
Starting clients of aiokafka and ending them, whatever state they are in.

Its own ways to stop wait for brokers that don't answer, raise what their
background tasks died of, and forget connections that were just being made. Only
connections and tasks are dealt with here.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import socket
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any


__all__ = ["ClosingLoop", "end_all", "end_client", "start_client"]

# Aborted connections and cancelled tasks end within milliseconds; a client that
# doesn't is left to the end of the loop.
_END_SECONDS = 1.0


async def start_client(start: Callable[[], Awaitable[None]]) -> None:
    """
    Start a client; a start that is cancelled gets a moment to come to its end.

    aiokafka 0.14 forgets the connection over which it was looking for brokers.

    Args:
        start: What starts it.
    """
    starting = asyncio.ensure_future(start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=_END_SECONDS)
        if starting.done() and not starting.cancelled():
            starting.exception()
        starting.cancel()
        raise


async def end_client(client: Any, stop: Callable[[], Awaitable[None]]) -> None:
    """
    End a client at once.

    Args:
        client: The `AIOKafkaClient` (0.14) under a producer, consumer or admin.
        stop: What ends the whole, including the client.
    """
    metadata = client._sync_task  # noqa: SLF001 - has no public name
    if metadata is not None and metadata.done():
        # `stop` would raise what it died of and leave the connections open.
        client._sync_task = None  # noqa: SLF001
    for connection in client._conns.values():  # noqa: SLF001
        writer = connection._writer  # noqa: SLF001
        if writer is not None:
            # A broker that stands still would never take what is buffered.
            writer.transport.abort()
    # A task of its own: aiokafka takes the cancellation of a fetch of its own
    # for the caller's, which would end the caller.
    stopping = asyncio.ensure_future(stop())
    await asyncio.wait([stopping], timeout=_END_SECONDS)
    if not stopping.done():
        stopping.cancel()
    elif stopping.cancelled() or stopping.exception() is not None:
        closing = asyncio.ensure_future(client.close())
        await asyncio.wait([closing], timeout=_END_SECONDS)


async def end_all(ends: Iterable[Coroutine[Any, Any, None]]) -> None:
    """
    End several clients side by side, each of them even if the caller is cancelled.

    Args:
        ends: What ends each.
    """
    # Tasks of their own: each begins before the caller can be cancelled.
    if ending := [asyncio.ensure_future(end) for end in ends]:
        await asyncio.wait(ending)
    for task in ending:
        task.result()


class ClosingLoop(asyncio.SelectorEventLoop):
    """A loop that knows its connections, so that none outlives its work."""

    def __init__(self) -> None:
        super().__init__()
        self._connected: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect, as any loop does."""
        transport, protocol = await super().create_connection(*arguments, **options)
        self._connected.add(transport)
        return transport, protocol

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        """
        Look a name up, as any loop does, but for the end.

        A resolver that gets no answer takes half a minute, and both the loop and
        the interpreter would wait for the thread that asyncio lends it.
        """
        found: asyncio.Future[Any] = self.create_future()

        def settle(answer: Any, error: OSError | UnicodeError | None) -> None:
            if found.done():
                return
            if error is None:
                found.set_result(answer)
            else:
                found.set_exception(error)

        def look() -> None:
            answer, failure = None, None
            try:
                answer = socket.getaddrinfo(host, port, **hints)
            except (OSError, UnicodeError) as error:
                failure = error
            # RuntimeError: the loop has ended, nobody waits any more.
            with suppress(RuntimeError):
                self.call_soon_threadsafe(settle, answer, failure)

        threading.Thread(target=look, name="bridge-kafka-names", daemon=True).start()
        return await found

    async def abort_connections(self) -> None:
        """
        Close whatever is still open.

        aiokafka 0.14 forgets a connection that is being made while its client
        is stopped, or whose first answer nobody waits for any more.
        """
        for transport in list(self._connected):
            transport.abort()
        # Their protocols learn of it in the loop's next round.
        await asyncio.sleep(0)
