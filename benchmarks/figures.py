"""
Figures of many runs as few: medians with their spread, and percentiles.

Only arithmetic; where numbers come from and how they are shown is for others.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


__all__ = ["Spread", "percentile", "spread"]


@dataclass(frozen=True)
class Spread:
    """
    What several runs gave.

    Attributes:
        median: The middle one.
        lowest: The smallest.
        highest: The largest.
    """

    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """Take the median and the extremes of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """
    Take the value that `percent` of the values don't exceed (nearest rank).

    Args:
        values: At least one.
        percent: Above 0, at most 100.
    """
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]
