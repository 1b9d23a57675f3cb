"""
What was measured of growth, kept: as JSON, by the benchmark, for tables and plots.

Owns the file's form. The committed one is what the docs show.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.growth.axes import Point
from benchmarks.machine import Machine


__all__ = ["COMMITTED", "Growth", "load"]

COMMITTED = Path(__file__).with_name("figures.json")


@dataclass(frozen=True)
class Growth:
    """
    All runs of a benchmark of growth.

    Attributes:
        made: The day, as the docs write it.
        machine: Where.
        points: What each run gave, in the order in which they ran.
    """

    made: str
    machine: Machine
    points: Sequence[Point]

    @property
    def flawless(self) -> bool:
        """Whether every event of every run arrived as it should."""
        return not any(point.flaws for point in self.points)

    def json(self) -> str:
        """Write everything, a line for each point."""
        machine = json.dumps(asdict(self.machine))
        points = ",\n".join(f"  {json.dumps(asdict(point))}" for point in self.points)
        return (
            f'{{"made": {json.dumps(self.made)},\n "machine": {machine},\n'
            f' "points": [\n{points}\n]}}\n'
        )


def load(file: Path) -> Growth:
    """Read what `Growth.json` wrote."""
    content = json.loads(file.read_text())
    machine = content["machine"]
    machine["load_average"] = tuple(machine["load_average"])
    return Growth(
        content["made"],
        Machine(**machine),
        [Point(**point) for point in content["points"]],
    )
