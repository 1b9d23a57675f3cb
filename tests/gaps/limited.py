"""A status endpoint that is all limits, and those who call it.

It counts, reports what is left, and refuses; what it is asked about doesn't matter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import trio

from bridge.gaps.limiter import Limiter, Limits, Purpose


# 2026-01-31T12:00:00Z: what trio's clock calls 0.
NOON_US = 1_769_860_800_000_000

DAY_SECONDS = 86_400.0

# The limits in the first response to a Basic account.
BASIC = Limits(50, 49, 200, 199)

MinuteKind = Literal["fixed", "sliding", "clock"]
"""From the first call on; the last 60 s; as the clock on the wall shows it."""


def now_us() -> int:
    """Give the wall clock's time."""
    return NOON_US + round(trio.current_time() * 1_000_000)


@dataclass(frozen=True)
class Served:
    """A call as the server saw it."""

    at: float
    is_own: bool
    left: tuple[int, float]
    known: int = 0


class LimitedApi:
    """A server's limits."""

    def __init__(
        self,
        per_minute: int = 50,
        per_day: int | None = 200,
        *,
        minute: MinuteKind = "fixed",
    ) -> None:
        self.served: list[Served] = []
        self.known = 0
        self.refused = self.early = 0
        self.told_to_wait_until = -math.inf
        self.is_broken = False
        self.per_minute = per_minute
        self.per_day = per_day
        self._minute = minute
        self._minute_began = self._day_began = -math.inf

    def call(self, *, is_own: bool = True, known: int = 0) -> tuple[Limits, bool]:
        """Serve a call; return what it reports, and whether the server failed."""
        if self.is_broken:
            return Limits(), True
        now = trio.current_time()
        minute, day = self._left(now)
        if minute <= 0 or day <= 0:
            self.refused += is_own
            until = self._day_began + DAY_SECONDS if day <= 0 else now + 60
            limited_by: Literal["minute", "daily"] = "daily" if day <= 0 else "minute"
            wait = math.ceil(until - now)
            return self._limits(minute, day, wait, limited_by), False
        if now - self._minute_began >= 60:
            self._minute_began = now
        if now - self._day_began >= DAY_SECONDS:
            self._day_began = now
        self.served.append(Served(now, is_own, (minute - 1, day - 1), known))
        return self._limits(minute - 1, day - 1), False

    def _left(self, now: float) -> tuple[int, float]:
        begins = {
            "fixed": self._minute_began if now - self._minute_began < 60 else now,
            "sliding": math.nextafter(now - 60, math.inf),
            "clock": now // 60 * 60,
        }[self._minute]
        minute = self.per_minute - self._count(begins)
        if self.per_day is None:
            return minute, math.inf
        is_on = now - self._day_began < DAY_SECONDS
        return minute, self.per_day - (self._count(self._day_began) if is_on else 0)

    def _count(self, since: float) -> int:
        newest = reversed(self.served)
        return sum(
            1 for _ in itertools.takewhile(lambda call: call.at >= since, newest)
        )

    def _limits(
        self,
        minute: int,
        day: float,
        wait: float | None = None,
        limited_by: Literal["minute", "daily"] | None = None,
    ) -> Limits:
        if self.per_day is None:
            return Limits(
                self.per_minute, minute, None, None, wait, limited_by=limited_by
            )
        return Limits(
            self.per_minute, minute, self.per_day, int(day), wait, limited_by=limited_by
        )


Latency = Callable[[], float]
"""How long a call takes to the server, or its response back."""


async def ask(
    api: LimitedApi, limiter: Limiter, purpose: Purpose, latency: Latency
) -> bool:
    """Make one call when the limiter allows it; gives whether it did on this day."""
    while True:
        at = limiter.possible_at(purpose)
        if at is None:
            return False
        if at <= trio.current_time():
            break
        await trio.sleep_until(at)
    limiter.begin(purpose)
    api.early += trio.current_time() < api.told_to_wait_until
    known = api.known
    await trio.sleep(latency())
    limits, failed = api.call(known=known)
    known = len(api.served)
    await trio.sleep(latency())
    if limits.minute_remaining is not None:
        api.known = max(api.known, known)
    if limits.retry_after_seconds is not None:
        api.told_to_wait_until = trio.current_time() + limits.retry_after_seconds
    limiter.end(limits, failed=failed)
    return True
