"""
What was measured of a board, as tables for people.

Owns words and columns; each figure comes from `figures`.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.board.figures import BoardRun, BoardRuns, Kind, PageRun
from benchmarks.board.load import history_jobs
from benchmarks.machine import heading
from benchmarks.tables import table


__all__ = ["for_documents", "line", "markdown", "tight"]

_MIB, _KB = 2**20, 1000

_HEAD = [
    "events/s",
    "browsers",
    "seconds",
    "CPU cores",
    "memory MiB: at rest",
    "peak",
    "grows MiB a minute",
    "lag at the end",
    "updates/s a browser",
    "KB an update",
    "KB/s a browser",
    "delay ms: p50",
    "p99",
]

_SLOW_HEAD = [
    "events/s",
    "browsers",
    "of them",
    "read",
    "updates each",
    "age ms: p50",
    "p99",
    "old ones after a pause",
    "ms to a new one",
    "ended by the board",
]

_READ = {
    Kind.SLOW: "50 KB/s",
    Kind.PAUSING: "not for 6 s, then for 4 s",
    Kind.STOPPED: "the snapshot, and on at the end",
}


def markdown(found: BoardRuns) -> str:
    """Write a whole report."""
    head = heading("What a board costs, and how late it is", found.machine)
    lines = [
        head,
        f"- {found.updates_per_second} updates/s at most",
        "",
        *table(_HEAD, [_row(run) for run in found.runs]),
        "",
        *_notes(found),
    ]
    rows = [row for run in found.runs for row in _slow_rows(run)]
    if rows:
        lines += ["", "Browsers that read badly:", "", *table(_SLOW_HEAD, rows)]
    return "\n".join([*lines, ""])


def for_documents(found: BoardRuns) -> str:
    """Write what benchmarks/README.md shows."""
    machine = found.machine
    kafka = machine.versions.get("Apache Kafka", "")
    load = machine.load_average[0]
    where = (
        f"{machine.cores} cores (load {load:.1f} before), {machine.python}, Kafka "
        f"{kafka} with one broker, revision {machine.revision}, {found.moment[:10]}."
    )
    lines = [
        where,
        "",
        *tight(table(_HEAD, [_row(run) for run in found.runs])),
        "",
        *_notes(found),
    ]
    rows = [row for run in found.runs for row in _slow_rows(run)]
    if rows:
        lines += ["", *tight(table(_SLOW_HEAD, rows))]
    return "\n".join(lines)


def line(run: BoardRun) -> str:
    """Write a run in one line."""
    delay = "" if run.delay_ms is None else f"delay {_pair(run.delay_ms)} ms  "
    return (
        f"{run.rate:>6,} events/s {run.browsers:>4} browsers  {run.cores:.2f} cores  "
        f"{run.rest_bytes / _MIB:.0f} to {run.peak_bytes / _MIB:.0f} MiB  lag {run.lag}"
        f"  {run.ordinary.updates_a_second:.2f} updates/s of "
        f"{run.ordinary.update_bytes / _KB:.1f} KB  {delay}"
        f"one more: {run.refusal}"
    )


def tight(lines: Iterable[str]) -> list[str]:
    """Take a table's padding away: no page of the docs has it."""
    cells = ([cell.strip() for cell in one.strip("|").split("|")] for one in lines)
    return [
        "| "
        + " | ".join("---" if cell and not cell.strip("-") else cell for cell in row)
        + " |"
        for row in cells
    ]


def _row(run: BoardRun) -> list[str]:
    told = run.ordinary
    delay = ["", ""] if run.delay_ms is None else [f"{ms:,.0f}" for ms in run.delay_ms]
    return [
        f"{run.rate:,}",
        str(run.browsers),
        f"{run.seconds:.0f}",
        f"{run.cores:.2f}",
        f"{run.rest_bytes / _MIB:.0f}",
        f"{run.peak_bytes / _MIB:.0f}",
        f"{run.growth_bytes_a_second * 60 / _MIB:.1f}",
        f"{run.lag:,}",
        f"{told.updates_a_second:.2f}",
        f"{told.update_bytes / _KB:.1f}",
        f"{told.bytes_a_second / _KB:,.0f}",
        *delay,
    ]


def _slow_rows(run: BoardRun) -> list[list[str]]:
    return [
        [
            f"{run.rate:,}",
            str(run.browsers),
            str(one.browsers),
            _READ[one.kind],
            f"{one.updates:.0f}",
            *(
                ["", ""]
                if one.sent_ms is None
                else [f"{ms:,.0f}" for ms in one.sent_ms]
            ),
            "" if one.stale is None else str(one.stale),
            "" if one.new_again_ms is None else f"{one.new_again_ms:,.0f}",
            str(one.ended),
        ]
        for one in run.slow
    ]


def _notes(found: BoardRuns) -> list[str]:
    runs = found.runs
    refused = sum(run.refusal == 503 for run in runs)
    most = max(run.others_cores for run in runs)
    slowest = max(run.catch_up_seconds for run in runs)
    jobs, pictured = history_jobs()
    was_there = f"{jobs:,} jobs that were there, {pictured:,} with previews"
    lines = [
        f"- One browser too many got 503 in {refused} of {len(runs)} runs.",
        f"- {was_there}, were read within {slowest:.1f} s of the board's start.",
        f"- Others used {most:.2f} cores at most.",
    ]
    short = [run for run in runs if run.events < 0.95 * run.rate * run.seconds]
    lines += [
        f"- Of {run.rate:,} events/s only {run.events / run.seconds:,.0f} came with "
        f"{run.browsers} browsers."
        for run in short
    ]
    if found.fetched is not None:
        one = found.fetched
        lines.append(
            f"- A preview of {one.size / _KB:.0f} KB that a browser fetches took "
            f"{one.cpu_us:.0f} us of the board's CPU."
        )
    if found.page is not None:
        lines.append(_of_page(found.page))
    return lines


def _of_page(page: PageRun) -> str:
    seconds, longest = page.seconds, max(page.long_ms, default=0.0)
    return (
        f"- The page in Chromium without a window, at {page.rate:,} events/s with "
        f"{page.cards} jobs: {page.frames / seconds:.0f} frames/s, "
        f"{len(page.long_ms) / seconds:.1f} tasks/s of 50 ms or more, the longest "
        f"{longest:.0f} ms. Its thread used {page.task_seconds / seconds:.2f} cores, "
        f"{page.script_seconds / seconds:.2f} for scripts and "
        f"{page.layout_seconds / seconds:.2f} for styles and layout; it fetched "
        f"{page.pictures / seconds:.1f} previews/s."
    )


def _pair(figures: tuple[float, float]) -> str:
    return " / ".join(f"{figure:,.0f}" for figure in figures)
