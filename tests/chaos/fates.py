"""What became of each job upstream, and what the bridge could learn of it.

Pure: the truth that `upstream` writes down and `healing_verdict` judges by. It
imports nothing of the bridge. Times are seconds since the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


__all__ = [
    "TERMINAL",
    "AccountTruth",
    "Call",
    "Fate",
    "Limits",
    "Span",
    "Step",
    "Truth",
    "after_good_time",
]

TERMINAL = {"done", "error"}


@dataclass
class Span:
    """
    A time in which something was away.

    Attributes:
        begun: From when.
        ended: Until when; infinity while it lasts.
    """

    begun: float
    ended: float = math.inf


@dataclass
class Step:
    """
    One step of a job.

    Attributes:
        status: What it is from then on.
        at: When that happened upstream.
        progress: Its progress then, as events write it.
        begun: When its event went out to soketi; None if none did.
        ended: When soketi's answer came, or the request broke.
        taken: Whether soketi took it; None for one that it may have taken.
    """

    status: str
    at: float
    progress: str = "0.00"
    begun: float | None = None
    ended: float | None = None
    taken: bool | None = False


@dataclass
class Fate:
    """
    One job as upstream knows it.

    Attributes:
        request_id: Its name.
        steps: What happened to it, in order.
        error_code: Why it failed, if it did.
    """

    request_id: str
    steps: list[Step] = field(default_factory=list)
    error_code: str | None = None

    @property
    def end(self) -> Step | None:
        """The step that ended it; None while it runs."""
        return next((step for step in self.steps if step.status in TERMINAL), None)


@dataclass(frozen=True)
class Limits:
    """
    What the status endpoint allows an account, and what is left to its owner.

    Attributes:
        per_minute: Calls a minute.
        per_day: Calls a day; None for no limit.
        reserve_percent: How many percent of both the bridge must leave.
    """

    per_minute: int
    per_day: int | None
    reserve_percent: int = 25

    @property
    def minute(self) -> int:
        """The bridge's calls of a minute."""
        return self.per_minute * (100 - self.reserve_percent) // 100

    @property
    def day(self) -> float:
        """The bridge's calls of a day."""
        if self.per_day is None:
            return math.inf
        return self.per_day * (100 - self.reserve_percent) // 100


@dataclass(frozen=True)
class Call:
    """One call of the status endpoint: when, of which job, and the answer's status."""

    at: float
    request_id: str
    code: int


@dataclass
class AccountTruth:
    """
    One account.

    Attributes:
        client_id: Its name.
        limits: What it may ask.
        retry_waits: The waits between the tries of a webhook; None if it sends none.
        fates: Its jobs by their names.
        calls: What the status endpoint was asked.
        undelivered: How many webhooks were given up, or wait still.
    """

    client_id: str
    limits: Limits
    retry_waits: Sequence[float] | None = None
    fates: dict[str, Fate] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    undelivered: int = 0


@dataclass
class Truth:
    """
    Everything that is known beside the bridge.

    Attributes:
        accounts: The accounts.
        status_faults: When the status endpoint failed.
        bridge_away: When no bridge ran.
        silent_seconds: After which silence it asks about a job without a gap.
        starts: How often the bridge was started.
    """

    accounts: list[AccountTruth]
    status_faults: list[Span] = field(default_factory=list)
    bridge_away: list[Span] = field(default_factory=list)
    silent_seconds: float = 600.0
    starts: int = 1

    def of(self, client_id: str) -> AccountTruth:
        """Give an account by its name."""
        (found,) = [each for each in self.accounts if each.client_id == client_id]
        return found


def after_good_time(begun: float, seconds: float, away: Iterable[Span]) -> float:
    """
    Tell when so much time has passed in which nothing was away.

    Args:
        begun: From when it counts.
        seconds: How much.
        away: When something was; in any order, and they may overlap.
    """
    now, left = begun, seconds
    for span in sorted(away, key=lambda each: each.begun):
        if span.ended <= now:
            continue
        if span.begun > now:
            if span.begun - now >= left:
                break
            left -= span.begun - now
        now = span.ended
    return now + left
