"""What `targets` promises: ratios of medians, judged, and silence where nobody ran."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.course import Run
from benchmarks.figures import Latency
from benchmarks.peers.contenders import PYSHER
from benchmarks.targets import describe_targets
from benchmarks.traffic import Traffic
from benchmarks.verification import Verdict
from tests.benchmarks.runs import made_run


_OTHER = "another peer"
_PEERS = {PYSHER: 5.0, _OTHER: None}


def _flood(contender: str, speed: float, cpu_us: float, previews: int = 0) -> Run:
    run = made_run(contender, cpu_us, verdict=Verdict())
    traffic = Traffic(1000, preview_bytes=previews)
    return replace(run, events_per_second=speed, traffic=traffic)


def _trickle(contender: str, p50: float, p99: float, cpu_us: float) -> Run:
    latency = Latency(p50=p50, p99=p99, p999=p99)
    return made_run(contender, cpu_us, rate=1000, latency=latency, verdict=Verdict())


def _described(*runs: Run) -> str:
    return "\n".join(describe_targets(runs, "bridge", _PEERS))


@pytest.mark.parametrize(
    ("speed", "words"), [(50_000.0, "5.00, met"), (49_000.0, "4.90, missed")]
)
def test_speed_is_held_against_each_peer(speed: float, words: str) -> None:
    """The bridge's median over the peer's decides, for a peer that has a target."""
    bridge = [_flood("bridge", one, 20.0) for one in (1.0, speed, 90_000.0)]

    text = _described(
        *bridge, _flood(PYSHER, 10_000.0, 80.0), _flood(_OTHER, 1.0, 99.0)
    )

    assert words in text
    assert "times those of another peer" not in text


@pytest.mark.parametrize(("cpu_us", "words"), [(15.0, "0.75, met"), (16.0, "missed")])
def test_cpu_is_held_against_the_best_peer(cpu_us: float, words: str) -> None:
    """The peer with the least CPU per event sets the bound, whoever it is."""
    text = _described(
        _flood("bridge", 1.0, cpu_us),
        _flood(PYSHER, 1.0, 80.0),
        _flood(_OTHER, 1.0, 20.0),
    )

    (line,) = [line for line in text.splitlines() if "CPU per event" in line]
    assert "(another peer)" in line
    assert words in line


def test_previews_are_held_against_the_fastest_peer() -> None:
    """With previews of 20 KB the fastest peer counts, and other sizes don't."""
    text = _described(
        _flood("bridge", 900.0, 1.0, 20_000),
        _flood("bridge", 1.0, 1.0, 90_000),
        _flood(PYSHER, 100.0, 1.0, 20_000),
        _flood(_OTHER, 300.0, 1.0, 20_000),
        _flood(_OTHER, 9_000.0, 1.0, 90_000),
    )

    (line,) = [line for line in text.splitlines() if "previews" in line]
    assert line.endswith("best peer (another peer): 3.00, met")


def test_rate_is_held_against_pysher() -> None:
    """At 1,000 events/s CPU and p99 are pysher's at most, and p50 has a bound."""
    text = _described(
        _trickle("bridge", 3.5, 8.0, 160.0), _trickle(PYSHER, 6.0, 8.0, 200.0)
    )

    assert "CPU per event at most 0.8 of that of pysher" in text
    assert "0.80, met" in text
    assert "1.00, met" in text
    assert "p50 at most 3 ms: 3.50, missed" in text


def test_lost_events_void_all_targets() -> None:
    """A bridge that lost an event in one run meets none."""
    lost = replace(_flood("bridge", 9e9, 0.1), verdict=Verdict(lost=1))

    text = _described(_flood("bridge", 9e9, 0.1), lost, _flood(PYSHER, 1.0, 80.0))

    assert "None counts" in text
    assert ", met" not in text


def test_bridge_alone_has_no_targets() -> None:
    """Without a peer's run, or without the bridge's, nothing is said."""
    assert not _described(_flood("bridge", 1.0, 1.0))
    assert not _described(_flood(PYSHER, 1.0, 1.0))
