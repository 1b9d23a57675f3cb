"""
Runs as a text for people (Markdown) and as JSON for programs.

Owns medians, ratios, targets and how they are written. It measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby

from benchmarks.course import Run
from benchmarks.machine import Machine, heading
from benchmarks.receiving_report import Reception, describe_receiving
from benchmarks.soketi_report import describe_soketi
from benchmarks.tables import by_contender, known, of, table, write
from benchmarks.targets import describe_targets
from benchmarks.traffic import Traffic, frame_of
from benchmarks.upstream import FIREHOSE


__all__ = ["CPU_TARGET", "Failure", "Report"]

# What the bridge may use of the CPU that trio-websocket alone needs in the same
# run; the project's own target.
CPU_TARGET = 1.8

_MIB = 2**20

_MEANING = "End to end is from the server's write to the consumer's receipt."


@dataclass(frozen=True)
class Failure:
    """
    A run that didn't come to its end, of a peer or from a real soketi.

    Attributes:
        contender: Its name.
        traffic: The events.
        rate: Events a second; None for a flood.
        reason: What went wrong.
        source: From where events came.
    """

    contender: str
    traffic: Traffic
    rate: float | None
    reason: str
    source: str = FIREHOSE


@dataclass(frozen=True)
class Report:
    """
    All runs of a benchmark.

    Attributes:
        machine: Where they were made.
        floor: The contender that ratios are taken of.
        measured: The one that targets are set for.
        runs: All of them, in the order in which they ran.
        receiving: What a message costs between the socket and a run.
        peers: Contenders whose flaws are told, and don't count; each with how many
            times its events/s the bridge is to bring, if that is a target.
        failures: Runs that have no figures.
        skipped: Who didn't run, and why.
    """

    machine: Machine
    floor: str
    measured: str
    runs: Sequence[Run]
    receiving: Sequence[Reception] = ()
    peers: Mapping[str, float | None] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def flawless(self) -> bool:
        """Whether all that was sent to a bridge is on its topic, once, in order."""
        ours = [run for run in self.runs if run.contender not in self.peers]
        failed = {failure.contender for failure in self.failures}
        return _flawless(ours) and failed <= self.peers.keys()

    def json(self) -> str:
        """Write all that was measured, run by run."""
        return json.dumps(asdict(self), indent=2)

    def markdown(self) -> str:
        """Write the medians, with the lowest and the highest run."""
        parts = [heading("Benchmark", self.machine)]
        if self.skipped:
            parts.append("\n".join(map(_left_out, self.skipped.items())))
        runs = [run for run in self.runs if run.source == FIREHOSE]
        ordered = sorted(runs, key=_section)
        for (rate, _, _), members in groupby(ordered, key=_section):
            section = list(members)
            parts.append(self._flood(section) if rate < 0 else _trickle(section))
        compared = (
            describe_soketi([run for run in self.runs if run.source != FIREHOSE]),
            describe_targets(runs, self.measured, self.peers),
            describe_receiving(self.receiving),
        )
        parts += ["\n".join(lines) for lines in compared if lines]
        parts.append(self._correctness())
        return "\n\n".join(parts) + "\n"

    def _flood(self, runs: Sequence[Run]) -> str:
        by_name = by_contender(runs)
        floor = by_name.get(self.floor)
        floor_us = of(floor, lambda run: run.cpu_us_per_event).median if floor else 0.0
        rows = []
        for name, members in by_name.items():
            cpu = of(members, lambda run: run.cpu_us_per_event)
            ratio = f"{cpu.median / floor_us:.2f}" if floor_us else ""
            rows.append(
                [
                    name,
                    f"{members[0].traffic.events:,}",
                    write(of(members, lambda run: run.events_per_second), 0),
                    write(cpu, 1),
                    ratio,
                    *_always(members),
                ]
            )
        head = ["contender", "events", "events/s", "CPU us per event"]
        head.append(f"CPU / {self.floor}")
        lines = [
            f"## As fast as the socket takes them: {_amount(runs)}",
            "",
            *table([*head, *_ALWAYS], rows),
        ]
        measured = by_name.get(self.measured)
        if floor_us and measured and not runs[0].traffic.preview_bytes:
            lines += ["", self._target(measured, floor_us)]
        return "\n".join(lines)

    def _target(self, runs: Sequence[Run], floor_us: float) -> str:
        ratio = of(runs, lambda run: run.cpu_us_per_event).median / floor_us
        if not _flawless(runs):
            verdict = "doesn't count, since not every event arrived as it should"
        else:
            verdict = "met" if ratio <= CPU_TARGET else "missed"
        bound = f"{CPU_TARGET} times {self.floor}'s"
        return f"Target: CPU per event at most {bound}: {ratio:.2f}, {verdict}."

    def _correctness(self) -> str:
        lines = ["## What stood on the topic", ""]
        for name, members in by_contender(self.runs).items():
            verdicts = [run.verdict for run in members if run.verdict is not None]
            if not verdicts:
                continue
            flawed = [verdict for verdict in verdicts if not verdict.flawless]
            lines.append(
                f"- {name}: every event once, whole and in order per job in"
                f" {len(verdicts) - len(flawed)} of {len(verdicts)} runs"
            )
            lines += [f"  - {_write_flaws(asdict(verdict))}" for verdict in flawed]
        lines += map(_failed, self.failures)
        return "\n".join(lines)


_ALWAYS = ["memory at rest, peak (MiB)", "start (s)", "cores used by others"]


def _always(runs: Sequence[Run]) -> list[str]:
    rest = of(runs, lambda run: run.usage.rest_bytes / _MIB).median
    peak = of(runs, lambda run: run.usage.peak_bytes / _MIB).median
    start = of(runs, lambda run: run.start_seconds)
    others = of(runs, lambda run: run.usage.others_cores)
    return [f"{rest:.0f}, {peak:.0f}", f"{start.median:.1f}", write(others, 2)]


def _trickle(runs: Sequence[Run]) -> str:
    rows = []
    for name, members in by_contender(runs).items():
        rows.append(
            [
                name,
                *(
                    write(known(members, _taken(share)), 2)
                    for share in ("p50", "p99", "p999")
                ),
                write(of(members, lambda run: run.cpu_us_per_event), 0),
                *_always(members),
            ]
        )
    head = [
        "contender",
        "end to end: p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU us per event",
    ]
    return "\n".join(
        [
            f"## At {runs[0].rate:g} events/s: {_amount(runs)}",
            "",
            _MEANING,
            "",
            *table([*head, *_ALWAYS], rows),
        ]
    )


def _taken(share: str) -> Callable[[Run], float | None]:
    def take(run: Run) -> float | None:
        return None if run.latency is None else float(getattr(run.latency, share))

    return take


def _left_out(entry: tuple[str, str]) -> str:
    name, reason = entry
    return f"- left out: {name}: {reason.splitlines()[0]}"


def _failed(failure: Failure) -> str:
    rate = "in a flood" if failure.rate is None else f"at {failure.rate:g} events/s"
    size = f" with previews of {failure.traffic.preview_bytes:,} bytes"
    size = size if failure.traffic.preview_bytes else ""
    first = failure.reason.splitlines()[0]
    source = "" if failure.source == FIREHOSE else f" from {failure.source}"
    return f"- {failure.contender}: failed {rate}{size}{source}: {first}"


def _flawless(runs: Sequence[Run]) -> bool:
    return all(run.verdict is None or run.verdict.flawless for run in runs)


def _section(run: Run) -> tuple[float, int, int]:
    # The length of a flood is the contender's own.
    if run.rate is None:
        return -1.0, run.traffic.preview_bytes, 0
    return run.rate, run.traffic.preview_bytes, run.traffic.events


def _amount(runs: Sequence[Run]) -> str:
    traffic: Traffic = runs[0].traffic
    size = len(frame_of(traffic.payload(0)))
    times = max(len(members) for members in by_contender(runs).values())
    number = "" if runs[0].rate is None else f"{traffic.events:,} "
    return (
        f"{number}events of {size:,} bytes, {traffic.jobs:,} jobs;"
        f" {times} interleaved runs: median (lowest, highest)"
    )


def _write_flaws(flaws: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in flaws.items() if count)
