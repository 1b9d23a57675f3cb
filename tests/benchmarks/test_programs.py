"""Each benchmark starts, and a run of a few events gives figures that can be true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders import CONTENDERS
from benchmarks.load import Traffic
from benchmarks.report import flawless, heading, markdown
from benchmarks.run import Servers, firehose_running, measure
from tests.kit.broker import KafkaBroker


def test_every_program_has_help() -> None:
    """`--help` of each names its options, and the exit code is 0."""
    names = ["benchmarks"]
    names += [f"benchmarks.{one}" for one in ("faults", "profile", "steady", "verify")]
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", name, "--help"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in names
    }
    said = {name: child.communicate(timeout=50)[0] for name, child in started.items()}

    assert {
        name: text
        for name, text in said.items()
        if started[name].returncode or f"usage: python -m {name} " not in text
    } == {}


@pytest.mark.connected
def test_contenders_bring_every_event(kafka: KafkaBroker, tmp_path: Path) -> None:
    """A flood and a rate end, are flawless, and are in the report."""
    head = heading("A test")
    floor, bridge, pysher = (
        CONTENDERS[name] for name in ("trio-websocket", "bridge", "pysher")
    )
    with firehose_running(tmp_path) as (source, pid):
        servers = Servers(kafka, source, tmp_path, (pid,))
        runs = [
            measure(servers, floor, Traffic(1000), None),
            measure(servers, bridge, Traffic(1000), None),
            measure(servers, pysher, Traffic(1000), None),
            measure(servers, bridge, Traffic(400), 400),
        ]

    assert flawless(runs, [])
    for run in runs:
        assert 1 < run.events_per_second < 1_000_000, run
        assert 1 < run.cpu_us_per_event < 100_000, run
        assert 10 * 2**20 < run.usage.rest_bytes <= run.usage.peak_bytes, run
    latency = runs[-1].latency
    assert latency is not None
    assert 0 < latency.p50 <= latency.p99 <= latency.p999 < 30_000
    text = markdown(head, runs, [])
    assert all(f"| {run.contender}" in text for run in runs)
    assert "## 400 events/s from the firehose" in text
    assert "- events/s over that of pysher + confluent-kafka, at least 4: " in text
