"""Tests of what the relay counts."""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import pytest
import structlog

from bridge.events.record import StoredRecord
from bridge.kafka.relay.outage import Outage
from bridge.kafka.relay.statistics import RelayStatistics
from tests.kafka.relay.relaying import ENVELOPE


NOW_US = 1_763_985_600_000_000


@pytest.fixture
def statistics(monkeypatch: pytest.MonkeyPatch) -> RelayStatistics:
    """Statistics at a fixed moment."""
    monkeypatch.setattr(time, "time_ns", lambda: NOW_US * 1000)
    return RelayStatistics()


def _rows(*ages_seconds: float) -> list[StoredRecord]:
    return [
        StoredRecord(
            sequence, f"id-{sequence}", b"k", b"v", NOW_US - int(age * 1e6), ENVELOPE
        )
        for sequence, age in enumerate(ages_seconds, 1)
    ]


@pytest.mark.parametrize(
    ("ages", "resent", "buckets", "seconds"),
    [
        # Records of one read count together, those of others by their own time.
        ([7200, 3, 3, 3, 0.004], 0, {21_600.0: 1, 5.0: 3, 0.005: 1}, 7209.004),
        # A row that a log has lost took its time once; it is published twice.
        ([50, 50, 3], 2, {5.0: 1}, 3),
        # Of a clock that was set back: a record of the future took no time.
        ([-60], 0, {0.001: 1}, 0),
    ],
)
def test_each_record_is_as_old_as_its_reading(
    statistics: RelayStatistics,
    ages: Sequence[float],
    resent: int,
    buckets: dict[float, int],
    seconds: float,
) -> None:
    """It is counted once, by the time from its reading to its acknowledgement."""
    statistics.delivered("jobs", _rows(*ages), resent)
    durations = statistics.delivery_durations["jobs"]
    counts = zip((*durations.bounds, float("inf")), durations.counts, strict=True)
    assert {bound: count for bound, count in counts if count} == buckets
    assert durations.sum == pytest.approx(seconds)
    assert statistics.published == {"jobs": len(ages)}


def test_lag_is_the_longest_of_a_minute(statistics: RelayStatistics) -> None:
    """A late beat shows for a minute of beats, and no longer."""
    assert statistics.lag_seconds == 0
    statistics.beat(1.0, 2.5)
    for second in range(59):
        statistics.beat(2.0 + second, -0.001)
        assert statistics.lag_seconds == 2.5
    statistics.beat(61.0, 0.001)
    assert statistics.lag_seconds == 0.001
    assert statistics.last_beat == 61.0


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture(name="lines")
def _lines() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_an_hour_of_twelve_failing_partitions_is_a_line_a_minute(
    lines: list[MutableMapping[str, Any]],
) -> None:
    """Partitions that fail alike are logged once a minute, and the end."""
    clock = Clock()
    outage = Outage("jobs", None, clock)
    partitions = [("jobs", number) for number in range(12)]
    for _ in range(360):
        for partition in partitions:
            outage.failed("kafka.unavailable", OSError("refused"), partition)
        clock.now += 10
    for partition in partitions:
        outage.worked(partition)
    assert len(lines) == 61
    assert lines[0] == {
        "event": "kafka.unavailable",
        "log_level": "warning",
        "topic": "jobs",
        "partition": 0,
        "error": "OSError: refused",
    }
    assert lines[-1] == {
        "event": "kafka.recovered",
        "log_level": "info",
        "topic": "jobs",
        "after_seconds": 3_600.0,
    }


def test_silence_shows_while_something_waits() -> None:
    """It isn't connected after five seconds without a response."""
    clock, statistics = Clock(), RelayStatistics()
    outage = Outage("jobs", statistics, clock)
    outage.worked()
    clock.now += 3_600
    outage.look()
    assert statistics.connected  # nothing was sent
    outage.sending(("jobs", 0))
    outage.sending(("jobs", 1))
    clock.now += 5
    outage.worked(("jobs", 1))
    clock.now += 5
    outage.look()
    assert statistics.connected  # another partition was answered five seconds ago
    clock.now += 1
    outage.look()
    assert health(statistics) == (False, "TimeoutError: no acknowledgement for 6 s")
    assert statistics.ever_connected
    outage.worked(("jobs", 0))
    assert health(statistics) == (True, None)
    clock.now += 60
    outage.look()
    assert statistics.connected


def health(statistics: RelayStatistics) -> tuple[bool, str | None]:
    """What health shows of Kafka."""
    return statistics.connected, statistics.last_error
