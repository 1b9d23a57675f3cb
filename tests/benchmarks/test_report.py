"""What `report` promises: medians, the ratio, the target and the flaws, in words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.course import Run
from benchmarks.figures import Latency
from benchmarks.machine import Machine
from benchmarks.measuring import Usage
from benchmarks.report import Failure, Report
from benchmarks.traffic import Traffic
from benchmarks.verification import Verdict
from tests.benchmarks.runs import made_run


_FLOOR = "the floor"
_MACHINE = Machine(
    system="Plan 9",
    cores=2,
    python="CPython 3.11",
    versions={"trio": "0.35"},
    revision="abc",
    load_average=(0.25, 0.5, 1.0),
)


def _bridge(*cpu_us: float, verdict: Verdict | None = None) -> list[Run]:
    return [made_run("bridge", one, verdict=verdict or Verdict()) for one in cpu_us]


def _report(*runs: Run) -> Report:
    floor = [made_run(_FLOOR, one) for one in (9.0, 10.0, 30.0)]
    return Report(
        _MACHINE, _FLOOR, "bridge", "bridge, outbox in memory", [*floor, *runs]
    )


@pytest.mark.parametrize(
    ("cpu_us", "words"), [(18.0, "1.80, met"), (18.1, "1.81, missed")]
)
def test_target_is_judged_by_medians(cpu_us: float, words: str) -> None:
    """The ratio of the medians decides, not that of the best or the worst runs."""
    text = _report(*_bridge(1.0, cpu_us, 99.0)).markdown()

    assert words in text
    assert f"{cpu_us:.1f} (1.0, 99.0)" in text


def test_lost_events_void_the_target() -> None:
    """A bridge that loses events meets no target, however little it used."""
    report = _report(*_bridge(1.0, 1.0, verdict=Verdict(lost=1234)))

    text = report.markdown()

    assert not report.flawless
    assert ", met" not in text
    assert "lost 1,234" in text
    assert "in 0 of 2 runs" in text


def test_flaws_of_a_peer_are_told_and_do_not_count() -> None:
    """What a peer loses, or breaks at, stands in the report and fails nothing."""
    peer = made_run("peer", 90.0, verdict=Verdict(lost=7))
    report = replace(
        _report(*_bridge(10.0), peer),
        peers={"peer": 5.0},
        failures=[Failure("peer", Traffic(5), 1000.0, "peer ended\nits log")],
        skipped={"another": "no toolchain\nat all"},
    )

    text = report.markdown()

    assert report.flawless
    assert "lost 7" in text
    assert "- peer: failed at 1000 events/s: peer ended\n" in text
    assert "- left out: another: no toolchain\n" in text
    assert "## Targets" in text


def test_floods_of_several_lengths_share_a_table() -> None:
    """Each contender's flood has its own number of events, which is told."""
    longer = replace(made_run("other", 9.0, verdict=Verdict()), traffic=Traffic(7000))

    text = _report(*_bridge(10.0), longer).markdown()

    assert text.count("## As fast as the socket takes them") == 1
    assert "7,000" in text


def test_rates_have_a_section_with_latencies() -> None:
    """A run at a rate shows its latencies, and isn't mixed with the floods."""
    at_rate = made_run(
        "bridge",
        400.0,
        rate=100.0,
        latency=Latency(p50=1.25, p99=2.5, p999=3.75),
        acknowledged=Latency(p50=0.75, p99=1.5, p999=2.25),
        verdict=Verdict(),
    )
    text = _report(*_bridge(12.0), at_rate).markdown()

    flood, trickle = text.split("## At 100 events/s")
    assert "12.0 (12.0, 12.0)" in flood
    assert "400" not in flood
    assert "1.25 (1.25, 1.25)" in trickle
    assert "3.75 (3.75, 3.75)" in trickle
    assert "0.75 (0.75, 0.75)" in trickle


def test_outbox_in_memory_has_its_share_told() -> None:
    """With both bridges measured the report says what the outbox adds."""
    text = _report(
        *_bridge(15.0), made_run("bridge, outbox in memory", 12.0, verdict=Verdict())
    ).markdown()

    assert "## What the outbox adds" in text
    assert "flood: 3.00, met" in text


def test_report_says_where_it_was_made() -> None:
    """Machine, versions, revision and load stand in the heading."""
    text = _report(*_bridge(12.0)).markdown()

    for words in ("2 cores, Plan 9", "trio 0.35", "revision abc", "0.25, 0.50, 1.00"):
        assert words in text


def test_json_holds_everymade_run() -> None:
    """The file for programs has each run with all that was measured."""
    content = json.loads(_report(*_bridge(12.0)).json())

    assert len(content["runs"]) == 4
    assert content["runs"][-1]["usage"]["peak_bytes"] == 60 * 2**20
    assert content["machine"]["revision"] == "abc"


def test_cpu_stands_by_thread() -> None:
    """Each thread's seconds are dealt to the run's events."""
    usage = Usage(0.5, 0.0, 0, 0, {"main": 0.1, "outbox": 0.25, "kafka": 0.5})
    run = replace(made_run("bridge", 1.0, verdict=Verdict()), usage=usage)

    (_, text) = _report(run).markdown().split("## Where the CPU goes")

    for figure in ("100.0 (", "250.0 (", "500.0 ("):
        assert figure in text
