"""
What the bridge must be beside its peers, and whether it is.

Owns these targets and their verdicts: medians of the same report, the bridge's over a
peer's. A target without its runs is silent. Which peers there are is `line_up`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.course import Run
from benchmarks.peers.contenders import PYSHER
from benchmarks.tables import by_contender, known, of


__all__ = ["describe_targets"]

# All are the project's own. CPU of a small event of a flood, of the best peer's.
_MOST_CPU = 0.75

# Events/s with previews of this size, of the best peer's.
_PREVIEW_BYTES = 20_000
_LEAST_PREVIEWS = 3.0

# At this rate: CPU of an event and p99, of pysher's; p50.
_RATE = 1000
_MOST_RATE_CPU = 0.8
_MOST_P99 = 1.0
_MOST_P50_MS = 3.0

_MOST_REST_MB = 80.0

_MEANING = "The bridge's medians over those of a peer in this report."

_Runs = Mapping[str, Sequence[Run]]


def describe_targets(
    runs: Sequence[Run], measured: str, peers: Mapping[str, float | None]
) -> list[str]:
    """
    Write whether they are met.

    Args:
        runs: All runs of a benchmark.
        measured: The bridge.
        peers: Its peers, each with how many times its events/s the bridge should
            bring, small events in a flood; None where nothing is demanded.

    Returns:
        Lines of Markdown; none if no peer ran, or no bridge.
    """
    ours = [run for run in runs if run.contender == measured]
    if not ours or not any(run.contender in peers for run in runs):
        return []
    kept = [run for run in runs if run.contender == measured or run.contender in peers]
    if not all(run.verdict is None or run.verdict.flawless for run in ours):
        found = ["None counts, since not every event arrived as it should."]
        return ["## Targets", "", *found]
    found = [
        *_flood(_of_kind(kept, None, 0), measured, peers),
        *_previews(_of_kind(kept, None, _PREVIEW_BYTES), measured),
        *_trickle(_of_kind(kept, _RATE, 0), measured),
        _line(
            f"memory at rest below {_MOST_REST_MB:g} MB",
            of(ours, lambda run: run.usage.rest_bytes / 1e6).median,
            most=_MOST_REST_MB,
        ),
    ]
    return ["## Targets", "", _MEANING, "", *found]


def _flood(runs: _Runs, measured: str, peers: Mapping[str, float | None]) -> list[str]:
    if measured not in runs:
        return []
    lines = []
    for name, least in peers.items():
        if least is not None and name in runs:
            ratio = _ratio(runs, measured, name, _speed)
            aim = f"events/s at least {least:g} times those of {name}"
            lines.append(_line(aim, ratio, least=least))
    best = _best(runs, measured, _cpu, min)
    if best is not None:
        aim = f"CPU per event at most {_MOST_CPU:g} of the best peer's ({best})"
        lines.append(_line(aim, _ratio(runs, measured, best, _cpu), most=_MOST_CPU))
    return lines


def _previews(runs: _Runs, measured: str) -> list[str]:
    best = _best(runs, measured, _speed, max)
    if best is None:
        return []
    ratio = _ratio(runs, measured, best, _speed)
    aim = f"previews of {_PREVIEW_BYTES // 1000} KB: events/s at least"
    aim += f" {_LEAST_PREVIEWS:g} times those of the best peer ({best})"
    return [_line(aim, ratio, least=_LEAST_PREVIEWS)]


def _trickle(runs: _Runs, measured: str) -> list[str]:
    if measured not in runs:
        return []
    at, lines = f"at {_RATE:,} events/s", []
    if PYSHER in runs:
        for what, take, most in (
            ("CPU per event", _cpu, _MOST_RATE_CPU),
            ("p99", _p99, _MOST_P99),
        ):
            ratio = _ratio(runs, measured, PYSHER, take)
            aim = f"{at} {what} at most {most:g} of that of {PYSHER}"
            lines.append(_line(aim, ratio, most=most))
    p50 = known(runs[measured], _p50)
    if p50 is not None:
        aim = f"{at} p50 at most {_MOST_P50_MS:g} ms"
        lines.append(_line(aim, p50.median, most=_MOST_P50_MS))
    return lines


def _of_kind(runs: Sequence[Run], rate: float | None, preview_bytes: int) -> _Runs:
    return by_contender(
        [
            run
            for run in runs
            if run.rate == rate and run.traffic.preview_bytes == preview_bytes
        ]
    )


def _best(
    runs: _Runs,
    measured: str,
    take: Callable[[Run], float],
    better: Callable[..., str],
) -> str | None:
    medians = {
        name: of(members, take).median
        for name, members in runs.items()
        if name != measured
    }
    if measured not in runs or not medians:
        return None
    return better(medians, key=medians.__getitem__)


def _ratio(
    runs: _Runs, measured: str, peer: str, take: Callable[[Run], float]
) -> float:
    theirs = of(runs[peer], take).median
    return of(runs[measured], take).median / theirs if theirs else float("inf")


def _line(
    aim: str, value: float, *, least: float = 0.0, most: float = float("inf")
) -> str:
    verdict = "met" if least <= value <= most else "missed"
    return f"- {aim}: {value:.2f}, {verdict}"


def _speed(run: Run) -> float:
    return run.events_per_second


def _cpu(run: Run) -> float:
    return run.cpu_us_per_event


def _p50(run: Run) -> float | None:
    return None if run.latency is None else run.latency.p50


def _p99(run: Run) -> float:
    # A run without a single event has none.
    return run.latency.p99 if run.latency else float("inf")
