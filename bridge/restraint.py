"""
When the session stands back, so that what it read can be written.

A session that decodes a flood holds the interpreter so much that the outbox's
thread starves, and the buffer between them overflows while the disk idles
(measured without this: up to 40 % of 100,000 events dropped). Some milliseconds
without reading let the thread catch up; the sockets hold what comes meanwhile.

Sessions stand back one after the other: those of many accounts may have read all at
once, and if all went on at once the buffer would overflow all the same (measured: a
flood of 100,000 events to a hundred accounts lost a quarter). Who goes on hands over
what it has before the next one looks.

This is no waiting for the disk. A thread that doesn't catch up within
`_PATIENCE_SECONDS` has another trouble, such as a disk that hangs: then reading
goes on, the buffer drops and counts, and nobody stands back again until it was
relaxed once. Nor may the turns of many sessions add up: a pong that nobody reads for
too long would be taken for a server that is gone.
"""

from __future__ import annotations

from collections.abc import Callable

import trio


__all__ = ["Restraint"]

# A full buffer of 16 MiB was on disk within 0.15 s, small events or previews, with
# nothing else to do; a flood and a busy machine need some times that.
_PATIENCE_SECONDS = 2.0

# The longest that a session stands back, those before it included. It does so after
# one run and again before the next: twice this stays below the pong deadline of 10 s.
_LONGEST_SECONDS = 4.0

# The outbox commits every few milliseconds while it is busy.
_LOOK_SECONDS = 0.002


class Restraint:
    """
    Slows sessions down for a moment; awaited before and after each delivery.

    Args:
        is_crowded: Whether standing back would help; asked often, must be cheap.
    """

    def __init__(self, is_crowded: Callable[[], bool]) -> None:
        self._is_crowded = is_crowded
        self._patient = True
        self._turn = trio.Lock()

    async def __call__(self) -> None:
        """Return at once as a rule; else after some seconds at most."""
        if not self._is_crowded():
            self._patient = True
        elif self._patient:
            with trio.move_on_after(_LONGEST_SECONDS):
                async with self._turn:
                    if self._patient:
                        await self._wait()

    async def _wait(self) -> None:
        with trio.move_on_after(_PATIENCE_SECONDS) as patience:
            # Another thread changes what is looked at.
            while self._is_crowded():  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)
        self._patient = not patience.cancelled_caught
