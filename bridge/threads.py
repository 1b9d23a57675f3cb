"""
Blocking work in a thread, for as long as a trio task lives.

Owns the thread's end: it is told to stop, waited for, and abandoned where it doesn't.
"""

from __future__ import annotations

from collections.abc import Callable

import trio


__all__ = ["in_thread"]


async def in_thread(
    work: Callable[[], None], stop: Callable[[], None], grace_seconds: float
) -> None:
    """
    Run blocking work in a thread; when cancelled, stop it and wait for its end.

    Args:
        work: Returns some time after `stop` was called.
        stop: Tells it to; may be called at any time.
        grace_seconds: After so long a thread that doesn't end is abandoned.
    """
    scope = trio.CancelScope(shield=True)

    async def stop_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stop()
            scope.deadline = trio.current_time() + grace_seconds

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_when_cancelled)
        with scope:
            await trio.to_thread.run_sync(work, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
