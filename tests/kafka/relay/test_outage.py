"""What is told of an outage, and what health reads of it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from bridge.kafka.relay.outage import Outage
from bridge.kafka.relay.statistics import RelayStatistics


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture(name="lines")
def _lines() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_an_hour_of_twelve_failing_lanes_is_a_line_a_minute(
    lines: list[MutableMapping[str, Any]],
) -> None:
    """Lanes that fail alike every ten seconds are told once a minute, and the end."""
    clock = Clock()
    outage = Outage("jobs", None, clock)
    lanes = [("jobs", number) for number in range(12)]
    for _ in range(360):
        for lane in lanes:
            outage.failed("kafka.unavailable", OSError("refused"), lane)
        clock.now += 10
    for lane in lanes:
        outage.worked(lane)
    assert len(lines) == 61
    assert lines[0] == {
        "event": "kafka.unavailable",
        "log_level": "warning",
        "topic": "jobs",
        "partition": 0,
        "error": "OSError: refused",
    }
    assert lines[-1] == {
        "event": "kafka.works_again",
        "log_level": "info",
        "topic": "jobs",
        "after_seconds": 3_600.0,
    }


def test_silence_shows_while_something_waits() -> None:
    """More than five seconds without an answer is no connection; an answer is."""
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
    assert statistics.connected  # another lane was answered five seconds ago
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
