"""
Work in other threads, for as long as a trio task lives.

Owns a thread's end: a request to stop, a wait, and then it is abandoned. Also passes
another thread's result to trio.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TypeVar

import trio


__all__ = ["answer_of", "in_thread"]

_T = TypeVar("_T")


async def in_thread(
    work: Callable[[], None], stop: Callable[[], None], grace_seconds: float
) -> None:
    """
    Run blocking work in a thread; when cancelled, stop it and wait for its end.

    Args:
        work: Returns some time after `stop` was called.
        stop: Asks it to; may be called at any time.
        grace_seconds: After so long a thread that doesn't end is abandoned.
    """
    has_ended = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            has_ended.set()

    try:
        await trio.to_thread.run_sync(run, abandon_on_cancel=True)
    except trio.Cancelled:
        stop()
        with trio.move_on_after(grace_seconds, shield=True):
            await trio.to_thread.run_sync(has_ended.wait, abandon_on_cancel=True)
        raise


async def answer_of(future: Future[_T]) -> _T:
    """
    Wait for what another thread is asked for; the deadline is the caller's.

    Args:
        future: Cancelled when the wait is: work that has begun is done all the same.

    Returns:
        Its result.

    Raises:
        CancelledError: No thread will do it any more; of `concurrent.futures`.
    """
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def wake(_: Future[_T]) -> None:
        # The loop may be over by then.
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    future.add_done_callback(wake)
    try:
        await done.wait()
    except trio.Cancelled:
        future.cancel()
        raise
    if future.cancelled():
        raise CancelledError
    return future.result()
