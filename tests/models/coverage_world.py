"""What the model of hearing knows of an account, and of a gap that it was told of."""

from __future__ import annotations

import math
from enum import Enum, auto

from bridge.recovery.gap import Gap


class State(Enum):
    """Whether what is sent to an account arrives."""

    HEARD = auto()
    DEAF = auto()
    """It doesn't, and the session hasn't noticed."""
    UNHEARD = auto()
    """It doesn't, as the session knows."""


class Account:
    """
    An account as the world and its session see it.

    Attributes:
        state: Whether what is sent arrives.
        heard_us: What was sent up to then has arrived, as its session proves it; 0
            before its first subscription.
        told: Intervals of this process that must be gaps, one each.
        losses: Losses of its events that must be gaps, one each.
    """

    def __init__(self) -> None:
        self.state = State.UNHEARD
        self.heard_us = 0
        self.told = 0
        self.losses = 0


class Told:
    """A gap as a reader of the topic sees it."""

    def __init__(self, gap: Gap, *, may_overlap: bool) -> None:
        self.gap = gap
        self.may_overlap = may_overlap

    @property
    def begin(self) -> float:
        """Its begin, or minus infinity."""
        return -math.inf if self.gap.since_us is None else self.gap.since_us

    @property
    def end(self) -> float:
        """Its end, or infinity."""
        return math.inf if self.gap.until_us is None else self.gap.until_us
