"""What the table of a real soketi promises: floods and rates of each in a row."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.figures import Latency
from benchmarks.report import Failure, Report
from benchmarks.soketi_report import describe_soketi
from benchmarks.traffic import Traffic
from benchmarks.upstream import SOKETI
from benchmarks.verification import Verdict
from tests.benchmarks.runs import MACHINE, made_run


_LATENCY = Latency(1.25, 3.5, 9.0)


def test_each_contender_has_a_row() -> None:
    """Its flood and its rate stand side by side, and what was wrong with either."""
    runs = [
        made_run("bridge", 40.0, verdict=Verdict()),
        made_run("peer", 90.0, verdict=Verdict(lost=2, duplicated=1)),
        made_run("bridge", 300.0, rate=1000.0, latency=_LATENCY, verdict=Verdict()),
        made_run("peer", 200.0, rate=1000.0, latency=_LATENCY, verdict=Verdict(lost=1)),
    ]

    bridge, peer = describe_soketi(runs)[-2:]

    cells = [cell.strip().partition(" ")[0] for cell in bridge.split("|")[1:-1]]
    assert cells == ["bridge", "40,000", "40.0", "1.25", "3.50", "300", "0.5", "none"]
    assert "lost 3, duplicated 1" in peer


def test_slow_contender_has_no_rate() -> None:
    """Who runs in a flood alone has empty cells."""
    runs = [
        made_run("slow", 90.0),
        made_run("bridge", 300.0, rate=1000.0, latency=_LATENCY),
    ]

    slow = describe_soketi(runs)[-2]

    assert [cell.strip() for cell in slow.split("|")][4:7] == ["", "", ""]


def test_without_runs_there_is_no_section() -> None:
    """A report of the firehose alone doesn't speak of soketi."""
    assert describe_soketi([]) == []


def test_runs_of_soketi_stand_apart() -> None:
    """They change no figure of the firehose's, but a flaw of the bridge counts."""
    flood = made_run("bridge", 20.0, verdict=Verdict())
    lossy = made_run("bridge", 900.0, verdict=Verdict(lost=1))
    failure = Failure("peer", Traffic(1000), None, "broke", SOKETI)
    runs = [flood, replace(lossy, source=SOKETI)]

    report = Report(MACHINE, "floor", "bridge", "memory", runs, failures=[failure])

    text = report.markdown()
    assert "## From a real soketi" in text
    assert "every event once, whole and in order per job in 1 of 2 runs" in text
    assert "- peer: failed in a flood from soketi: broke" in text
    assert text.count("900.0") == 1
    assert not report.flawless


def test_failure_from_soketi_counts_for_a_bridge() -> None:
    """A bridge that has no figures there fails the benchmark, a peer doesn't."""
    peer = Failure("peer", Traffic(1000), None, "broke", SOKETI)
    bridge = replace(peer, contender="bridge")

    def report(*failures: Failure) -> Report:
        names = "floor", "bridge", "memory"
        return Report(
            MACHINE, *names, [], peers={"peer": None}, failures=list(failures)
        )

    assert report(peer).flawless
    assert not report(peer, bridge).flawless
