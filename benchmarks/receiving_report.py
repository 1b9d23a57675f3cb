"""
How the receivers' cost is written, and whether the bridge's is little enough.

Owns the target and the table. It measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import Spread, spread
from benchmarks.receivers import BRIDGE, WSPROTO
from benchmarks.tables import table, write


__all__ = ["TARGET_RATIO", "Reception", "describe_receiving"]

TARGET_RATIO = 1.3
"""What the bridge may take of what wsproto alone on a trio stream takes."""


@dataclass(frozen=True)
class Reception:
    """
    What one receiver takes for one load.

    Attributes:
        load: The load's name.
        receiver: The receiver's.
        message_bytes: How long a message is.
        us: CPU microseconds a message, of each turn.
    """

    load: str
    receiver: str
    message_bytes: int
    us: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        """The median of all turns, with the extremes."""
        return spread(self.us)

    def ratio(self, floor: Reception) -> Spread:
        """Hold it against another of the same load, turn by turn."""
        pairs = zip(self.us, floor.us, strict=True)
        return spread([ours / theirs for ours, theirs in pairs])


_MEANING = (
    "CPU us a message of the thread that reads the firehose's socket, kernel and all;"
    " messages are counted, and nothing else. Beside it: times wsproto alone in that"
    " turn."
)


def describe_receiving(receptions: Sequence[Reception]) -> list[str]:
    """
    Write the comparison.

    Args:
        receptions: Of one run, each receiver with each load.

    Returns:
        Lines of Markdown; none for none.
    """
    if not receptions:
        return []
    by_load: dict[str, dict[str, Reception]] = {}
    for one in receptions:
        by_load.setdefault(one.load, {})[one.receiver] = one
    head = ["receiver"]
    for load, found in by_load.items():
        head += [f"{load}: us ({found[WSPROTO].message_bytes:,} bytes)", "times"]
    receivers = dict.fromkeys(one.receiver for one in receptions)
    rows = [[receiver, *_cells(receiver, by_load)] for receiver in receivers]
    turns = len(receptions[0].us)
    return [
        "## What receiving costs",
        "",
        f"{_MEANING} {turns} interleaved turns: median (lowest, highest).",
        "",
        *table(head, rows),
        "",
        *(_target(load, found) for load, found in by_load.items()),
    ]


def _cells(receiver: str, by_load: dict[str, dict[str, Reception]]) -> list[str]:
    cells = []
    for found in by_load.values():
        one = found[receiver]
        cells += [write(one.spread, 1), write(one.ratio(found[WSPROTO]), 2)]
    return cells


def _target(load: str, found: dict[str, Reception]) -> str:
    ratio = found[BRIDGE].ratio(found[WSPROTO]).median
    verdict = "met" if ratio <= TARGET_RATIO else "missed"
    bound = f"at most {TARGET_RATIO:g} times {WSPROTO}"
    return f"- Target, {load}: {bound}: {ratio:.2f}, {verdict}."
