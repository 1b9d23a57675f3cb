"""
Figures of many runs as few: medians with their spread, and percentiles.

Only arithmetic; where numbers come from and how they are shown is for others.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


__all__ = ["Latency", "Spread", "latency_of", "percentile", "spread"]


@dataclass(frozen=True)
class Latency:
    """
    What events took, in milliseconds.

    Attributes:
        p50: Half of the events took no longer.
        p99: 99 of 100.
        p999: 999 of 1,000.
    """

    p50: float
    p99: float
    p999: float


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


def latency_of(milliseconds: Sequence[float]) -> Latency:
    """Sum up what at least one event took."""
    return Latency(*(percentile(milliseconds, share) for share in (50, 99, 99.9)))
