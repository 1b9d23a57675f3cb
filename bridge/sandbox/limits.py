"""
The status endpoint's rate limits, as dryAPI documents them.

Counts and headers. What a refused call is answered with stands in `dryapi`.
"""

from __future__ import annotations

import math

import msgspec
import trio

from bridge.sandbox.config import Plan


__all__ = ["Allowance", "RateLimiter"]

_MINUTE_SECONDS = 60.0
_DAY_SECONDS = 86_400.0

# Calls per minute and per day (None: no limit) of the status endpoint.
_LIMITS: dict[Plan, tuple[int, int | None]] = {
    "basic": (50, 200),
    "premium": (300, None),
}


class Allowance(msgspec.Struct, frozen=True):
    """
    What the limits say to one call.

    Attributes:
        allowed: Whether it may be answered.
        headers: What the answer carries either way.
    """

    allowed: bool
    headers: dict[str, str]


class _Window:
    # Opens with its first call and is empty again when it ends: Laravel's way,
    # on which dryAPI runs.
    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self._seconds = seconds
        self._count = 0
        self._ends_at = -math.inf

    def remaining(self, now: float) -> int:
        if now >= self._ends_at:
            self._count = 0
        return self.limit - self._count

    def count(self, now: float) -> None:
        if now >= self._ends_at:
            self._ends_at = now + self._seconds
        self._count += 1

    def retry_after_seconds(self, now: float) -> int:
        return max(1, math.ceil(self._ends_at - now))


class RateLimiter:
    """One account's allowance; its clock is trio's."""

    def __init__(self, plan: Plan) -> None:
        per_minute, per_day = _LIMITS[plan]
        self._minute = _Window(per_minute, _MINUTE_SECONDS)
        self._day = None if per_day is None else _Window(per_day, _DAY_SECONDS)

    def take(self) -> Allowance:
        """Count a call, unless a limit refuses it: refused calls don't count."""
        now = trio.current_time()
        windows = {"minute": self._minute, "daily": self._day}
        for kind, window in windows.items():
            if window is not None and window.remaining(now) <= 0:
                wait = str(window.retry_after_seconds(now))
                about = {"Retry-After": wait, "X-RateLimit-Type": kind}
                return Allowance(allowed=False, headers=about | self._headers(now))
        for window in windows.values():
            if window is not None:
                window.count(now)
        return Allowance(allowed=True, headers=self._headers(now))

    def _headers(self, now: float) -> dict[str, str]:
        headers = {
            "X-RateLimit-Limit": str(self._minute.limit),
            "X-RateLimit-Remaining": str(self._minute.remaining(now)),
        }
        if self._day is not None:
            headers["X-RateLimit-Daily-Limit"] = str(self._day.limit)
            headers["X-RateLimit-Daily-Remaining"] = str(self._day.remaining(now))
        return headers
