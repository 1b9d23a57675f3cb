"""
Starting clients of aiokafka and ending them, whatever state they are in.

Its own ways to stop wait for brokers that don't answer, raise what their
background tasks died of, and forget connections that were just being made. Only
connections and tasks are dealt with here.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any


__all__ = ["end_all", "end_client"]

# Aborted connections and cancelled tasks end within milliseconds; a client that
# doesn't is left to the end of the loop.
_END_SECONDS = 1.0


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
