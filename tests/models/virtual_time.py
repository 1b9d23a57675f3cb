"""An asyncio loop whose clock jumps: hours of waiting cost nothing.

Only what waits inside the loop is sped up; it never waits for other threads.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
import selectors


class _Selector(selectors.SelectSelector):
    """Looks at sockets, and lets the clock jump where it would wait."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Never wait."""
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that jumps to the next timer instead of waiting for it."""

    def __init__(self, now: float = 0.0) -> None:
        self._virtual = _Selector(now)
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds, as its tasks see them."""
        return self._virtual.now

    def run_for(self, seconds: float) -> None:
        """Let everything that is due within some seconds happen."""
        self.run_until_complete(asyncio.sleep(seconds))
