"""
When a call to the status endpoint may be made, within the limits of one API token.

Owns the order of those who want to call, how many calls are under way, the shares of
purposes, and the waits that a server asks for. What a minute and a day have cost stands
in `windows`, what an answer tells in `limits`.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import trio

from bridge.outbox.values import Spent
from bridge.reconciliation.limits import Limits
from bridge.reconciliation.windows import MINUTE_SECONDS, Day, Minute


__all__ = ["Budget", "Purpose"]

# dryAPI's limits of a Basic account, the smaller ones: what is assumed until an answer
# tells.
_BASIC_PER_MINUTE: Final = 50
_BASIC_PER_DAY: Final = 200

# Each more makes an answer say less about what is left. With these and answers of 50 ms
# Premium's minute is used within a few seconds.
_MOST_UNDER_WAY: Final = 4

# Silent jobs get one part of so many.
_SILENT_SHARE: Final = 4

_SHORTEST_WAIT_SECONDS: Final = 1.0
_LONGEST_WAIT_SECONDS: Final = 60.0

# A server that fails and asks for hours is asked again before that.
_MOST_RETRY_AFTER_SECONDS: Final = 300.0

_US_PER_SECOND: Final = 1_000_000


class Purpose(StrEnum):
    """What a call is for."""

    GAP = "gap"
    SILENT = "silent"


class Budget:
    """
    The calls of one API token, for all accounts that share it.

    Each call that `acquire` allows is ended by one `learn`, or by `abandon` where no
    answer will be waited for: until then it is under way, and few may be at once. After
    a start, a failure or a refusal there is one at a time, until an answer tells how
    things are.

    It is made inside of trio's loop, whose clock it keeps.

    Args:
        reserve_percent: How many percent of the calls of a minute and of a day are left
            to the user's own programs.
        now_us: The wall clock, microseconds since the epoch. It tells how old `spent`
            is, and is not looked at for anything else: a clock that is set changes
            nothing in a running process.
        spent: What the process before had spent, if anything.
        on_spent: Is told whenever the day's count changes; must not wait.
        jitter: Where chance comes from.
    """

    def __init__(
        self,
        *,
        reserve_percent: int,
        now_us: Callable[[], int],
        spent: Spent | None = None,
        on_spent: Callable[[Spent], None] = lambda _: None,
        jitter: random.Random | None = None,
    ) -> None:
        self._now_us = now_us
        self._on_spent = on_spent
        self._jitter = jitter or random.Random()
        self._minute = Minute(_BASIC_PER_MINUTE, reserve_percent)
        self._day = Day(_BASIC_PER_DAY, reserve_percent)
        self._silent: deque[float] = deque()
        self._turns = {purpose: trio.Lock() for purpose in Purpose}
        self._waiting: Counter[Purpose] = Counter()
        self._changed = trio.Event()
        self._is_taught = False
        self._failures = 0
        self._wait_until = -math.inf
        self._clock = trio.lowlevel.current_clock()
        if spent is not None:
            seconds_ago = (now_us() - spent.since_us) / _US_PER_SECOND
            self._day.restore(spent.calls, seconds_ago, self._now())
        self._reported = self._counted()

    @property
    def remaining_minute(self) -> int | None:
        """How many calls the bridge may still make in this minute; any thread."""
        return self._minute.left(self._now())

    @property
    def remaining_day(self) -> int | None:
        """How many it may still make on this day; None without a limit; any thread."""
        return self._day.left(self._now())

    @property
    def is_backing_off(self) -> bool:
        """Whether the endpoint has failed, and hasn't answered since; any thread."""
        return self._failures > 0

    async def acquire(self, purpose: Purpose) -> bool:
        """
        Wait until a call may be made, and count it.

        Callers of one purpose are served in the order in which they came; those for
        gaps before those for silent jobs.

        Args:
            purpose: What it is for.

        Returns:
            True: make it now. False: on this day none can be made for this purpose.
        """
        self._waiting[purpose] += 1
        try:
            # trio's locks are fair. No deadline: a minute or a day ends, and calls that
            # are under way have deadlines of their own.
            async with self._turns[purpose]:
                while True:
                    now = self._now()
                    at = self._possible_at(purpose, now)
                    if at is None:
                        return False
                    if at <= now:
                        # Nothing is waited for after this: it can't be cancelled.
                        self._begin(purpose, now)
                        return True
                    with trio.move_on_at(at):
                        await self._changed.wait()
        finally:
            self._waiting[purpose] -= 1
            self._tell()

    def learn(self, limits: Limits, *, failed: bool) -> None:
        """
        End a call that was answered, or failed.

        Args:
            limits: What its answer said of the limits.
            failed: Whether the endpoint failed or refused the token, so that it is left
                alone for a while.
        """
        now = self._now()
        self._adopt(limits, failed=failed)
        told_of_minute = _used(self._minute.limit, limits.minute_remaining)
        told_of_day = _used(self._day.limit, limits.day_remaining)
        # The wait that is asked for says more than that nothing is left.
        is_minute = limits.limited_by == "minute"
        self._minute.end(now, None if is_minute else told_of_minute)
        is_untold = told_of_day is None
        self._day.end(now, told_of_day, is_void=failed and is_untold)
        if is_minute:
            self._minute.clear()
            self._wait(now + (limits.retry_after_seconds or MINUTE_SECONDS))
        elif limits.limited_by == "daily":
            # No seconds are no wait that helps: then the day takes its 24 h.
            self._day.close(now, limits.retry_after_seconds or None)
        elif failed:
            self._back_off(now, limits.retry_after_seconds or 0.0)
        self._is_taught = limits.limited_by is None and not failed
        if not failed:
            self._failures = 0
        self._report()
        self._tell()

    def abandon(self, *, was_made: bool = True) -> None:
        """
        End a call whose answer nobody waits for.

        Args:
            was_made: Whether it may have reached the server; it counts then.
        """
        now = self._now()
        self._minute.end(now, None, is_void=not was_made)
        self._day.end(now, None, is_void=not was_made)
        self._report()
        self._tell()

    def spent(self) -> Spent:
        """
        Say what was spent on this day, for the next process.

        The calls are those that count: with what the server told of others, and none
        where a day has no limit.
        """
        calls, _ = self._counted()
        seconds_ago = self._day.begun_seconds_ago(self._now())
        return Spent(self._now_us() - round(seconds_ago * _US_PER_SECOND), calls)

    # -- When a call may be made -----------------------------------------------

    def _possible_at(self, purpose: Purpose, now: float) -> float | None:
        """
        Say from when on a call may be made, as far as is known now.

        Returns:
            That moment; infinite if something else must happen first, which is told by
            `_changed`; None if none may be on this day.
        """
        minute, day = self._minute, self._day
        is_silent = purpose is Purpose.SILENT
        share = minute.usable // _SILENT_SHARE if is_silent else minute.usable
        if not share:
            return None
        if day.left(now) == 0 or (
            is_silent and not day.is_left_to_silent(now, _SILENT_SHARE)
        ):
            # What is under way may bring better news.
            return math.inf if day.under_way else None
        if is_silent and self._waiting[Purpose.GAP]:
            return math.inf
        if minute.under_way >= (_MOST_UNDER_WAY if self._is_taught else 1):
            return math.inf
        at = self._wait_until
        if not minute.left(now):
            at = max(at, minute.frees_at(now))
        if is_silent and len(self._silent) >= share:
            at = max(at, self._silent[-share] + MINUTE_SECONDS)
        return at

    def _begin(self, purpose: Purpose, now: float) -> None:
        is_silent = purpose is Purpose.SILENT
        if is_silent:
            while self._silent and self._silent[0] + MINUTE_SECONDS <= now:
                self._silent.popleft()
            self._silent.append(now)
        self._minute.begin()
        self._day.begin(now, is_silent=is_silent)
        self._report()

    # -- What an answer changes ------------------------------------------------

    def _adopt(self, limits: Limits, *, failed: bool) -> None:
        """Take over the limits that an answer names."""
        if limits.per_minute is not None:
            self._minute.limit = limits.per_minute
        if limits.per_day is not None:
            self._day.limit = limits.per_day
        elif limits.day_remaining is not None:
            self._day.limit = self._day.limit or _BASIC_PER_DAY
        elif limits.per_minute is not None and not failed and not limits.limited_by:
            # An answer that names the minute's limit would name the day's as well. One
            # without any limit, of a proxy for instance, says nothing about either.
            self._day.limit = None

    def _back_off(self, now: float, asked_seconds: float) -> None:
        """Leave the endpoint alone; calls that fail together count as one failure."""
        if now < self._wait_until:
            return
        self._failures += 1
        # 2 ** 6 is above the longest wait, and large powers don't fit a float.
        seconds = min(_LONGEST_WAIT_SECONDS, 2.0 ** min(self._failures, 6))
        seconds *= self._jitter.uniform(0.5, 1.0)
        asked_seconds = min(asked_seconds, _MOST_RETRY_AFTER_SECONDS)
        self._wait(now + max(_SHORTEST_WAIT_SECONDS, seconds, asked_seconds))

    def _wait(self, until: float) -> None:
        self._wait_until = max(self._wait_until, until)

    # -- Time, and telling -----------------------------------------------------

    def _now(self) -> float:
        # As trio.current_time() says, but in any thread: metrics are read in another.
        return self._clock.current_time()

    def _counted(self) -> tuple[int, float]:
        """Give what the day's count consists of: the calls, and the day's end."""
        day = self._day
        return (0 if day.limit is None else day.calls(self._now())), day.ends_at

    def _report(self) -> None:
        counted = self._counted()
        if counted != self._reported:
            self._reported = counted
            self._on_spent(self.spent())

    def _tell(self) -> None:
        """Let those look again who wait for another reason than time."""
        self._changed.set()
        self._changed = trio.Event()


def _used(limit: int | None, remaining: int | None) -> int | None:
    """Say how many calls a server has counted that leaves so many of its limit."""
    if limit is None or remaining is None:
        return None
    return max(0, limit - remaining)
