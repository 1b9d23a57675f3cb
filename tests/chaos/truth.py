"""What happened to each job upstream, and what the bridge could learn of it.

Pure: `upstream` writes it down, `healing` judges by it. It imports nothing of the
bridge. Times are seconds since the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


TERMINAL = {"done", "error"}


@dataclass
class Span:
    """A time in which something was away; it ends at infinity while that lasts."""

    begun: float
    ended: float = math.inf


@dataclass
class Step:
    """One step of a job: its status from then on, and what became of its event."""

    status: str
    at: float
    progress: str = "0.00"
    begun: float | None = None  # when its event was sent to soketi, if it has one
    ended: float | None = None  # when soketi's answer came, or the request broke
    taken: bool | None = False  # whether soketi took it; None if it may have


@dataclass
class UpstreamJob:
    """One job: its steps in order, and why it failed, if it did."""

    request_id: str
    steps: list[Step] = field(default_factory=list)
    error_code: str | None = None

    @property
    def end(self) -> Step | None:
        """The step that ended it; None while it runs."""
        return next((step for step in self.steps if step.status in TERMINAL), None)


@dataclass(frozen=True)
class Limits:
    """The bridge's calls of the status endpoint: three quarters of the account's."""

    minute: int
    day: float


@dataclass(frozen=True)
class Call:
    """One call of the status endpoint: when, of which job, and the answer's status."""

    at: float
    request_id: str
    code: int


@dataclass
class AccountTruth:
    """One account: its limits, its jobs by their names, and its calls."""

    client_id: str
    limits: Limits
    # The waits between the tries of a webhook; None if it sends none.
    retry_waits: Sequence[float] | None = None
    jobs: dict[str, UpstreamJob] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    undelivered: int = 0  # webhooks that were abandoned, or still wait


@dataclass
class Truth:
    """Everything that is known beside the bridge."""

    accounts: list[AccountTruth]
    status_faults: list[Span] = field(default_factory=list)
    bridge_away: list[Span] = field(default_factory=list)  # each ends with a start
    # After which silence the bridge asks about a job without a gap.
    stale_seconds: float = 600.0


def after_good_time(begun: float, seconds: float, away: Iterable[Span]) -> float:
    """Give the moment after so much time in which nothing was away."""
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
