"""What `share` promises: the outbox's own cost, turn by turn, against its targets."""

from __future__ import annotations

import pytest

from benchmarks.course import Run
from benchmarks.figures import Latency
from benchmarks.share import describe_share
from benchmarks.verification import Verdict
from tests.benchmarks.runs import made_run


def _text(*runs: Run) -> str:
    return "\n".join(describe_share(runs, "disk", "memory"))


def _turn(rate: float | None, disk: float, memory: float) -> list[Run]:
    """One run of each; p50 is 1/100 of the CPU, p99 1/10."""
    return [
        made_run(
            name,
            cpu,
            rate=rate,
            acknowledged=Latency(cpu / 100, cpu / 10, cpu),
            verdict=Verdict(),
        )
        for name, cpu in (("disk", disk), ("memory", memory))
    ]


def test_difference_is_taken_turn_by_turn() -> None:
    """A machine that slows down between turns changes both, not what is added."""
    text = _text(*_turn(None, 13, 10), *_turn(None, 24, 20), *_turn(None, 45, 40))

    assert "4.0 (3.0, 5.0)" in text
    assert "at most 4 us of CPU to an event of a flood: 4.00, met" in text


@pytest.mark.parametrize(
    ("disk", "memory", "words"),
    [
        (300, 200, "the outbox adds at most 1 ms to p50: 1.00, met"),
        (301, 200, "the outbox adds at most 1 ms to p50: 1.01, missed"),
        (301, 300, "p50 is at most 3 ms from socket to acknowledgement: 3.01, missed"),
        (150, 150, "p99 is at most 15 ms from socket to acknowledgement: 15.00, met"),
        (151, 1, "p99 is at most 15 ms from socket to acknowledgement: 15.10, missed"),
    ],
)
def test_targets_at_a_rate_are_judged_by_medians(
    disk: float, memory: float, words: str
) -> None:
    """Each bound is met up to its last digit, and missed beyond."""
    assert words in _text(*_turn(1000, disk, memory))


def test_lowest_rate_stands_first_and_the_flood_last() -> None:
    """The rows follow the rate, however the runs were dealt."""
    text = _text(*_turn(None, 2, 1), *_turn(1000, 2, 1), *_turn(100, 2, 1))

    places = [text.index(f"| {rate}") for rate in ("100 ", "1,000 ", "as many")]
    assert places == sorted(places)


def test_lost_events_void_a_target() -> None:
    """An outbox that loses events is never cheap enough."""
    flawed = made_run("disk", 1, verdict=Verdict(lost=1))

    text = _text(flawed, made_run("memory", 1, verdict=Verdict()))

    assert "flood: 0.00, doesn't count" in text


def test_one_contender_alone_has_no_share() -> None:
    """Without the other side nothing is claimed."""
    assert _text(made_run("disk", 1)) == ""
