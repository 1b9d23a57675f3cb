"""
Growth as tables for people: the benchmark's report, and what the docs show.

Owns columns and words. It measures nothing and compares by `axes`' rules.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.figures import Spread
from benchmarks.growth.axes import (
    AXES,
    FLAT,
    Axis,
    Fit,
    Point,
    fit,
    flatness,
    medians,
    spreads,
)
from benchmarks.growth.figures import Growth
from benchmarks.machine import heading
from benchmarks.tables import table, write


__all__ = ["axis_table", "fit_of", "markdown", "verdicts"]

_MIB = 2**20

# Of each axis: a column's words, the figure, what it is divided by, digits.
_COLUMNS: dict[str, list[tuple[str, str, float, int]]] = {
    "sessions": [
        ("events/s of a flood", "events_per_second", 1, 0),
        ("CPU us an event", "flood_us", 1, 1),
        ("CPU us an event at 1,000/s", "rate_us", 1, 0),
        ("p99 ms at 1,000/s", "p99_ms", 1, 1),
        ("memory MiB at rest", "rest_bytes", _MIB, 0),
        ("start s", "start_seconds", 1, 1),
    ],
    "pending": [
        ("CPU us to accept one", "accept_us", 1, 1),
        ("CPU us to drain one", "drain_us", 1, 1),
        ("drained/s", "drained_a_second", 1, 0),
        ("opens in ms", "open_seconds", 1e-3, 0),
        ("memory MiB, opened", "rest_bytes", _MIB, 0),
        ("MB on disk", "disk_bytes", 1e6, 1),
    ],
    "partitions": [
        ("events/s of a flood", "events_per_second", 1, 0),
        ("CPU us an event", "flood_us", 1, 1),
        ("CPU us an event at 1,000/s", "rate_us", 1, 0),
        ("p99 ms at 1,000/s", "p99_ms", 1, 1),
        ("memory MiB at the peak", "peak_bytes", _MIB, 0),
    ],
    "payload": [
        ("events/s", "events_per_second", 1, 0),
        ("CPU us an event", "flood_us", 1, 1),
        ("memory MiB at the peak", "peak_bytes", _MIB, 0),
    ],
}


def markdown(growth: Growth) -> str:
    """Write the benchmark's report."""
    parts = [heading("Growth", growth.machine)]
    for axis in AXES.values():
        members = [point for point in growth.points if point.axis == axis.name]
        if not members:
            continue
        turns = max(
            sum(point.value == value for point in members)
            for value in {point.value for point in members}
        )
        lines = [
            f"## {axis.title}",
            "",
            f"Turns: {turns}. Median (lowest, highest).",
            "",
            *axis_table(axis, members),
            "",
            *(f"- {verdict}" for verdict in verdicts(axis, members)),
        ]
        lines += _notes(members)
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def axis_table(axis: Axis, points: Sequence[Point]) -> list[str]:
    """Write an axis' table: a line for each size."""
    if axis.name == "payload":
        return _payload_table(points)
    columns = [
        (head, _scaled(spreads(points, axis.name, name), divisor), digits)
        for head, name, divisor, digits in _COLUMNS[axis.name]
    ]
    sizes = sorted({point.value for point in points if point.axis == axis.name})
    rows = [
        [
            f"{size:,}",
            *(write(column.get(size), digits) for _, column, digits in columns),
        ]
        for size in sizes
    ]
    return table([axis.unit, *(head for head, _, _ in columns)], rows)


def _scaled(figures: dict[int, Spread], divisor: float) -> dict[int, Spread]:
    return {
        size: Spread(one.median / divisor, one.lowest / divisor, one.highest / divisor)
        for size, one in figures.items()
    }


def _payload_table(points: Sequence[Point]) -> list[str]:
    sizes = medians(points, "payload", "event_bytes")
    line = fit_of(points)
    columns = [
        (_scaled(spreads(points, "payload", name), divisor), digits)
        for _, name, divisor, digits in _COLUMNS["payload"]
    ]
    paces = medians(points, "payload", "events_per_second")
    costs = medians(points, "payload", "flood_us")
    rows = [
        [
            f"{size:,.0f}",
            *(write(column.get(value), digits) for column, digits in columns),
            f"{paces[value] * size / 1e6:,.0f}",
            f"{costs[value] / size * 1000:,.1f}",
            f"{costs[value] / line.at(size):.2f}",
        ]
        for value, size in sizes.items()
    ]
    heads = [head for head, _, _, _ in _COLUMNS["payload"]]
    more = ["MB/s", "CPU us a KB", "times the fit"]
    return table(["bytes an event", *heads, *more], rows)


def fit_of(points: Sequence[Point]) -> Fit:
    """Fit the cost of an event to its size."""
    sizes = medians(points, "payload", "event_bytes")
    costs = medians(points, "payload", "flood_us")
    return fit({sizes[value]: cost for value, cost in costs.items()})


def verdicts(axis: Axis, points: Sequence[Point]) -> list[str]:
    """Say of each cost of an axis whether it is flat, a sentence for each."""
    if axis.name == "payload":
        return [_fit_verdict(points)]
    sentences = []
    for name, words in axis.costs.items():
        costs = medians(points, axis.name, name)
        if not costs:
            continue
        found = flatness(costs)
        answer = "yes" if found.is_flat else "no"
        least, most = (
            f"{costs[size]:,.1f} us at {size:,}"
            for size in (found.lowest_at, found.highest_at)
        )
        course = "it falls" if found.falls else "it rises"
        sentences.append(
            f"CPU {words}: flat within {FLAT}: {answer}, {found.ratio:.2f} times"
            f" ({course}: {least}, {most} {axis.unit})"
        )
    if axis.name == "sessions" and medians(points, "sessions", "flood_us"):
        sentences.append(_of_an_account(points))
    return sentences


def _of_an_account(points: Sequence[Point]) -> str:
    """Write what an account costs in a flood, however many events it has there."""
    costs = medians(points, "sessions", "flood_us")
    (events,) = set(medians(points, "sessions", "events").values())
    few, many = min(costs), max(costs)
    more = (costs[many] - costs[few]) * events / max(many - few, 1)
    return (
        f"Of a flood's {events:,.0f} events each account more took {more:,.0f} us of"
        f" CPU, whatever it had of them ({many:,} accounts against {few:,})"
    )


def _fit_verdict(points: Sequence[Point]) -> str:
    line = fit_of(points)
    sizes = medians(points, "payload", "event_bytes")
    costs = medians(points, "payload", "flood_us")
    by_size = {sizes[value]: cost for value, cost in costs.items()}
    parts = line.residuals(by_size)
    worst = max(parts, key=lambda size: max(parts[size], 1 / parts[size]))
    ratio = max(parts[worst], 1 / parts[worst])
    answer = "yes" if ratio <= FLAT else "no"
    return (
        f"CPU of an event is {line.each:,.1f} us and {line.kilobyte:,.2f} us a KB:"
        f" flat within {FLAT} of that: {answer}, {ratio:.2f} times at"
        f" {worst:,.0f} bytes"
    )


def _notes(points: Sequence[Point]) -> list[str]:
    """Say what limits the figures: who else worked, what went wrong."""
    notes = []
    axis = points[0].axis
    if others := spreads(points, axis, "others_cores"):
        most = max(one.highest for one in others.values())
        notes.append(f"- others used {most:.2f} cores at most")
    if shares := spreads(points, axis, "written_share"):
        told = ", ".join(
            f"{one.median:.0%} at {size:,}" for size, one in shares.items()
        )
        notes.append(
            f"- the firehose had written all after so much of the time: {told}"
        )
    notes += [f"- {point.value:,}: {point.flaws}" for point in points if point.flaws]
    return ["", *notes] if notes else []
