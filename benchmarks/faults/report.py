"""
Runs through outages as a text for people (Markdown) and as JSON for programs.

Owns how they are written. It judges nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.faults.course import FaultRun
from benchmarks.machine import Machine, heading
from benchmarks.tables import table


__all__ = ["FaultFailure", "FaultReport"]

_HEAD = [
    "contender",
    "outage (s)",
    "events that soketi took",
    "on the topic",
    "not received while away",
    "lost otherwise",
    "of these, told in a gap",
    "duplicated",
    "out of order",
    "all is on the topic again after (s)",
]

# Flaws that no column has; they are rare.
_MORE = ("altered", "foreign", "holes")


@dataclass(frozen=True)
class FaultFailure:
    """
    A run of a peer that has no figures.

    Attributes:
        contender: Its name.
        outage: The outage's name.
        reason: What went wrong.
    """

    contender: str
    outage: str
    reason: str


@dataclass(frozen=True)
class FaultReport:
    """
    All runs.

    Attributes:
        machine: Where they were made.
        rate: Events a second that were published.
        meanings: A phrase for each outage, by its name, in order.
        runs: The runs.
        peers: Contenders whose flaws are told, and don't count.
        failures: Runs of these that have no figures.
        skipped: Who didn't run, and why.
    """

    machine: Machine
    rate: float
    meanings: Mapping[str, str]
    runs: Sequence[FaultRun]
    peers: Collection[str]
    failures: Sequence[FaultFailure] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def flawless(self) -> bool:
        """Whether no bridge lost anything in silence, doubled or disordered it."""
        return all(run.flawless for run in self.runs if run.contender not in self.peers)

    def json(self) -> str:
        """Write all that is known of each run."""
        return json.dumps(asdict(self), indent=2)

    def markdown(self) -> str:
        """Write a table for each outage."""
        parts = [heading("Through outages", self.machine)]
        parts[0] += f"\n- {self.rate:g} events/s, published to soketi all along"
        if self.skipped:
            parts.append("\n".join(map(_left_out, self.skipped.items())))
        parts += [
            self._outage(name, meaning) for name, meaning in self.meanings.items()
        ]
        return "\n\n".join(parts) + "\n"

    def _outage(self, name: str, meaning: str) -> str:
        runs = [run for run in self.runs if run.outage == name]
        lines = [f"## {meaning}", ""]
        if runs:
            lines += table(_HEAD, [_row(run) for run in runs])
        remarks = [remark for run in runs for remark in _remarks(run)]
        remarks += [
            f"- {failure.contender}: failed: {failure.reason.splitlines()[0]}"
            for failure in self.failures
            if failure.outage == name
        ]
        return "\n".join([*lines, *([""] if runs and remarks else []), *remarks])


def _row(run: FaultRun) -> list[str]:
    verdict = run.verdict
    counts = (
        verdict.accepted,
        verdict.on_topic,
        verdict.away,
        verdict.lost,
        verdict.told,
        verdict.duplicated,
        verdict.disordered,
    )
    whole = verdict.whole_seconds
    return [
        run.contender,
        f"{run.outage_seconds:.1f}",
        *(f"{count:,}" for count in counts),
        "never" if whole is None else f"{whole:.1f}",
    ]


def _remarks(run: FaultRun) -> list[str]:
    verdict = asdict(run.verdict)
    more = [f"{name} {verdict[name]:,}" for name in _MORE if verdict[name]]
    ended = [] if run.end is None else [run.end]
    return [f"- {run.contender}: {line}" for line in (*more, *run.findings, *ended)]


def _left_out(entry: tuple[str, str]) -> str:
    name, reason = entry
    return f"- left out: {name}: {reason.splitlines()[0]}"
