"""
Where the CPU goes: an event's share by thread of the process.

Owns that table alone. What a thread does stands in the README beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby

from benchmarks.course import Run
from benchmarks.measuring import MAIN_THREAD
from benchmarks.tables import by_contender, of, table, write


__all__ = ["describe_threads"]

_NAMED = (MAIN_THREAD, "outbox", "kafka")


def describe_threads(runs: Sequence[Run]) -> list[str]:
    """Write each bridge's CPU by thread; nothing where no run has it."""
    ours = [
        run
        for run in runs
        if run.verdict is not None
        and "outbox" in run.usage.thread_seconds  # a bridge's
        and not run.traffic.preview_bytes
    ]
    rows = []
    for _, members in groupby(sorted(ours, key=_section), key=_section):
        for name, same in by_contender(list(members)).items():
            rate = same[0].rate
            digits = 1 if rate is None else 0
            rows.append(
                [
                    "as many as it takes" if rate is None else f"{rate:,.0f}",
                    name,
                    *(
                        write(of(same, partial(_us, thread)), digits)
                        for thread in _NAMED
                    ),
                ]
            )
    if not rows:
        return []
    head = ["events/s", "contender", "reader", "outbox's thread", "Kafka's thread"]
    return [
        "## Where the CPU goes",
        "",
        "CPU us per event by thread: median (lowest, highest).",
        "",
        *table(head, rows),
    ]


def _section(run: Run) -> tuple[float, int]:
    return float("inf") if run.rate is None else run.rate, run.traffic.events


def _us(thread: str, run: Run) -> float:
    seconds = run.usage.thread_seconds.get(thread, 0.0)
    return seconds * 1e6 / run.traffic.events
