"""
Along what growth is measured, and when a cost counts as flat.

Pure: numbers come in, medians, ratios and fits go out. Where they come from is `runs`'
and `pending`'s, how they are written `report`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import Spread, spread


__all__ = [
    "AXES",
    "FLAT",
    "PARTITIONS",
    "Axis",
    "Fit",
    "Flatness",
    "Point",
    "fit",
    "flatness",
    "medians",
    "spreads",
]

# The project's own target: how many times a cost may grow along an axis.
FLAT = 1.5

# Of the topic, where something else grows.
PARTITIONS = 6


@dataclass(frozen=True)
class Axis:
    """
    What grows.

    Attributes:
        name: It, in one word.
        title: It, in a heading.
        values: At which sizes it is measured.
        quick: At which it is where that has to be quick.
        unit: What the values count.
        costs: Figures that are to stay flat, each with its words.
    """

    name: str
    title: str
    values: Sequence[int]
    quick: Sequence[int]
    unit: str
    costs: Mapping[str, str]


_FLOOD = "of a flood"
_RATE = "at 1,000 events/s"

AXES = {
    axis.name: axis
    for axis in (
        Axis(
            "sessions",
            "Accounts in one bridge",
            (1, 10, 100, 1_000),
            (1, 10),
            "accounts",
            {"flood_us": _FLOOD, "rate_us": _RATE},
        ),
        Axis(
            "pending",
            "Rows that wait in the outbox",
            (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
            (1_000, 100_000),
            "rows",
            {"accept_us": "of accepting", "drain_us": "of draining"},
        ),
        Axis(
            "partitions",
            "Partitions of the topic",
            (1, 6, 24, 50, 100, 200),
            (6, 50),
            "partitions",
            {"flood_us": _FLOOD, "rate_us": _RATE},
        ),
        Axis(
            "payload",
            "Size of an event",
            # The largest is what `limits.event_bytes` takes: with all else, 1,000,000.
            (0, 2_000, 20_000, 100_000, 999_800),
            (0, 20_000),
            "bytes of preview",
            {"of_fit": "against what its size explains"},
        ),
    )
}


@dataclass(frozen=True)
class Point:
    """
    What one run gave.

    Attributes:
        axis: The axis' name.
        value: The size.
        figures: What was measured, by name.
        flaws: What wasn't as it should be; nothing mostly.
    """

    axis: str
    value: int
    figures: Mapping[str, float]
    flaws: str = ""


def spreads(points: Sequence[Point], axis: str, name: str) -> dict[int, Spread]:
    """
    Sum up a figure of all turns.

    Args:
        points: All points.
        axis: Those of which axis.
        name: The figure's.

    Returns:
        By size, the smallest first; without sizes that don't have it.
    """
    taken: dict[int, list[float]] = {}
    for point in points:
        if point.axis == axis and name in point.figures:
            taken.setdefault(point.value, []).append(point.figures[name])
    return {value: spread(taken[value]) for value in sorted(taken)}


def medians(points: Sequence[Point], axis: str, name: str) -> dict[int, float]:
    """Take the medians of `spreads`."""
    return {
        value: figure.median for value, figure in spreads(points, axis, name).items()
    }


@dataclass(frozen=True)
class Flatness:
    """
    How far a cost is from being the same everywhere.

    Attributes:
        ratio: The highest cost in lowest ones.
        lowest_at: The size with the lowest.
        highest_at: The size with the highest.
    """

    ratio: float
    lowest_at: int
    highest_at: int

    @property
    def is_flat(self) -> bool:
        """Whether it stays within what it may be."""
        return self.ratio <= FLAT

    @property
    def falls(self) -> bool:
        """Whether it is the small that is dear."""
        return self.highest_at < self.lowest_at


def flatness(costs: Mapping[int, float]) -> Flatness:
    """
    Compare costs along an axis.

    Args:
        costs: By size; at least one.
    """
    lowest_at = min(costs, key=costs.__getitem__)
    highest_at = max(costs, key=costs.__getitem__)
    return Flatness(costs[highest_at] / costs[lowest_at], lowest_at, highest_at)


@dataclass(frozen=True)
class Fit:
    """
    A cost as a part for each event and one for each kilobyte.

    Attributes:
        each: Of an event, however small.
        kilobyte: Of 1,000 bytes.
    """

    each: float
    kilobyte: float

    def at(self, size_bytes: float) -> float:
        """Give the cost of an event of a size."""
        return self.each + self.kilobyte * size_bytes / 1000

    def residuals(self, costs: Mapping[float, float]) -> dict[float, float]:
        """Give each cost, by its size, in what the fit says."""
        return {size: cost / self.at(size) for size, cost in costs.items()}


def fit(costs: Mapping[float, float]) -> Fit:
    """
    Find the line that is nearest, by least squares of relative distances.

    A small event's cost is worth as much as that of one a thousand times as large.

    Args:
        costs: By size in bytes; at least two sizes.
    """
    # With weights of 1/cost², so that a distance counts in parts of the cost.
    rows = [(1 / cost, size / 1000 / cost) for size, cost in costs.items()]
    ones = sum(each for each, _ in rows)
    sizes = sum(size for _, size in rows)
    squares = sum(each * each for each, _ in rows)
    size_squares = sum(size * size for _, size in rows)
    mixed = sum(each * size for each, size in rows)
    determinant = squares * size_squares - mixed * mixed
    return Fit(
        each=(ones * size_squares - sizes * mixed) / determinant,
        kilobyte=(sizes * squares - ones * mixed) / determinant,
    )
