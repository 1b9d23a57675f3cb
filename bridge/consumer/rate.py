"""How many events a second arrive, over the last moments; it reads no clock."""

from __future__ import annotations

from collections import deque


__all__ = ["Rate"]

# Long enough to be readable at a few events a second, short enough to follow.
_WINDOW_SECONDS = 5.0


class Rate:
    """Counts events over the last five seconds, on a clock that only goes forward."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, int]] = deque()
        self._began_at: float | None = None

    def add(self, events: int, now_seconds: float) -> None:
        """Count events that arrived now."""
        if self._began_at is None:
            self._began_at = now_seconds
        if events:
            self._arrivals.append((now_seconds, events))
        while self._arrivals and self._arrivals[0][0] <= now_seconds - _WINDOW_SECONDS:
            self._arrivals.popleft()

    def per_second(self, now_seconds: float) -> float:
        """Return the events a second."""
        if self._began_at is None:
            return 0.0
        # What has just begun must not look five times too slow.
        window = min(_WINDOW_SECONDS, max(1.0, now_seconds - self._began_at))
        since = now_seconds - _WINDOW_SECONDS
        return sum(count for at, count in self._arrivals if at > since) / window
