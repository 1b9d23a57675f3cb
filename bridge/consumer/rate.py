"""
How many events a second come, over the last moments.

Owns the window alone: it reads no clock.
"""

from __future__ import annotations

from collections import deque


__all__ = ["Rate"]

# Long enough to be readable at a few events a second, short enough to follow.
_WINDOW_SECONDS = 5.0


class Rate:
    """Counts events over the last five seconds."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, int]] = deque()
        self._began_at: float | None = None

    def add(self, events: int, now_seconds: float) -> None:
        """
        Count events.

        Args:
            events: How many came.
            now_seconds: When, on a clock that only goes forward.
        """
        if self._began_at is None:
            self._began_at = now_seconds
        if events:
            self._arrivals.append((now_seconds, events))
        self._forget(now_seconds)

    def per_second(self, now_seconds: float) -> float:
        """
        Give the events a second.

        Args:
            now_seconds: The time on the clock that `add` was given.
        """
        self._forget(now_seconds)
        if self._began_at is None:
            return 0.0
        # What has just begun must not look five times too slow.
        window = min(_WINDOW_SECONDS, max(1.0, now_seconds - self._began_at))
        return sum(count for _, count in self._arrivals) / window

    def _forget(self, now_seconds: float) -> None:
        while self._arrivals and self._arrivals[0][0] <= now_seconds - _WINDOW_SECONDS:
            self._arrivals.popleft()
