"""What is told of an outage, and what health reads of it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from bridge.errors import KafkaRefusedError, KafkaUnreachableError
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
    outage = Outage(["jobs", "jobs.dlq"], None, clock)
    lanes = [(topic, number) for topic in ("jobs", "jobs.dlq") for number in range(6)]
    for _ in range(360):
        for lane in lanes:
            outage.failed("lane.waits", OSError("refused"), lane)
        clock.now += 10
    for lane in lanes:
        outage.worked(lane)
    assert len(lines) == 61
    assert lines[0] == {
        "event": "lane.waits",
        "log_level": "warning",
        "topic": "jobs",
        "partition": 0,
        "error": "OSError: refused",
    }
    assert lines[-1] == {
        "event": "kafka.works_again",
        "log_level": "info",
        "topics": ["jobs", "jobs.dlq"],
        "after_seconds": 3_600.0,
    }


def test_a_lane_that_fails_and_works_in_turn_is_not_told_each_time(
    lines: list[MutableMapping[str, Any]],
) -> None:
    """Ten failures in a minute are one failure and one recovery in the log."""
    clock = Clock()
    outage = Outage(["jobs"], None, clock)
    for _ in range(10):
        outage.failed("lane.failed", OSError("reset"), ("jobs", 1), next_sequence=7)
        outage.worked(("jobs", 1))
        clock.now += 5
    assert [line["event"] for line in lines] == ["lane.failed", "kafka.works_again"]


def test_it_ends_when_the_last_lane_works(
    lines: list[MutableMapping[str, Any]],
) -> None:
    """One lane's success doesn't end another lane's trouble."""
    outage = Outage(["jobs"], None)
    outage.failed("lane.failed", OSError(), ("jobs", 1))
    outage.failed("kafka.silent", TimeoutError())
    outage.worked(("jobs", 0))
    assert [line["event"] for line in lines] == ["lane.failed", "kafka.silent"]
    outage.worked(("jobs", 1))
    assert lines[-1]["event"] == "kafka.works_again"


def test_silence_shows_while_something_waits() -> None:
    """More than five seconds without an answer is no connection; an answer is."""
    clock, statistics = Clock(), RelayStatistics()
    outage = Outage(["jobs"], statistics, clock)
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


def test_a_silence_that_is_explained_shows_its_reason_until_the_next_answer() -> None:
    """A refusal takes the place of silence; what is merely away stands beside it."""
    clock, statistics = Clock(), RelayStatistics()
    outage = Outage(["jobs"], statistics, clock)
    refused, away = KafkaRefusedError("wrong password"), KafkaUnreachableError("away")
    outage.explain(refused)  # nothing waits: it is of another group
    outage.sending(("jobs", 0))
    clock.now += 6
    with structlog.testing.capture_logs() as lines:
        outage.look()
        outage.explain(away)
        outage.look()
        assert health(statistics) == (
            False,
            "TimeoutError: no acknowledgement for 6 s; away",
        )
        outage.explain(refused)
        outage.look()
        assert health(statistics) == (False, "KafkaRefusedError: wrong password")
    assert [line["event"] for line in lines] == ["kafka.silent", "kafka.refuses"]
    outage.worked(("jobs", 0))
    outage.sending(("jobs", 0))
    clock.now += 6
    outage.look()
    assert health(statistics) == (False, "TimeoutError: no acknowledgement for 6 s")


def test_who_sends_nothing_hears_that_nobody_would_be_let_in() -> None:
    """An answer over a connection that stands shows first, and ends nothing."""
    clock, statistics = Clock(), RelayStatistics()
    outage = Outage(["jobs"], statistics, clock)
    refused, away = KafkaRefusedError("wrong password"), KafkaUnreachableError("away")
    with structlog.testing.capture_logs() as lines:
        outage.shut_out(refused)
        assert not lines  # whoever opens lanes tells
        outage.worked()
        outage.let_in()
        for _ in range(3):
            outage.shut_out(refused)
            assert health(statistics) == (False, "KafkaRefusedError: wrong password")
            outage.sending(("jobs", 0))
            outage.worked(("jobs", 0))
            assert health(statistics) == (True, None)
            clock.now += 10
        outage.shut_out(away)
        outage.failed("lane.failed", OSError("reset"), ("jobs", 0))
        outage.let_in()
        assert health(statistics) == (False, "OSError: reset")
        outage.worked(("jobs", 0))
    assert [line["event"] for line in lines] == [
        "kafka.refuses",
        "kafka.waits",
        "lane.failed",
        "kafka.works_again",
    ]


def test_a_group_that_health_leaves_out_tells_of_its_lanes_alone() -> None:
    """All groups meet the same door."""
    outage = Outage(["jobs.dlq"], None)
    with structlog.testing.capture_logs() as lines:
        outage.shut_out(KafkaRefusedError("wrong password"))
        outage.let_in()
    assert lines == []


def health(statistics: RelayStatistics) -> tuple[bool, str | None]:
    """What health shows of Kafka."""
    return statistics.connected, statistics.last_error


def test_a_failed_lane_does_not_count_as_waiting() -> None:
    """What failed has its own error; silence isn't added to it."""
    clock, statistics = Clock(), RelayStatistics()
    outage = Outage(["jobs"], statistics, clock)
    outage.sending(("jobs", 0))
    outage.failed("lane.failed", OSError("reset"), ("jobs", 0))
    clock.now += 60
    outage.look()
    assert statistics.last_error == "OSError: reset"
