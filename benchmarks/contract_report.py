"""
How the contract's cost is written, and whether it is little enough.

Owns the steps' names, the target and the table. It measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.figures import Spread, spread
from benchmarks.tables import table, write


__all__ = ["SMALL", "TARGET_US", "Cost", "Step", "describe_contract"]

SMALL = "no preview"
"""The load that the target is set for."""

TARGET_US = 3.0
"""What an event of that load may take between its frame's text and its record."""


class Step(StrEnum):
    """What is timed of an event."""

    FLOOR = "floor"
    """msgspec alone: the frame, then the payload, both typed; no rule is looked at."""

    FRAME = "frame"
    """`pusher.protocol.decode`."""

    PAYLOAD = "payload"
    """`job_status.parse`."""

    RECORD = "record"
    """`Intake.accept`: the payload and all that is made of it."""

    WHOLE = "whole"
    """From the frame's text to the offered record."""


@dataclass(frozen=True)
class Cost:
    """
    What one step of one load takes.

    Attributes:
        load: Its name.
        step: Which step.
        event_bytes: How long a frame is, on average.
        us: CPU microseconds an event, of each round.
    """

    load: str
    step: Step
    event_bytes: int
    us: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        """The median of all rounds, with the extremes."""
        return spread(self.us)


_MEANING = (
    "CPU us an event from the frame's text to the record that is offered. The floor is"
    " msgspec alone, frame and payload typed, which checks no rule and makes no record;"
    " the record's time has the payload's in it."
)

_HEAD = ["events", "bytes a frame", *Step, "whole / floor"]


def describe_contract(costs: Sequence[Cost]) -> list[str]:
    """
    Write the comparison.

    Args:
        costs: Of one run.

    Returns:
        Lines of Markdown; none for none.
    """
    if not costs:
        return []
    by_load: dict[str, dict[Step, Cost]] = {}
    for cost in costs:
        by_load.setdefault(cost.load, {})[cost.step] = cost
    rounds = len(costs[0].us)
    return [
        "## What the contract costs",
        "",
        f"{_MEANING} {rounds} interleaved rounds: median (lowest, highest).",
        "",
        *table(_HEAD, [_row(load, steps) for load, steps in by_load.items()]),
        *_target(by_load.get(SMALL, {})),
    ]


def _row(load: str, steps: dict[Step, Cost]) -> list[str]:
    whole, floor = steps[Step.WHOLE], steps.get(Step.FLOOR)
    ratio = whole.spread.median / floor.spread.median if floor else None
    return [
        load,
        f"{whole.event_bytes:,}",
        *(write(steps[step].spread if step in steps else None, 2) for step in Step),
        "" if ratio is None else f"{ratio:.2f}",
    ]


def _target(small: dict[Step, Cost]) -> list[str]:
    if Step.WHOLE not in small:
        return []
    median = small[Step.WHOLE].spread.median
    verdict = "met" if median <= TARGET_US else "missed"
    target = f"an event without preview takes at most {TARGET_US:g} us"
    return ["", f"- Target: {target}: {median:.2f}, {verdict}."]
