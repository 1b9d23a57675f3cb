"""
How figures of several runs stand in a Markdown table.

Owns their shape alone; which figures are shown is for the reports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.course import Run
from benchmarks.figures import Spread, spread


__all__ = ["by_contender", "known", "of", "table", "write"]


def by_contender(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Sort runs by their contender, in the order in which they ran."""
    sorted_runs: dict[str, list[Run]] = {}
    for run in runs:
        sorted_runs.setdefault(run.contender, []).append(run)
    return sorted_runs


def of(runs: Sequence[Run], take: Callable[[Run], float]) -> Spread:
    """Take a figure of each run; there is at least one."""
    return spread([take(run) for run in runs])


def known(runs: Sequence[Run], take: Callable[[Run], float | None]) -> Spread | None:
    """Take a figure of each run that has it; None if none has."""
    values = [value for run in runs if (value := take(run)) is not None]
    return spread(values) if values else None


def write(figure: Spread | None, digits: int) -> str:
    """Write a median with its extremes; nothing for nothing."""
    if figure is None:
        return ""
    median, lowest, highest = (
        f"{value:,.{digits}f}"
        for value in (figure.median, figure.lowest, figure.highest)
    )
    return f"{median} ({lowest}, {highest})"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Write a table's lines."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return [
        "| "
        + " | ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        )
        + " |"
        for line in lines
    ]
