"""
The ledger of gaps for people.

`gap` reads a record, `overview` folds a topic of them into one of each, `view` shows
them with what was lost for good.
"""

from bridge.consumer.gaps.gap import Gap, NoGapError, State, as_gap
from bridge.consumer.gaps.overview import (
    Choice,
    Folded,
    NoGap,
    Overview,
    Totals,
    gaps_of,
)
from bridge.consumer.gaps.view import overview_as_json, show_overview


__all__ = [
    "Choice",
    "Folded",
    "Gap",
    "NoGap",
    "NoGapError",
    "Overview",
    "State",
    "Totals",
    "as_gap",
    "gaps_of",
    "overview_as_json",
    "show_overview",
]
