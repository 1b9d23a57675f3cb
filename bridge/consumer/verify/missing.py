"""
Sequences that were passed over and may still come, as intervals.

Arithmetic alone: what a missing sequence means is for `judge` to say.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

import msgspec


__all__ = ["Gap", "MissingSequences", "without"]


class Gap(msgspec.Struct, frozen=True):
    """
    Sequences side by side that no record had so far.

    Attributes:
        first: The first.
        last: The last.
        after_offset: The lane's record before them; -1 if there is none.
        offset: The record at which they were missed.
        excused: How many of them compaction or retention may have taken.
    """

    first: int
    last: int
    after_offset: int
    offset: int
    excused: int = 0

    @property
    def count(self) -> int:
        """How many sequences are certainly missing."""
        return max(0, self.last - self.first + 1 - self.excused)


class MissingSequences:
    """A lane's gaps, in ascending order."""

    def __init__(self) -> None:
        self._gaps: list[Gap] = []

    def __len__(self) -> int:
        return len(self._gaps)

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps)

    def append(self, gap: Gap) -> None:
        """Add a gap behind all others."""
        self._gaps.append(gap)

    def pop_oldest(self) -> Gap:
        """Take the first gap out."""
        return self._gaps.pop(0)

    def fill(self, sequence: int) -> bool:
        """Take one sequence out; tell whether it was missing."""
        place = bisect_right(self._gaps, sequence, key=lambda gap: gap.first) - 1
        if place < 0 or self._gaps[place].last < sequence:
            return False
        gap = self._gaps[place]
        excused = gap.excused
        parts = []
        for first, last in without(gap.first, gap.last, [sequence]):
            share = min(excused, last - first + 1)
            excused -= share
            parts.append(
                msgspec.structs.replace(gap, first=first, last=last, excused=share)
            )
        self._gaps[place : place + 1] = parts
        return True


def without(first: int, last: int, taken: Sequence[int]) -> list[tuple[int, int]]:
    """
    Leave sequences out of a run.

    Args:
        first: The run's first sequence.
        last: The run's last one.
        taken: What to leave out, ascending; it may reach beyond the run.

    Returns:
        What is left, as runs of (first, last).
    """
    parts = []
    for sequence in taken[bisect_left(taken, first) : bisect_right(taken, last)]:
        if first < sequence:
            parts.append((first, sequence - 1))
        first = sequence + 1
    if first <= last:
        parts.append((first, last))
    return parts
