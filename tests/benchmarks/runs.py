"""Runs that nobody made on a machine that is none, for what is written about them."""

from __future__ import annotations

from benchmarks.course import Run
from benchmarks.figures import Latency
from benchmarks.machine import Machine
from benchmarks.measuring import Usage
from benchmarks.traffic import Traffic
from benchmarks.verification import Verdict


__all__ = ["MACHINE", "made_run"]

MACHINE = Machine(
    system="Plan 9",
    cores=2,
    python="CPython 3.11",
    versions={"trio": "0.35"},
    revision="abc",
    load_average=(0.25, 0.5, 1.0),
)


def made_run(
    contender: str,
    cpu_us: float,
    *,
    rate: float | None = None,
    latency: Latency | None = None,
    acknowledged: Latency | None = None,
    verdict: Verdict | None = None,
) -> Run:
    """Give a run of 1,000 events."""
    return Run(
        contender=contender,
        traffic=Traffic(1000),
        rate=rate,
        start_seconds=0.5,
        events_per_second=40_000.0,
        cpu_us_per_event=cpu_us,
        usage=Usage(1.0, 0.25, 30 * 2**20, 60 * 2**20),
        load_average=0.5,
        verdict=verdict,
        latency=latency,
        acknowledged=acknowledged,
    )
