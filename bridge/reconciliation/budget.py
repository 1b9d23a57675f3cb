"""
When a call to the status endpoint may be made, within the limits of one API token.

Owns the order of those who want to call, how many calls are under way, the shares of
purposes, and the waits that a server asks for. What a minute and a day have cost stands
in `windows`, what an answer tells in `limits`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum

from bridge.reconciliation.limits import Limits
from bridge.record import Spent


__all__ = ["Budget", "Purpose"]


class Purpose(StrEnum):
    """What a call is for."""

    GAP = "gap"
    SILENT = "silent"


class Budget:
    """
    The calls of one API token, for all accounts that share it.

    Each call that `acquire` allows is ended by one `learn`, or by `abandon` where no
    answer will be waited for: until then it is under way, and few may be at once.

    Args:
        reserve_percent: How many percent of the calls of a minute and of a day are left
            to the user's own programs.
        now_us: The wall clock, microseconds since the epoch.
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
        raise NotImplementedError

    @property
    def remaining_minute(self) -> int | None:
        """How many calls the bridge may still make in this minute; any thread."""
        raise NotImplementedError

    @property
    def remaining_day(self) -> int | None:
        """How many it may still make on this day; None without a limit; any thread."""
        raise NotImplementedError

    @property
    def is_backing_off(self) -> bool:
        """Whether the endpoint has failed, and hasn't answered since; any thread."""
        raise NotImplementedError

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
        raise NotImplementedError

    def learn(self, limits: Limits, *, failed: bool) -> None:
        """
        End a call that was answered, or failed.

        Args:
            limits: What its answer said of the limits.
            failed: Whether the endpoint failed, so that it is left alone for a while.
        """
        raise NotImplementedError

    def abandon(self) -> None:
        """End a call whose answer nobody waits for; it counts."""
        raise NotImplementedError

    def spent(self) -> Spent:
        """Say what was spent on this day; no calls if none has begun."""
        raise NotImplementedError
