"""
Asking the outbox's thread from the Kafka thread's loop.

Owns the wait for an answer; what is asked stands in `ports`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import concurrent.futures
from contextlib import suppress
from typing import TypeVar


__all__ = ["answer"]

T = TypeVar("T")


async def answer(future: concurrent.futures.Future[T]) -> T:
    """
    Wait for the outbox's answer.

    A cancelled wait leaves the future alone, unlike `asyncio.wrap_future`: the
    outbox may be about to answer, and a cancelled future takes no result.

    Returns:
        The answer.

    Raises:
        asyncio.CancelledError: The wait was cancelled, or the outbox has ended.
    """
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()

    def tell(_: object) -> None:
        # RuntimeError: the loop has ended, nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(arrived.set)

    future.add_done_callback(tell)
    # No deadline: the outbox answers with its next commit, and a relay that
    # can't ask it can't go on.
    await arrived.wait()
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise asyncio.CancelledError("the outbox has ended") from None
