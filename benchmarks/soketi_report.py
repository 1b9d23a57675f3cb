"""
What contenders did with events from a real soketi, as a text for people.

Owns how it is written. Its figures stand apart from the firehose's: soketi and what
publishes to it take a part of the same cores, and soketi is slower than most who read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.course import Run
from benchmarks.figures import Spread
from benchmarks.tables import by_contender, known, of, table, write


__all__ = ["describe_soketi"]

_MEANING = (
    "Events are published through soketi's HTTP API: in batches of ten as fast as it"
    " takes them, and one by one at a rate. Latency is from before the request to a"
    " consumer's receipt."
)


def describe_soketi(runs: Sequence[Run]) -> list[str]:
    """Write a table of all runs against soketi; nothing if there are none."""
    if not runs:
        return []
    rates = sorted({run.rate for run in runs if run.rate is not None})
    head = ["contender", "events/s", "CPU us per event"]
    for rate in rates:
        head += [f"at {rate:g} events/s: p50 ms", "p99 ms", "CPU us per event"]
    head += ["start to subscribed (s)", "flaws"]
    rows = [_row(name, members, rates) for name, members in by_contender(runs).items()]
    return ["## From a real soketi", "", _MEANING, "", *table(head, rows)]


def _row(name: str, runs: Sequence[Run], rates: Sequence[float]) -> list[str]:
    floods = [run for run in runs if run.rate is None]
    cells = [
        _write(known(floods, lambda run: run.events_per_second), 0),
        _write(known(floods, lambda run: run.cpu_us_per_event), 1),
    ]
    for rate in rates:
        paced = [run for run in runs if run.rate == rate]
        cells += [
            _write(
                known(paced, lambda run: run.latency.p50 if run.latency else None), 2
            ),
            _write(
                known(paced, lambda run: run.latency.p99 if run.latency else None), 2
            ),
            _write(known(paced, lambda run: run.cpu_us_per_event), 0),
        ]
    start = write(of(runs, lambda run: run.start_seconds), 1)
    return [name, *cells, start, _flaws(runs)]


def _write(figure: Spread | None, digits: int) -> str:
    """Write a figure of the one run that there mostly is."""
    if figure is not None and figure.lowest == figure.highest:
        return f"{figure.median:,.{digits}f}"
    return write(figure, digits)


def _flaws(runs: Sequence[Run]) -> str:
    """Add up what was wrong; `none` where every event came once and in order."""
    total: dict[str, int] = {}
    for run in runs:
        if run.verdict is not None:
            for flaw, count in asdict(run.verdict).items():
                total[flaw] = total.get(flaw, 0) + count
    named = [f"{flaw} {count:,}" for flaw, count in total.items() if count]
    return ", ".join(named) or "none"
