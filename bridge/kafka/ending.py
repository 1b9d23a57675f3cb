"""
Ending a client of aiokafka, whatever state it is in.

Its own ways to stop wait for brokers that don't answer, and raise what their
background tasks died of. Only connections and tasks are dealt with here.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any


__all__ = ["end_client"]

# Aborted connections and cancelled tasks end within milliseconds; a client that
# doesn't is left to the garbage collector.
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
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await stop()
