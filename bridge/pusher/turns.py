"""
Turns: sessions of one process connect one after the other.

A server that was restarted loses all sessions in the same moment, and each tries again
at once. Two hundred connects, each with a request to dryAPI's auth endpoint, came in
0.3 s (measured); a short distance between them costs one session nothing.
"""

from __future__ import annotations

import math
from typing import Final

import trio


__all__ = ["Turns"]

# A hundred connects a second: two hundred sessions are back in two seconds.
_DISTANCE_SECONDS: Final = 0.01

# As many connects as one session makes in ten seconds (`backoff`): it never waits.
_AT_ONCE: Final = 10


class Turns:
    """
    Gives turns in the order in which they are asked for.

    Args:
        distance_seconds: How long it takes until there is one more.
        at_once: How many there are after a time in which none was taken.
    """

    def __init__(
        self, distance_seconds: float = _DISTANCE_SECONDS, at_once: int = _AT_ONCE
    ) -> None:
        self._distance_seconds = distance_seconds
        self._lead_seconds = distance_seconds * (at_once - 1)
        # When the next turn is; in the past as far as turns were left over.
        self._next_at = -math.inf

    async def take(self) -> None:
        """Wait for one's turn; it passes unused if this is cancelled."""
        now = trio.current_time()
        self._next_at = max(now - self._lead_seconds, self._next_at)
        turn = self._next_at
        self._next_at += self._distance_seconds
        await trio.sleep_until(max(now, turn))
