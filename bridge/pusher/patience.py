"""
Waiting for an answer, by a process that may itself have stood still.

A deadline that passed while nobody read the socket says nothing about the server:
what has arrived meanwhile has to be read before it is judged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio


__all__ = ["answered"]

# Waking so long after a deadline means that the whole process stood still
# (suspended, starved).
_STALL_SECONDS: Final = 1.0


async def answered(
    ask: Callable[[], Awaitable[None]], answer: trio.Event, timeout_seconds: float
) -> bool:
    """
    Send a question and wait for its answer.

    Args:
        ask: Sends the question; a peer that reads nothing is as good as silent, so
            it has the same deadline.
        answer: Set when the answer is read.
        timeout_seconds: How long both may take; a process that stood still waits
            as long once more.

    Returns:
        Whether the answer came.
    """
    deadline = trio.current_time() + timeout_seconds
    with trio.move_on_at(deadline):
        await ask()
        await answer.wait()
        return True
    if trio.current_time() - deadline > _STALL_SECONDS:
        with trio.move_on_after(timeout_seconds):
            await answer.wait()
    return answer.is_set()
