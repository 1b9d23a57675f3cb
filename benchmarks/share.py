"""
What the outbox on disk adds to the bridge, and whether that is little enough.

Owns the comparison with the outbox in memory, its targets and how they are written.
Differences are taken turn by turn, between runs that were made one after the other:
the machine's drift hits both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from benchmarks.course import Run
from benchmarks.figures import Latency, Spread, spread
from benchmarks.tables import by_contender, known, of, table, write


__all__ = ["FLOOD_CPU_US", "P50_MS", "describe_share"]

# The project's own targets: what the outbox may add to an event of a flood, and to
# the median of one that comes at a rate.
FLOOD_CPU_US = 4.0
P50_MS = 1.0

# And what an event may take in all, at this rate on one broker.
_RATE = 1000
_P50_MS_AT_RATE = 3.0
_P99_MS_AT_RATE = 15.0

_MEANING = (
    "CPU per event and the time from the bridge's read of the socket to the"
    " broker's acknowledgement, beside a bridge whose outbox is in memory."
    " Differences are taken turn by turn: median (lowest, highest)."
)

_HEAD = [
    "events/s",
    "CPU us: on disk",
    "in memory",
    "the outbox adds",
    "ratio",
    "p50 ms: on disk",
    "in memory",
    "the outbox adds",
    "p99 ms: on disk",
    "in memory",
]


def describe_share(runs: Sequence[Run], on_disk: str, in_memory: str) -> list[str]:
    """
    Write the comparison.

    Args:
        runs: All runs of a benchmark.
        on_disk: The contender with the bridge's own outbox.
        in_memory: The one whose outbox is in memory.

    Returns:
        Lines of Markdown; none if one of the two didn't run.
    """
    pairs = _pairs(runs, on_disk, in_memory)
    if not pairs:
        return []
    rows = [_row(disk, memory) for disk, memory in pairs]
    return [
        "## What the outbox adds",
        "",
        _MEANING,
        "",
        *table(_HEAD, rows),
        "",
        *_targets(pairs),
    ]


_Pair = tuple[list[Run], list[Run]]


def _pairs(runs: Sequence[Run], on_disk: str, in_memory: str) -> list[_Pair]:
    """Give both contenders' runs of the same events, the lowest rate first."""
    ours = [
        run
        for run in runs
        if run.contender in {on_disk, in_memory} and not run.traffic.preview_bytes
    ]
    pairs = []
    for _, members in groupby(sorted(ours, key=_section), key=_section):
        sides = by_contender(list(members))
        if len(sides) == 2:
            turns = min(map(len, sides.values()))
            pairs.append((sides[on_disk][:turns], sides[in_memory][:turns]))
    return pairs


def _section(run: Run) -> tuple[float, int]:
    return float("inf") if run.rate is None else run.rate, run.traffic.events


def _row(disk: list[Run], memory: list[Run]) -> list[str]:
    cpu_disk, cpu_memory = of(disk, _cpu), of(memory, _cpu)
    rate = disk[0].rate
    digits = 1 if rate is None else 0
    return [
        "as many as it takes" if rate is None else f"{rate:,.0f}",
        write(cpu_disk, digits),
        write(cpu_memory, digits),
        write(_added(disk, memory, _cpu), digits),
        f"{cpu_disk.median / cpu_memory.median:.2f}" if cpu_memory.median else "",
        write(known(disk, _p50), 2),
        write(known(memory, _p50), 2),
        write(_added(disk, memory, _p50), 2),
        write(known(disk, _p99), 2),
        write(known(memory, _p99), 2),
    ]


def _added(
    disk: list[Run], memory: list[Run], take: Callable[[Run], float | None]
) -> Spread | None:
    differences = [
        more - less
        for one, other in zip(disk, memory, strict=True)
        if (more := take(one)) is not None and (less := take(other)) is not None
    ]
    return spread(differences) if differences else None


def _targets(pairs: list[_Pair]) -> list[str]:
    lines = []
    for disk, memory in pairs:
        rate = disk[0].rate
        flawless = all(
            run.verdict is None or run.verdict.flawless for run in (*disk, *memory)
        )
        if rate is None:
            what = "the outbox adds at most"
            added = _added(disk, memory, _cpu)
            lines += _judged(
                f"{what} {FLOOD_CPU_US:g} us of CPU to an event of a flood",
                added,
                FLOOD_CPU_US,
                flawless=flawless,
            )
            continue
        lines += _judged(
            f"at {rate:,.0f} events/s the outbox adds at most {P50_MS:g} ms to p50",
            _added(disk, memory, _p50),
            P50_MS,
            flawless=flawless,
        )
        if rate == _RATE:
            for name, take, bound in (
                ("p50", _p50, _P50_MS_AT_RATE),
                ("p99", _p99, _P99_MS_AT_RATE),
            ):
                lines += _judged(
                    f"at {rate:,.0f} events/s {name} is at most {bound:g} ms from"
                    " socket to acknowledgement",
                    known(disk, take),
                    bound,
                    flawless=flawless,
                )
    return lines


def _judged(
    target: str, figure: Spread | None, bound: float, *, flawless: bool
) -> list[str]:
    if figure is None:
        return []
    if not flawless:
        verdict = "doesn't count, since not every event arrived as it should"
    else:
        verdict = "met" if figure.median <= bound else "missed"
    return [f"- Target: {target}: {figure.median:.2f}, {verdict}."]


def _cpu(run: Run) -> float:
    return run.cpu_us_per_event


def _p50(run: Run) -> float | None:
    return _of_latency(run.acknowledged, lambda latency: latency.p50)


def _p99(run: Run) -> float | None:
    return _of_latency(run.acknowledged, lambda latency: latency.p99)


def _of_latency(
    latency: Latency | None, take: Callable[[Latency], float]
) -> float | None:
    return None if latency is None else take(latency)
