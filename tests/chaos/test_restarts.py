"""What is demanded of soketi's restarts; and `make restarts` itself, with three."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.__main__ import main
from tests.chaos.fault_log import Fault
from tests.chaos.gaps import ReportedGap
from tests.chaos.restarts import growth, most_connects, shortcomings, summary
from tests.chaos.soak import Outcome
from tests.chaos.soak_verdict import SoakVerdict
from tests.chaos.vitals import Life, Vitals, lives


_MIB = 2**20

_NAME = "restart 1 (soketi killed)"
_WITHIN = "subscribed after soketi was up within"

_RESTART = Fault("soketi killed", begun=100.0, ended=105.5, up=105.0)
_GAP = ReportedGap("5f0c1c52", "disconnected", since=99.9, until=106.5)
_LATE = ReportedGap("77a0be3f", "disconnected", since=99.9, until=107.5)
_FIRST = ReportedGap("0a4d7c10", "first_start", since=float("-inf"), until=90.0)


def _outcome(
    gaps: list[ReportedGap],
    accepts: list[float] | None = None,
    faults: list[Fault] | None = None,
) -> Outcome:
    return Outcome(
        SoakVerdict(0),
        gaps,
        [_RESTART] if faults is None else faults,
        looks=[],
        accepts=accepts or [],
        subscriptions=2,
        witnessed=(0, 0),
        log="",
    )


def test_a_restart_with_its_gap_is_as_it_should_be() -> None:
    """One gap lies over the restart, and the bridge was back within two seconds."""
    outcome = _outcome([_FIRST, _GAP], [100.1, 101.0, 106.4])
    assert shortcomings(outcome) == []
    assert summary(outcome) == [
        "most connects within 10 s: 3",
        f"outages below 30 s: 1, {_WITHIN} 1.50 s (median), 1.50 s (longest)",
    ]


@pytest.mark.parametrize(
    ("gaps", "finding"),
    [
        ([_FIRST], f"{_NAME} has 0 gaps: none"),
        ([_GAP, _LATE], f"{_NAME} has 2 gaps: {_GAP}, {_LATE}"),
        ([_LATE], f"{_NAME}: subscribed 2.50 s after soketi was up, after 5.0 s"),
    ],
)
def test_a_restart_without_its_one_gap_in_time_is_told(
    gaps: list[ReportedGap], finding: str
) -> None:
    """No gap, two of them, or one that ends late: each is named with the restart."""
    (found,) = shortcomings(_outcome(gaps))
    assert found == finding


def test_a_long_outage_is_allowed_the_longest_wait() -> None:
    """Beyond half a minute the cap of the waits counts, and no more than that."""
    long = replace(_RESTART, up=140.0, ended=140.5)
    found = _outcome([replace(_GAP, until=170.0)], faults=[long])
    assert shortcomings(found) == []
    late = _outcome([replace(_GAP, until=172.5)], faults=[long])
    assert len(shortcomings(late)) == 1


def test_a_return_that_another_fault_disturbed_makes_no_figure() -> None:
    """How fast the bridge is back shows only where nothing else kept it away."""
    reset = Fault("cable reset", 105.6, 105.6)
    assert len(summary(_outcome([_GAP], faults=[_RESTART, reset]))) == 1
    unseen = Fault("cable lost", 61.0, 61.0)
    assert len(summary(_outcome([_GAP], faults=[unseen, _RESTART]))) == 1
    kafka = Fault("kafka killed", 90.0, 120.0)
    assert len(summary(_outcome([_GAP], faults=[_RESTART, kafka]))) == 2


@pytest.mark.parametrize(
    ("accepts", "most"),
    [
        ([], 0),
        ([float(second) for second in range(30)], 10),
        ([0.0, 0.0, 9.9, 10.0, 10.1, 19.0], 4),
    ],
)
def test_connects_are_counted_within_any_ten_seconds(
    accepts: list[float], most: int
) -> None:
    """The window slides; its end is not part of it."""
    assert most_connects(accepts) == most


def test_more_than_ten_connects_within_ten_seconds_are_told() -> None:
    """The eleventh connect within ten seconds is one too many."""
    accepts = [110.0 + 0.95 * number for number in range(12)]
    assert shortcomings(_outcome([_GAP], accepts)) == ["11 connects within 10 s"]


def test_a_life_begins_when_it_is_warm() -> None:
    """The first 80 s don't count, each process is its own, and a slope is a slope."""
    cold = [Vitals(second, 1, 1_000_000, 9, 2) for second in range(0, 80, 2)]
    warm = [
        Vitals(second, 1, 50_000_000 + 1000 * second, 20, 3)
        for second in range(80, 182, 2)
    ]
    brief = [Vitals(190 + second, 2, 1, 1, 1) for second in range(0, 80, 2)]
    (life,) = lives([*cold, *warm, *brief])
    assert (life.first, life.last, life.seconds) == (warm[0], warm[-1], 100)
    assert life.rss_bytes_per_hour == pytest.approx(3_600_000)


def test_what_grows_is_told() -> None:
    """Descriptors, threads, tasks and memory each have their bound."""
    first = Vitals(0.0, 1, 50 * _MIB, 20, 3, 17)
    few = Vitals(600.0, 1, 60 * _MIB, 23, 5, 20)
    assert growth(Life(first, few, None)) == []
    silent = Vitals(600.0, 1, 60 * _MIB, 23, 5)
    assert growth(Life(first, silent, None)) == []
    many = Vitals(600.0, 1, 70 * _MIB, 25, 8, 22)
    assert growth(Life(first, many, None)) == [
        "descriptors: 20, then 25",
        "threads: 3, then 8",
        "tasks: 17, then 22",
        "memory grew by 20.0 MiB in 600 s",
    ]


@pytest.mark.long
@pytest.mark.connected
@pytest.mark.timeout(180)
def test_three_restarts_find_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Soketi restarts three times under load: a gap each, and back within 2 s."""
    monkeypatch.chdir(tmp_path)
    code = main(["restarts", "--times", "3", "--seed", "1"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert said.startswith("seed 1, idempotent, 100 events/s\n")
    assert said.endswith("or in a gap, and no gap is false\n")
