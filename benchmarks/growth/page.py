"""
Writes what was measured into docs/sizing.md, between its marks.

Owns the blocks that stand there; all other words are the page's own.

    python -m benchmarks.growth.page                  writes the page anew
    python -m benchmarks.growth.page --figures FILE   takes that file's figures first
    python -m benchmarks.growth.page --check          says whether it is stale; exits 1
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import ROOT
from benchmarks.growth.axes import AXES, Point, medians
from benchmarks.growth.figures import COMMITTED, Growth, load
from benchmarks.growth.report import axis_table, verdicts
from benchmarks.growth.sizing import Load, Needs, costs_of, needs_of
from benchmarks.tables import table


__all__ = ["PAGE", "build", "main"]

PAGE = ROOT / "docs" / "sizing.md"

_BLOCK = re.compile(
    r"(<!-- growth: (?P<name>[a-z]+) -->\n).*?(<!-- growth: end -->)", re.DOTALL
)

_MIB, _GB, _MB = 2**20, 1e9, 1e6

# The load that is worked out: with and without previews, as image jobs have them.
SMALL = Load(
    accounts=1_000,
    jobs_a_day=1_000_000,
    events_a_job=10,
    previews_a_job=0,
    preview_bytes=0,
    peak=5,
    job_seconds=30,
)
PREVIEWS = Load(
    accounts=1_000,
    jobs_a_day=1_000_000,
    events_a_job=10,
    previews_a_job=8,
    preview_bytes=20_000,
    peak=5,
    job_seconds=30,
)


def build(text: str, growth: Growth) -> str:
    """
    Write the blocks of a page anew.

    Args:
        text: The page.
        growth: What was measured.

    Returns:
        The page with its blocks.
    """

    def fill(match: re.Match[str]) -> str:
        lines = _block(match["name"], growth)
        return "\n".join([match[1], *map(_tight, lines), "", match[3]])

    return _BLOCK.sub(fill, text)


def _tight(line: str) -> str:
    """Take a table's padding away: no page of the docs has it."""
    if set(line) <= set("|- "):
        return re.sub(r"-+", "---", line)
    return re.sub(r" +\|", " |", line)


def _block(name: str, growth: Growth) -> list[str]:
    if name == "machine":
        return _machine(growth)
    if name == "pod":
        return _pod(growth.points)
    if name == "needs":
        return _needs(growth.points)
    axis = AXES[name]
    points = [point for point in growth.points if point.axis == name]
    said = [f"- {verdict}" for verdict in verdicts(axis, points)]
    return [*axis_table(axis, points), "", *said]


def _machine(growth: Growth) -> list[str]:
    machine = growth.machine
    most = max(
        sum(
            point.axis == one.axis and point.value == one.value
            for point in growth.points
        )
        for one in growth.points
    )
    versions = machine.versions
    named = ", ".join(
        f"{name} {versions[name]}" for name in ("trio", "aiokafka") if name in versions
    )
    kafka = versions.get("Apache Kafka", "")
    load = machine.load_average[0]
    sentence = (
        f"{machine.cores} cores (load {load:.1f} before), {machine.python}, {named},"
        f" Kafka {kafka} with one broker, {_times(most)} at each size: median"
        f" (lowest, highest). {growth.made}."
    )
    return [sentence]


def _times(turns: int) -> str:
    return "once" if turns == 1 else f"{turns} times"


def _pod(points: Sequence[Point]) -> list[str]:
    """Say what one process carries, in a few numbers."""
    paces = medians(points, "payload", "events_per_second")
    sizes = medians(points, "payload", "event_bytes")
    costs = costs_of(points)
    rows = [
        [
            f"events/s of {sizes[value]:,.0f} bytes, as fast as it takes them",
            f"{pace:,.0f}",
        ]
        for value, pace in paces.items()
    ]
    accounts = max(medians(points, "sessions", "rate_us"))
    rows += [
        [
            f"cores at 1,000 events/s, {accounts:,} accounts",
            f"{costs.rate_us * 1_000 / 1e6:.2f}",
        ],
        ["memory at rest, one account", f"{costs.base_bytes / _MIB:.0f} MiB"],
        ["memory of each account more", f"{costs.account_bytes / 1024:.0f} KiB"],
        ["disk of a small event that waits", f"{costs.row_bytes:.0f} bytes"],
        ["brought to Kafka after an outage", f"{costs.drained_a_second:,.0f} events/s"],
    ]
    return table(["what one process carries or takes", "measured"], rows)


def _needs(points: Sequence[Point]) -> list[str]:
    costs = costs_of(points)
    small, large = needs_of(SMALL, costs), needs_of(PREVIEWS, costs)
    return table(
        ["what", "how it is worked out", "no previews", "8 previews of 20 KB a job"],
        [
            [what, how, write_small, write_large]
            for what, how, write_small, write_large in _rows(small, large)
        ],
    )


def _rows(small: Needs, large: Needs) -> list[tuple[str, str, str, str]]:
    both = (small, large)

    def row(what: str, how: str, *told: str) -> tuple[str, str, str, str]:
        return what, how, told[0], told[1]

    return [
        row(
            "events/s, mean",
            "jobs a day times events a job / 86,400 s",
            *(f"{one.mean:,.0f}" for one in both),
        ),
        row(
            "events/s in the busiest hour",
            f"mean times {SMALL.peak:g}",
            *(f"{one.peak:,.0f}" for one in both),
        ),
        row(
            "CPU cores then, at most",
            "CPU us at 1,000/s and the largest number of accounts times 1,000,"
            " and us a KB times KB/s of previews",
            *(f"{one.cores:.2f}" for one in both),
        ),
        row(
            "memory at rest",
            "one account's, KiB of each account more, 14 bytes an ended job, 940 a"
            " job in flight",
            *(f"{one.memory_bytes / _MIB:,.0f} MiB" for one in both),
        ),
        row(
            "jobs in flight then",
            f"jobs/s times {SMALL.job_seconds:g} s",
            *(f"{one.in_flight:,.0f}" for one in both),
        ),
        row(
            "into Kafka then, no codec",
            "events/s times (540 bytes and what of a preview an event has)",
            *(f"{one.kafka_bytes / _MB:.1f} MB/s" for one in both),
        ),
        row(
            "into Kafka a day, before replication",
            "the same times a day's events",
            *(f"{one.day_bytes / _GB:,.0f} GB" for one in both),
        ),
        row(
            "disk for an hour without Kafka then",
            "events times (bytes of a waiting row and its preview)",
            *(f"{one.outage_bytes / _GB:.1f} GB" for one in both),
        ),
        row(
            "until that is in Kafka, events going on",
            "rows / (drained/s less events/s)",
            *(_duration(one.drain_seconds) for one in both),
        ),
        row(
            "WebSockets",
            "one an account",
            *(f"{one.sockets:,}" for one in both),
        ),
        row(
            "pings/s then, at most",
            "one an account every two seconds, if it has events",
            *(f"{one.pings:.0f}" for one in both),
        ),
        row(
            "auth requests at a start",
            "one an account, ten at once and then 100/s",
            *(f"{one.sockets:,} in {one.start_seconds:.0f} s" for one in both),
        ),
    ]


def _duration(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Write the page, or check that the one on disk is what would be written.

    Returns:
        The exit code: 1 if `--check` found it stale, or an axis has no figures.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth.page",
        description="Write what was measured of growth into docs/sizing.md.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if it is stale"
    )
    parser.add_argument(
        "--figures", type=Path, help="take this benchmark's figures for the docs"
    )
    options = parser.parse_args(arguments)
    if options.figures is not None:
        growth = load(options.figures)
        measured = {point.axis for point in growth.points if point.figures}
        if missing := sorted(AXES.keys() - measured):
            sys.stdout.write(f"{options.figures} has no {', '.join(missing)}\n")
            return 1
        COMMITTED.write_text(growth.json())
    before = PAGE.read_text()
    after = build(before, load(COMMITTED))
    if after == before:
        return 0
    if options.check:
        sys.stdout.write(f"{PAGE} is stale: run `make plots`\n")
        return 1
    PAGE.write_text(after, newline="\n")
    sys.stdout.write(f"{PAGE} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
