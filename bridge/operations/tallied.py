"""What metrics read of the outbox's tallies: their shapes, as in `sources`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


__all__ = ["Tallies", "Tally"]


class Tally(Protocol):
    """
    What became of records of one kind and origin; owned by `outbox`.

    `committed + found + resent` is `published + dead_lettered + quarantined + lost +
    superseded + waiting`, in each reading.
    """

    @property
    def dropped(self) -> int:
        """Records that were given up before they were rows."""

    @property
    def committed(self) -> int:
        """Rows of what this process has read."""

    @property
    def found(self) -> int:
        """Rows that were there before; counted as they leave or get their lane."""

    @property
    def resent(self) -> int:
        """Rows that a log had and lost, so that they wait and count again."""

    @property
    def published(self) -> int:
        """Rows that Kafka has, on their topic."""

    @property
    def dead_lettered(self) -> int:
        """Dead letters that Kafka has."""

    @property
    def quarantined(self) -> int:
        """Rows that were put aside."""

    @property
    def lost(self) -> int:
        """Rows that could not be read of a damaged file."""

    @property
    def superseded(self) -> int:
        """Records not needed, since the job's own event was there first."""

    @property
    def waiting(self) -> int:
        """Rows that are there, or held, and were counted."""


class Tallies(Protocol):
    """All of them, of one moment."""

    def read(self) -> Mapping[tuple[str, str], Tally]:
        """Give them by kind (`event`, `preview`, `gap`) and origin."""
