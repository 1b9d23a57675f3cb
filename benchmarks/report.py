"""
Runs as a text for people (Markdown) and as JSON for programs.

Owns medians, ratios, targets, the description of the machine, and how they are written.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

from benchmarks.contenders import CONTENDERS, ROOT, versions
from benchmarks.program import say
from benchmarks.run import Run
from benchmarks.soketi import SoketiSource
from tests.kit.broker import existing_kafka
from tests.kit.downloads import KAFKA_VERSION


_RESULTS = ROOT / "benchmarks" / "results"

_MIB = 2**20

_TITLES = {name: each.title for name, each in CONTENDERS.items()}
_FLOOR = _TITLES["trio-websocket"]

BRIDGES = {each.title for each in CONTENDERS.values() if each.is_bridge}
"""Titles of the contenders whose flaws fail a benchmark."""


class Failure(NamedTuple):
    """A run that didn't complete: the title of its contender, and a line about it."""

    contender: str
    line: str


# -- What all reports share ---------------------------------------------------


def heading(title: str) -> str:
    """Write the first lines of a report; to be called before anything is started."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    libraries = ("trio", "trio-websocket", "wsproto", "aiokafka", "msgspec")
    named = {name: version(name) for name in libraries}
    named["Apache Kafka"] = "an existing broker" if existing_kafka() else KAFKA_VERSION
    named |= versions()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    lines = [
        f"# {title}",
        "",
        f"- {os.cpu_count()} cores, {platform.platform()}",
        f"- {python}, {', '.join(f'{name} {text}' for name, text in named.items())}",
        f"- revision {_revision()}",
        f"- load average before the start: {load}",
    ]
    return "\n".join(lines)


def _revision() -> str:
    """Give the commit that is measured, with `-dirty` for changed files."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]  # no tags
    try:
        return subprocess.check_output(command, cwd=ROOT, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a Markdown table's lines."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines]


def save(text: str, data: Mapping[str, Any], kind: str = "") -> None:
    """Write a report's two files, named by the moment and `kind`."""
    _RESULTS.mkdir(exist_ok=True)
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    encoded = json.dumps({"report": text, **data}, indent=2)
    for suffix, content in ((".json", encoded), (".md", text)):
        file = _RESULTS / f"{moment}{kind}{suffix}"
        file.write_text(content)
        say(f"saved {file.relative_to(ROOT)}")


# -- The report of `make bench` -----------------------------------------------


def flawless(runs: Sequence[Run], failures: Sequence[Failure]) -> bool:
    """Whether all that was sent to a bridge is on its topic, once, in order."""
    return not any(failure.contender in BRIDGES for failure in failures) and all(
        run.verdict is None or run.verdict.flawless
        for run in runs
        if run.contender in BRIDGES
    )


def markdown(head: str, runs: Sequence[Run], failures: Sequence[Failure]) -> str:
    """Write the medians of all runs, with the lowest and the highest, below `head`."""
    parts = [head]
    # The length of a flood is the contender's own.
    for _, members in groupby(sorted(runs, key=_kind), key=_kind):
        parts.append("\n".join(_section(list(members))))
    targets = [line for each in _TARGETS if (line := each.verdict(runs)) is not None]
    if targets and not flawless(runs, failures):
        targets = ["None counts, since not every event arrived as it should."]
    if targets:
        parts.append("\n".join(["## Targets", "", *targets]))
    parts.append("\n".join(_correctness(runs, failures)))
    return "\n\n".join(parts) + "\n"


_Take: TypeAlias = Callable[[Run], float | None]
_Cell: TypeAlias = Callable[[Sequence[Run]], str]


def _kind(run: Run) -> tuple[bool, float, int]:
    """Give what tables are made by; the firehose comes first, floods before rates."""
    return run.source == SoketiSource.name, run.rate or -1.0, run.traffic.preview_bytes


def _by_contender(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Sort runs by their contender, in the order in which they ran."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.contender, []).append(run)
    return found


def _median(runs: Sequence[Run], take: _Take) -> float | None:
    values = [value for run in runs if (value := take(run)) is not None]
    return statistics.median(values) if values else None


def _spread(take: _Take, digits: int) -> _Cell:
    """Make a cell of a median with its extremes; empty without a figure."""

    def cell(runs: Sequence[Run]) -> str:
        values = [value for run in runs if (value := take(run)) is not None]
        if not values:
            return ""
        median = f"{statistics.median(values):,.{digits}f}"
        if len(values) == 1:
            return median
        return f"{median} ({min(values):,.{digits}f}, {max(values):,.{digits}f})"

    return cell


def _latency(share: str) -> _Take:
    return lambda run: getattr(run.latency, share, None)


_P50, _P99 = _latency("p50"), _latency("p99")
_SPEED, _CPU = attrgetter("events_per_second"), attrgetter("cpu_us_per_event")


def _rest_mb(run: Run) -> float:
    return run.usage.rest_bytes / 1e6


def _memory(runs: Sequence[Run]) -> str:
    rest = statistics.median(run.usage.rest_bytes / _MIB for run in runs)
    peak = statistics.median(run.usage.peak_bytes / _MIB for run in runs)
    return f"{rest:.0f}, {peak:.0f}"


def _section(runs: Sequence[Run]) -> list[str]:
    """Write the table of all runs of a kind."""
    by_name = _by_contender(runs)
    rate, traffic = runs[0].rate, runs[0].traffic
    floor = _median(by_name.get(_FLOOR, []), _CPU)
    columns: dict[str, _Cell] = {"contender": lambda members: members[0].contender}
    if rate is None:
        columns |= {
            "events": lambda members: f"{members[0].traffic.events:,}",
            "events/s": _spread(_SPEED, 0),
            "CPU us per event": _spread(_CPU, 1),
            f"CPU / {_FLOOR}": lambda members: (
                f"{(_median(members, _CPU) or 0) / floor:.2f}" if floor else ""
            ),
        }
    else:
        columns |= {
            "end to end: p50 ms": _spread(_P50, 2),
            "p99 ms": _spread(_P99, 2),
            "p99.9 ms": _spread(_latency("p999"), 2),
            "CPU us per event": _spread(_CPU, 0),
        }
    columns |= {
        "memory at rest, peak (MiB)": _memory,
        "start (s)": _spread(lambda run: run.start_seconds, 1),
        "cores used by others": _spread(lambda run: run.usage.others_cores, 2),
    }
    pace = "A flood" if rate is None else f"{rate:,g} events/s"
    number = "" if rate is None else f"{traffic.events:,} "
    title = (
        f"## {pace} from {runs[0].source}: {number}events of"
        f" {traffic.frame_bytes:,} bytes, {traffic.jobs:,} jobs;"
        f" {max(map(len, by_name.values()))} interleaved runs: median (lowest, highest)"
    )
    rows = [[cell(each) for cell in columns.values()] for each in by_name.values()]
    return [title, "", *table(list(columns), rows)]


def _correctness(runs: Sequence[Run], failures: Sequence[Failure]) -> list[str]:
    lines = ["## What is on the topic", ""]
    for name, members in _by_contender(runs).items():
        verdicts = [run.verdict for run in members if run.verdict is not None]
        if not verdicts:
            continue
        flawed = [asdict(each) for each in verdicts if not each.flawless]
        lines.append(
            f"- {name}: every event once, whole and in order per job in"
            f" {len(verdicts) - len(flawed)} of {len(verdicts)} runs"
        )
        for flaws in flawed:
            named = [f"{flaw} {count:,}" for flaw, count in flaws.items() if count]
            lines.append(f"  - {', '.join(named)}")
    return lines + [f"- {failure.line}" for failure in failures]


# -- Targets ------------------------------------------------------------------

# As `_kind` gives them.
_SMALL = False, -1.0, 0
_20_KB = False, -1.0, 20_000
_AT_1000 = False, 1000.0, 0
_AT_5000 = False, 5000.0, 0
_FROM_SOKETI = True, -1.0, 0


class _Target(NamedTuple):
    """What a bridge's median must be, or that over the best of some peers' medians."""

    aim: str
    kind: tuple[bool, float, int]
    take: _Take
    least: float = 0.0
    most: float = float("inf")
    peers: tuple[str, ...] = ()
    measured: str = "bridge"

    def verdict(self, runs: Sequence[Run]) -> str | None:
        """Write whether it is met; None without its runs."""
        kept = _by_contender([run for run in runs if _kind(run) == self.kind])
        medians = {name: _median(members, self.take) for name, members in kept.items()}
        value = medians.get(_TITLES[self.measured])
        theirs = [each for name in self.peers if (each := medians.get(_TITLES[name]))]
        if value is None or (self.peers and not theirs):
            return None
        if theirs:
            value /= max(theirs) if self.least else min(theirs)
        over = f" over that of {' or '.join(_TITLES[name] for name in self.peers)}"
        bound = f"at least {self.least:g}" if self.least else f"at most {self.most:g}"
        met = "met" if self.least <= value <= self.most else "missed"
        return f"- {self.aim}{over if theirs else ''}, {bound}: {value:.2f}, {met}"


_BATCHED, _LINGER_0 = ("kafkajs-batched",), "bridge-linger-0"

# The project's own, each for the medians of one report.
_TARGETS = (
    _Target("events/s", _SMALL, _SPEED, least=4, peers=("pysher",)),
    _Target("events/s", _SMALL, _SPEED, least=1.3, peers=_BATCHED),
    _Target("events/s", _SMALL, _SPEED, least=1.2, peers=("benthos",)),
    _Target("CPU an event", _SMALL, _CPU, most=0.6, peers=("benthos",)),
    _Target("20 KB: events/s", _20_KB, _SPEED, least=2, peers=(*_BATCHED, "benthos")),
    _Target("20 KB: events/s", _20_KB, _SPEED, least=0.8, peers=("pysher-unchecked",)),
    _Target("1,000/s: CPU an event", _AT_1000, _CPU, most=0.8, peers=("pysher",)),
    _Target("1,000/s: p50", _AT_1000, _P50, most=1, peers=("pysher",)),
    _Target("1,000/s: p99", _AT_1000, _P99, most=1, peers=("pysher",)),
    _Target("1,000/s, linger 0: p50 ms", _AT_1000, _P50, most=2.5, measured=_LINGER_0),
    _Target("5,000/s: p99 ms", _AT_5000, _P99, most=20),
    _Target("soketi: events/s", _FROM_SOKETI, _SPEED, least=1, peers=_BATCHED),
    _Target("memory at rest in MB", _SMALL, _rest_mb, most=55),
)
