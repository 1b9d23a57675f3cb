"""Each benchmark starts, and a run of a few events gives figures that can be true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders import BRIDGE, FLOOR
from benchmarks.course import Course
from benchmarks.line_up import LINE_UP, PEERS
from benchmarks.machine import describe
from benchmarks.report import Report
from benchmarks.traffic import Traffic
from tests.kit.broker import KafkaBroker


def test_every_program_has_help() -> None:
    """`--help` of each names its options, and ends with 0."""
    names = ("board", "faults", "previews", "receiving", "sessions", "starts", "steady")
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", name, "--help"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("benchmarks", *(f"benchmarks.{name}" for name in names))
    }
    said = {name: child.communicate(timeout=50)[0] for name, child in started.items()}

    assert {
        name: text
        for name, text in said.items()
        if started[name].returncode or f"usage: python -m {name} " not in text
    } == {}


@pytest.mark.connected
def test_contenders_bring_every_event(kafka: KafkaBroker, tmp_path: Path) -> None:
    """A flood and a rate end, are flawless, and stand in the report."""
    peer = LINE_UP["pysher"].contender
    course = Course(kafka, (), tmp_path)
    with course.open():
        runs = [
            course.run(FLOOR, Traffic(1000), None),
            course.run(BRIDGE, Traffic(1000), None),
            course.run(peer, Traffic(1000), None),
            course.run(BRIDGE, Traffic(400), 400),
        ]
    report = Report(
        describe(own_kafka=True), FLOOR.name, BRIDGE.name, runs, peers=PEERS
    )

    assert report.flawless
    for run in runs:
        assert 1 < run.events_per_second < 1_000_000, run
        assert 1 < run.cpu_us_per_event < 100_000, run
        assert 10 * 2**20 < run.usage.rest_bytes <= run.usage.peak_bytes, run
    latency = runs[-1].latency
    assert latency is not None
    assert 0 < latency.p50 <= latency.p99 <= latency.p999 < 30_000
    text = report.markdown()
    assert all(run.contender in text for run in runs)
    assert "## At 400 events/s" in text
    assert "CPU per event at most 0.75 of the best peer's" in text
