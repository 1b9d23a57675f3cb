"""Rows that the broker refuses for good get out of their lane's way."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from bridge.outbox import Outbox
from bridge.outbox.store import Placed
from bridge.outbox.values import Delivered, LaneState
from tests.outbox.making import (
    MIB,
    eventually,
    fresh,
    numbered,
    record,
    running,
    spread,
)


LETTER = record("job-0", b"letter", topic="dlq")


# -- Through the doors ---------------------------------------------------------


def _open(outbox: Outbox) -> None:
    for topic in ("jobs", "dlq"):
        outbox.open_topic(topic, spread(1), fresh(1), None).result(10)


def test_the_relay_hears_of_dead_letters(tmp_path: Path) -> None:
    """A letter is told like a committed record, after its commit."""
    told: list[Placed] = []
    with running(tmp_path) as outbox:
        outbox.subscribe(told.extend, lambda _: None, lambda: None)
        _open(outbox)
        outbox.offer(numbered(0, 3))
        eventually(lambda: len(told) == 1)
        # Acknowledged first, though both may come into one transaction.
        outbox.acknowledge("jobs", 0, 1, 1, 0, 10)
        outbox.refuse("jobs", 0, 2, LETTER).result(10)
        eventually(lambda: len(told) == 2)
        topic, partition, (letter,) = told[1]
        assert (topic, partition, letter.value) == ("dlq", 0, b"letter")
        assert outbox.statistics.rows == 2
        outbox.quarantine("jobs", 0, 3, "why").result(10)
        assert outbox.statistics.quarantined == 1
        assert outbox.rewind("jobs", 0, 0, 0).result(10) == 1
    with running(tmp_path) as outbox:
        assert outbox.statistics.quarantined == 1
        assert outbox.statistics.rows == 2


def test_a_mistaken_request_harms_nobody_else(tmp_path: Path) -> None:
    """Whoever asks for nonsense hears of it; the thread goes on."""
    with running(tmp_path) as outbox:
        _open(outbox)
        requests = (
            outbox.refuse("jobs", 0, 5, LETTER),
            outbox.rewind("jobs", 0, 5, 0),
            outbox.quarantine("none", 0, 1, ""),
            outbox.delivered("jobs", 4, 0, 9),
            outbox.read("jobs", 4, 0, 9, MIB),
        )
        for request in requests:
            with pytest.raises(ValueError, match="-"):
                request.result(10)
        # As after a damaged file was replaced: of a lane that isn't there.
        outbox.acknowledge("gone", 0, 1, 1, 0, 10)
        assert outbox.lane_states().result(10)


def test_a_request_comes_after_earlier_acknowledgements(tmp_path: Path) -> None:
    """Also where both come in the middle of a transaction."""
    requests: list[Future[None]] = []

    def partition_of(key: bytes | None) -> int:
        if key == b"late":
            outbox.acknowledge("jobs", 0, 1, 1, 0, 10)
            requests.append(outbox.refuse("jobs", 0, 2, LETTER))
        return 0

    with running(tmp_path) as outbox:
        outbox.open_topic("jobs", partition_of, fresh(1), None).result(10)
        outbox.offer(numbered(0, 3))
        eventually(lambda: outbox.statistics.committed == 3)
        outbox.offer([record("late")])
        eventually(lambda: bool(requests))
        requests[0].result(10)
        assert outbox.statistics.rows == 3


def test_what_is_told_of_lanes_has_earlier_acknowledgements(tmp_path: Path) -> None:
    """Whoever opens a lane again would send, or acknowledge, rows for a second time."""
    asked: list[tuple[Future[list[LaneState]], Future[list[Delivered]]]] = []

    def partition_of(key: bytes | None) -> int:
        if key == b"late":
            outbox.acknowledge("jobs", 0, 1, 1, 0, 10)
            asked.append((outbox.lane_states(), outbox.delivered("jobs", 0, 0, 9)))
        return 0

    with running(tmp_path) as outbox:
        outbox.open_topic("jobs", partition_of, fresh(1), None).result(10)
        outbox.offer(numbered(0, 3))
        eventually(lambda: outbox.statistics.committed == 3)
        outbox.offer([record("late")])
        eventually(lambda: bool(asked))
        states, delivered = asked[0]
        assert [state.acknowledged_sequence for state in states.result(10)] == [1]
        assert [row.sequence for row in delivered.result(10)] == [1]
