"""
When the status endpoint may be called, within the limits of one API token.

One call is in flight at a time, so each response says exactly how many calls the server
has counted, those of the user's own programs among them.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from bridge.http.client import date_of, retry_after_seconds
from bridge.metric import gauge
from bridge.outbox.values import Spent


__all__ = ["Limiter", "Limits", "Purpose", "read_limits"]

_MINUTE_SECONDS: Final = 60.0
_DAY_SECONDS: Final = 86_400.0

# dryAPI's limits of a Basic account, the smaller ones: assumed until a response has
# others.
_BASIC_PER_MINUTE: Final = 50
_BASIC_PER_DAY: Final = 200

# Stale jobs get a quarter.
_STALE_SHARE: Final = 4

_MAX_BACKOFF_SECONDS: Final = 60.0

# A server that fails doesn't know for how long: longer waits are cut to this.
_MAX_FAILURE_WAIT_SECONDS: Final = 300.0

# A longer wait is by the day's limit, where the response doesn't name the limit.
_MAX_MINUTE_WAIT_SECONDS: Final = 3600.0

# No server allows more; int() is slow with thousands of digits.
_MAX_CALLS: Final = 100_000
_MAX_DIGITS: Final = 9


class Purpose(StrEnum):
    """What a call is for: a metric's label."""

    GAP = "gap"
    STALE = "stale"


class Limits(msgspec.Struct, frozen=True):
    """The account's limits in one response; None where it has none."""

    per_minute: int | None = None
    minute_remaining: int | None = None
    per_day: int | None = None
    day_remaining: int | None = None
    # At most a day.
    retry_after_seconds: float | None = None
    # The limit that refused the call; None if the call wasn't refused.
    limited_by: Literal["minute", "daily"] | None = None


def read_limits(status: int, headers: Mapping[str, str], now: datetime) -> Limits:
    """
    Read the limits in a response's headers. An invalid number counts as absent.

    Args:
        status: Its HTTP status.
        headers: Its headers, names in lower case.
        now: This moment, with a time zone, for a `Retry-After` that is a date.
    """
    # By the server's clock if it is there: this machine's may differ.
    asked = date_of(headers.get("date", "")) or now
    wait = retry_after_seconds(headers.get("retry-after", "").strip(), asked)
    day_remaining = _number(headers.get("x-ratelimit-daily-remaining"))
    limited_by: Literal["minute", "daily"] | None = None
    if status == 429:
        kind = headers.get("x-ratelimit-type", "").strip().lower()
        is_daily = day_remaining == 0 or (wait or 0) > _MAX_MINUTE_WAIT_SECONDS
        is_daily = kind == "daily" or (kind != "minute" and is_daily)
        limited_by = "daily" if is_daily else "minute"
    return Limits(
        # A limit of zero would be kept forever: no call would show that it has ended.
        _number(headers.get("x-ratelimit-limit")) or None,
        _number(headers.get("x-ratelimit-remaining")),
        _number(headers.get("x-ratelimit-daily-limit")) or None,
        day_remaining,
        None if wait is None else min(wait, _DAY_SECONDS),
        limited_by,
    )


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        return None
    return min(int(text), _MAX_CALLS)


class Limiter:
    """
    The calls of one API token, for all accounts that share it.

    `begin` starts a call when `possible_at` allows it, and `end` ends it.

    Args:
        clock: The time: seconds of a monotonic clock that any thread may read.
        reserve_percent: How many percent of a minute's and a day's calls are left to
            the user's own programs.
        now_us: The wall clock, microseconds since the epoch: only for the age of
            `spent`. Setting it changes nothing in a running process.
        spent: The day's calls of the process before, if any.
        on_spent: Receives the day's calls whenever they change; must not wait.
        jitter: The source of randomness.
    """

    def __init__(  # noqa: PLR0913 - facts of their own, each given by name
        self,
        clock: Callable[[], float],
        *,
        reserve_percent: int,
        now_us: Callable[[], int],
        spent: Spent | None = None,
        on_spent: Callable[[Spent], None] = lambda _: None,
        jitter: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._now_us = now_us
        self._on_spent = on_spent
        self._jitter = jitter or random.Random()
        self._usable_percent = 100 - reserve_percent
        self._per_minute = _BASIC_PER_MINUTE
        self._per_day: int | None = _BASIC_PER_DAY
        # When the calls of the last minute ended, and those for stale jobs began.
        self._ended: deque[float] = deque()
        self._stale: deque[float] = deque()
        # Whether others were seen to call with this token.
        self._others_call = False
        self._day_calls = self._day_stale = 0
        # The server's day is the 24 h from its first call on: it has ended 24 h after
        # the response. Infinite before the first call.
        self._day_ends_at = math.inf
        self._is_day_over = False
        self._purpose: Purpose | None = None
        self._failures = 0
        self._wait_until = -math.inf
        if spent is not None:
            # If the clock was set back, the day begins now.
            age = max(0.0, (now_us() - spent.since_us) / 1_000_000)
            if age < _DAY_SECONDS:
                # All of them may have been for stale jobs.
                self._day_calls = self._day_stale = spent.calls
                self._day_ends_at = clock() + _DAY_SECONDS - age

    @property
    def is_backing_off(
        self,
    ) -> Annotated[
        bool,
        gauge(
            "bridge_reconciliation_backing_off",
            "Whether requests pause because the status endpoint fails (1) or not (0).",
        ),
    ]:
        """Whether the endpoint has failed, and hasn't responded since."""
        return self._failures > 0

    @property
    def remaining(
        self,
    ) -> Annotated[
        dict[str, int | None],
        gauge(
            "bridge_reconciliation_remaining",
            "Status requests that the bridge may still make; no day without a daily"
            " limit.",
            "window",
        ),
    ]:
        """The calls that are left, None without a limit; in any thread."""
        now = self._clock()
        return {"minute": self._minute_left(now), "day": self._day_left(now)}

    def _minute_left(self, now: float) -> int:
        used = sum(at + _MINUTE_SECONDS > now for at in tuple(self._ended))
        used += self._purpose is not None
        return max(0, self._usable(self._per_minute) - used)

    def _day_left(self, now: float) -> int | None:
        is_same_day = now < self._day_ends_at
        if self._is_day_over and is_same_day:
            return 0
        if self._per_day is None:
            return None
        used = self._day_calls if is_same_day else 0
        return max(0, self._usable(self._per_day) - used)

    def possible_at(self, purpose: Purpose) -> float | None:
        """
        Return from when a call may be made, or None if not on this day.

        Ask again at that moment: it may be later then. No call is in flight.
        """
        now, share = self._clock(), self._usable(self._per_minute)
        day_left, is_stale = self._day_left(now), purpose is Purpose.STALE
        if is_stale:
            share //= _STALE_SHARE
            if self._per_day is not None and now < self._day_ends_at:
                day = self._usable(self._per_day) // _STALE_SHARE
                day_left = min(day_left or 0, day - self._day_stale)
        if not share or (day_left is not None and day_left <= 0):
            return None
        at = max(now, self._wait_until)
        if not self._minute_left(now):
            at = max(at, self._ended[-self._usable(self._per_minute)] + _MINUTE_SECONDS)
        if is_stale and len(self._stale) >= share:
            at = max(at, self._stale[-share] + _MINUTE_SECONDS)
        return at

    def begin(self, purpose: Purpose) -> None:
        """Start a call."""
        now = self._clock()
        self._turn_day(now)
        self._purpose = purpose
        self._day_calls += 1
        if purpose is Purpose.STALE:
            self._day_stale += 1
            while self._stale and self._stale[0] + _MINUTE_SECONDS <= now:
                self._stale.popleft()
            self._stale.append(now)
        self._report(now)

    def end(self, limits: Limits, *, failed: bool = False) -> None:
        """
        End the call in flight.

        Args:
            limits: Those of its response; none if there was no response.
            failed: Whether the endpoint failed or refused the token: the next call has
                to wait, and this one doesn't count unless the server says so, so that
                an incident uses up neither minute nor day.
        """
        now = self._clock()
        self._turn_day(now)
        purpose, self._purpose = self._purpose, None
        self._learn_limits(limits, failed=failed)
        self._count_minute(limits, now, failed=failed)
        if math.isinf(self._day_ends_at):
            self._day_ends_at = now + _DAY_SECONDS
        used = _used(self._per_day, limits.day_remaining)
        if used is not None:
            self._day_calls = used
        elif failed:
            self._day_calls -= 1
            self._day_stale -= purpose is Purpose.STALE
        if limits.limited_by == "minute":
            # That it was reached shows that others call; the wait replaces the count.
            self._ended.clear()
            self._others_call = True
            wait = limits.retry_after_seconds or _MINUTE_SECONDS
            self._wait_until = max(self._wait_until, now + wait)
        elif limits.limited_by == "daily":
            # Without a wait, or with one of zero seconds, the day lasts its 24 h.
            if limits.retry_after_seconds:
                self._day_ends_at = now + limits.retry_after_seconds
            self._is_day_over = True
            # The next process has none left either.
            self._day_calls = max(self._day_calls, self._per_day or 0)
        elif failed:
            self._back_off(now, limits.retry_after_seconds or 0.0)
        self._failures = self._failures if failed else 0
        self._report(now)

    def _usable(self, limit: int) -> int:
        return limit * self._usable_percent // 100

    def _learn_limits(self, limits: Limits, *, failed: bool) -> None:
        if limits.per_minute is not None:
            self._per_minute = limits.per_minute
        if limits.per_day is not None:
            self._per_day = limits.per_day
        elif limits.day_remaining is not None:
            self._per_day = self._per_day or _BASIC_PER_DAY
        elif limits.per_minute is not None and not failed and not limits.limited_by:
            # It would have the day's limit as well. A response without any, such as a
            # proxy's, says nothing of either.
            self._per_day = None

    def _count_minute(self, limits: Limits, now: float, *, failed: bool) -> None:
        """
        Count a call for 60 s from its response on, and correct the count.

        That is at least as long as it counts in any server's window: fixed from its
        first call on (Laravel's), by the clock, or sliding.
        """
        while self._ended and self._ended[0] + _MINUTE_SECONDS <= now:
            self._ended.popleft()
        used = _used(self._per_minute, limits.minute_remaining)
        if failed and used is None:
            # A proxy's 503 counts nowhere. If the server counted the call, its next
            # response says so; until then few calls are made.
            return
        self._ended.append(now)
        if used is None:
            return
        self._others_call |= used > len(self._ended)
        if used != len(self._ended) or self._others_call:
            # Others may have made as many calls as the server forgot when a window
            # ended, so it isn't known when these were made, only that it was before.
            self._ended = deque([now] * used)

    def _turn_day(self, now: float) -> None:
        if now >= self._day_ends_at:
            # A call in flight may belong to both days.
            self._day_calls = int(self._purpose is not None)
            self._day_stale = int(self._purpose is Purpose.STALE)
            self._day_ends_at = math.inf
            self._is_day_over = False

    def _back_off(self, now: float, asked_seconds: float) -> None:
        self._failures += 1
        # 2 ** 6 is above the longest wait, and large powers don't fit a float.
        seconds = min(_MAX_BACKOFF_SECONDS, 2.0 ** min(self._failures, 6))
        seconds *= self._jitter.uniform(0.5, 1.0)
        asked_seconds = min(asked_seconds, _MAX_FAILURE_WAIT_SECONDS)
        wait = max(1.0, seconds, asked_seconds)
        self._wait_until = max(self._wait_until, now + wait)

    def _report(self, now: float) -> None:
        calls = 0 if self._per_day is None else self._day_calls
        age = 0.0
        if not math.isinf(self._day_ends_at):
            age = now - (self._day_ends_at - _DAY_SECONDS)
        self._on_spent(Spent(self._now_us() - round(age * 1_000_000), calls))


def _used(limit: int | None, remaining: int | None) -> int | None:
    """Return how many calls the server has counted, if it is known."""
    if limit is None or remaining is None:
        return None
    return max(0, limit - remaining)
