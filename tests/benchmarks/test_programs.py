"""Each benchmark starts, and a run of a few events gives figures that can be true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.board.runs import Course as BoardCourse
from benchmarks.contenders import BRIDGE, FLOOR
from benchmarks.course import Course
from benchmarks.faults.course import through
from benchmarks.faults.outages import OUTAGES
from benchmarks.faults.outages import Ground as FaultGround
from benchmarks.line_up import LINE_UP, PEERS
from benchmarks.machine import describe
from benchmarks.many_sessions import Ground
from benchmarks.preview_load import EVENTS_A_JOB, PreviewLoad
from benchmarks.preview_runs import run as run_previews
from benchmarks.receivers import RECEIVERS
from benchmarks.receiving import Load, measure
from benchmarks.report import Report
from benchmarks.traffic import CLIENT_ID, Traffic
from tests.kit.broker import KafkaBroker
from tests.kit.dryapi import DryApi
from tests.kit.kafka import KafkaServer
from tests.kit.soketi import SoketiServer


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


def test_receiving_times_every_receiver() -> None:
    """Each gets all characters of all events, or there would be an error."""
    found = measure(
        1, [Load("small", Traffic(500)), Load("large", Traffic(5, 5, 20_000))]
    )

    assert [one.receiver for one in found] == [*RECEIVERS, *RECEIVERS]
    assert {one.message_bytes for one in found} == {220, 20_220}
    assert all(0 < one.us[0] < 100_000 for one in found)


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


@pytest.mark.connected
def test_previews_take_bytes_on_both_topics() -> None:
    """A few jobs are published whole, with their images on the other topic."""
    load = PreviewLoad(4_000, 2)

    with KafkaServer() as kafka:
        found = run_previews(kafka, load, load.messages(), "topic", "zstd")

    assert found.flaws == ()
    assert found.events == 2 * EVENTS_A_JOB
    assert 0 < found.job_bytes < found.image_bytes < found.frame_bytes


@pytest.mark.connected
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_board_is_measured(tmp_path: Path) -> None:
    """Browsers get updates of a board while records come, and nothing lags behind."""
    with KafkaServer() as kafka:
        found = BoardCourse(kafka, tmp_path).run(100, 2, 3)

    assert found.events >= 200
    assert 0 < found.cores < 2
    assert found.delay_ms is not None


@pytest.mark.connected
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_sessions_are_measured(tmp_path: Path) -> None:
    """Three accounts get their events once and in order, and come back."""
    with KafkaServer() as kafka, SoketiServer() as soketi:
        found = Ground(kafka, soketi, tmp_path).run(3, 1, 60)

    assert found.stream is not None
    assert found.stream.flaws == ()
    assert found.rest.accounts == 3
    assert found.rest.memory_bytes > 10 * 2**20
    assert 0 < found.back.subscribed_seconds < 60


@pytest.mark.connected
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_a_bridge_misses_in_an_outage_is_in_a_gap(tmp_path: Path) -> None:
    """Events that soketi takes before the bridge is back are missing, and reported."""
    (outage,) = [each for each in OUTAGES if each.name == "soketi-killed"]
    with (
        KafkaServer() as kafka,
        SoketiServer() as soketi,
        DryApi(soketi, {CLIENT_ID: "any"}).serving() as dryapi,
    ):
        ground = FaultGround(kafka, soketi, dryapi.url, tmp_path)
        run = through(BRIDGE, outage, ground, rate=200)

    verdict = run.verdict
    assert run.flawless, run
    assert verdict.refused > 0
    assert verdict.told == verdict.away + verdict.lost > 0
    assert verdict.on_topic + verdict.told == verdict.accepted
