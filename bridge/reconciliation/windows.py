"""
What a minute and a day of calls have cost: the own count, and what the server tells.

Two counts with no clock of their own: each moment is given by the caller, in seconds of
one monotonic clock. Who may call stands in `budget`.

How the two are brought together. An answer tells how many calls its server had counted
when it was made, those of the user's own programs with them. Calls that overlapped with
it may be in that number or not, so it says only this for certain: the server has
counted no fewer; and no more than that and all other calls of this *spell*, which is
the time since nothing was under way: whatever was answered before the spell, the server
knew. A count outside of these bounds is wrong, and is moved to the nearer one.

While calls are under way, each of them is taken to be missing in what was told. Near
the limit that lets them run out, and then the last answer is exact.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final


__all__ = ["MINUTE_SECONDS", "Day", "Minute"]

MINUTE_SECONDS: Final = 60.0
_DAY_SECONDS: Final = 86_400.0


class _Window:
    """
    What both have in common: calls under way, and what was told in this spell.

    Attributes:
        under_way: Calls that have begun and not ended.
    """

    def __init__(self, reserve_percent: int) -> None:
        self.under_way = 0
        self._in_spell = 0
        self._told = 0
        self._usable_percent = 100 - reserve_percent

    def _usable(self, limit: int) -> int:
        return limit * self._usable_percent // 100

    def _begin(self) -> None:
        self.under_way += 1
        self._in_spell += 1

    def _corrected(self, count: int, told: int | None) -> int:
        """Hold a count against what an answer tells, before its call is ended."""
        if told is None:
            return count
        self._told = max(self._told, told)
        others = max(0, self._in_spell - 1)
        # Answers overtake one another: an older one takes back nothing of a newer one.
        return max(told, min(count, self._told + others))

    def _end(self) -> None:
        self.under_way = max(0, self.under_way - 1)
        if not self.under_way:
            self._in_spell = self._told = 0

    def _cost(self, count: int) -> int:
        return max(count, self._told + self.under_way) if self.under_way else count


class Minute(_Window):
    """
    The calls of the last 60 s, counted from their answers on.

    Laravel's windows are fixed, begin with their first call and can't be seen from
    outside. All calls of one window reach the server within 60 s of one another. A call
    reaches it between its begin and its answer; if it counts from its begin until 60 s
    after its answer, then of any two calls that may share a window the later one counts
    the earlier. So no window holds more calls than this does, wherever it begins; nor
    does one that slides.

    Args:
        limit: How many calls the server allows.
        reserve_percent: How many percent of them are left alone.

    Attributes:
        limit: As above; may be set.
    """

    def __init__(self, limit: int, reserve_percent: int) -> None:
        super().__init__(reserve_percent)
        self.limit = limit
        # When, and how many: what the server tells of others comes as one entry.
        self._ended: deque[tuple[float, int]] = deque()
        # Once they were seen to: a minute then takes as much longer as its calls take.
        self._others_call = False

    @property
    def usable(self) -> int:
        """How many calls of a whole minute may be used."""
        return self._usable(self.limit)

    def left(self, now: float) -> int:
        """Say how many calls may be made now; any thread may ask."""
        return max(0, self.usable - self._cost(self._count(now)))

    def frees_at(self, now: float) -> float:
        """Say when the next call stops counting."""
        for at, _ in self._ended:
            if at + MINUTE_SECONDS > now:
                return at + MINUTE_SECONDS
        return math.inf

    def begin(self) -> None:
        """Count a call."""
        self._begin()

    def end(self, now: float, told: int | None, *, is_void: bool = False) -> None:
        """
        Let a call end.

        Args:
            now: This moment.
            told: How many calls its server had counted, if it said so.
            is_void: It never was made.
        """
        if self.under_way and not is_void:
            self._ended.append((now, 1))
        while self._ended and self._ended[0][0] + MINUTE_SECONDS <= now:
            self._ended.popleft()
        # The ended call is among both.
        under_way = max(0, self.under_way - 1)
        count = under_way + sum(calls for _, calls in self._ended)
        corrected = self._corrected(count, told)
        self._others_call |= corrected > count
        if corrected != count or (self._others_call and told is not None):
            # Whose calls the server counts isn't known: those that it has forgotten,
            # when a window ended, may be as many as others have made. Known is only
            # that what it counts was made before now.
            self._ended.clear()
            self._ended.append((now, corrected - under_way))
        self._end()

    def clear(self) -> None:
        """Forget what has ended: the server has said when the next call may be made."""
        self._ended.clear()
        # It wouldn't have to, were there no others.
        self._others_call = True

    def _count(self, now: float) -> int:
        # A copy, since metrics are read in another thread.
        ended = tuple(self._ended)
        return self.under_way + sum(
            calls for at, calls in ended if at + MINUTE_SECONDS > now
        )


class Day(_Window):
    """
    The calls of 24 h that begin with their first one, as the server's do.

    They end 24 h after that call's answer, not after its begin: so the server's day is
    over by then. Until nothing is under way each answer could be the first one's.

    Args:
        limit: How many calls the server allows; None if it sets no limit.
        reserve_percent: How many percent of them are left alone.

    Attributes:
        limit: As above; may be set.
        ends_at: When the day is over; infinite before its first call.
    """

    def __init__(self, limit: int | None, reserve_percent: int) -> None:
        super().__init__(reserve_percent)
        self.limit = limit
        self.ends_at = math.inf
        self._calls = 0
        self._own = 0
        self._silent = 0
        self._silent_under_way = 0
        self._is_beginning = False
        self._is_over = False

    def restore(self, calls: int, seconds_ago: float, now: float) -> None:
        """
        Go on with the day of the process before.

        Which of its calls were for silent jobs isn't known: all of them may have been.

        Args:
            calls: What it had cost.
            seconds_ago: When it began. A negative number is a clock that was set back:
                then it begins now, and lasts a day at most.
            now: This moment.
        """
        if seconds_ago < _DAY_SECONDS:
            self._calls = self._own = self._silent = calls
            self.ends_at = now + _DAY_SECONDS - max(0.0, seconds_ago)

    def calls(self, now: float) -> int:
        """Say what the day has cost so far."""
        return self.under_way if now >= self.ends_at else self._calls

    def begun_seconds_ago(self, now: float) -> float:
        """Say how long ago the day began; 0 if none has."""
        if now >= self.ends_at or math.isinf(self.ends_at):
            return 0.0
        return now - (self.ends_at - _DAY_SECONDS)

    def left(self, now: float) -> int | None:
        """Say how many calls may be made now; any thread may ask."""
        if self._is_over and now < self.ends_at:
            return 0
        if self.limit is None:
            return None
        return max(0, self._usable(self.limit) - self._cost(self.calls(now)))

    def is_left_to_silent(self, now: float, share: int) -> bool:
        """
        Whether silent jobs may have another call of what the bridge may use.

        Args:
            now: This moment.
            share: How many parts that has, of which one is theirs.
        """
        left = self.left(now)
        if left is None or now >= self.ends_at:
            return left != 0
        return self._silent < (self._own + left) // share

    def begin(self, now: float, *, is_silent: bool) -> None:
        """Count a call; the first one begins the day."""
        self._turn(now)
        self._begin()
        self._calls += 1
        self._own += 1
        self._silent += is_silent
        self._silent_under_way += is_silent
        if math.isinf(self.ends_at):
            self.ends_at = now + _DAY_SECONDS
            self._is_beginning = True

    def end(self, now: float, told: int | None, *, is_void: bool = False) -> None:
        """
        Let a call end.

        Args:
            now: This moment.
            told: How many calls its server had counted, if it said so.
            is_void: It counts no more: it never was made, or it failed, and an incident
                of a few hours must not use the day up. If the server did count it, its
                next answer tells.
        """
        self._turn(now)
        # Which call it is isn't told. It matters in an incident alone, and then there
        # is one at a time.
        is_silent = 0 < self._silent_under_way == self.under_way
        self._silent_under_way -= is_silent
        if is_void and self.under_way:
            self._calls -= 1
            self._own -= 1
            self._silent -= is_silent
        self._calls = self._corrected(self._calls, told)
        self._end()
        if self._is_beginning:
            self.ends_at = now + _DAY_SECONDS
            self._is_beginning = self.under_way > 0

    def close(self, now: float, seconds: float | None) -> None:
        """
        End the day's calls: the server refuses more of them.

        Args:
            now: This moment.
            seconds: For how long; until the day's end if None.
        """
        if seconds is not None:
            self.ends_at = now + seconds
        elif math.isinf(self.ends_at):
            self.ends_at = now + _DAY_SECONDS
        self._is_beginning = False
        self._is_over = True
        if self.limit is not None:
            self._calls = max(self._calls, self.limit)

    def _turn(self, now: float) -> None:
        """Begin anew if the day is over; what is under way may belong to both."""
        if now < self.ends_at:
            return
        self._calls = self._own = self.under_way
        self._silent = self._silent_under_way
        self._is_over = False
        self._is_beginning = self.under_way > 0
        self.ends_at = now + _DAY_SECONDS if self.under_way else math.inf
