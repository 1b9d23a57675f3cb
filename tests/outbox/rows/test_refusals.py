"""Rows that the broker refuses for good get out of their lane's way."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from bridge.outbox import Outbox
from bridge.outbox.store import Placed
from bridge.record import Delivered, LaneState, Record
from tests.outbox.making import (
    ENVELOPE,
    MIB,
    acknowledge,
    append,
    eventually,
    fresh,
    numbered,
    open_jobs,
    read_all,
    record,
    running,
    spread,
    stored,
)


LETTER = record("job-0", b"letter", topic="dlq")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


def test_a_dead_letter_takes_the_place_of_a_row(path: Path) -> None:
    """The row goes and the letter comes in one commit; the lane goes on behind it."""
    with stored(path) as store:
        open_jobs(store)
        with store.transaction():
            store.open_topic("dlq", spread(1), fresh(1), None)
        rows = append(store, numbered(0, 5))
        acknowledge(store, 1, 2, 10)
        with store.transaction():
            store.refuse("jobs", 0, 3, LETTER)
        ((topic, partition, (letter,)),) = store.added
        assert (topic, partition, letter.sequence) == ("dlq", 0, 1)
        assert letter.ce_id not in {row.ce_id for row in rows}
        assert store.read("dlq", 0, 0, 9, MIB) == [letter]
        assert store.pending == 3
        assert [row.sequence for row in read_all(store, after=2)] == [4, 5]
    with stored(path) as store:
        jobs, _ = store.lane_states()
        assert (jobs.acknowledged_sequence, jobs.last_sequence) == (3, 5)
        # It isn't in the log: that is read from the last row on that is.
        assert (jobs.resume_offset, jobs.resume_ce_id) == (11, rows[1].ce_id)
        acknowledge(store, 4, 5, 12)
        assert [
            (row.sequence, row.offset) for row in store.delivered("jobs", 0, 0, 9)
        ] == [(1, 10), (2, 11), (4, 12), (5, 13)]
        assert store.pending == 1


def test_a_letter_waits_where_its_topic_is_not_open(path: Path) -> None:
    """It is told when it is claimed, like any other row."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 1))
        with store.transaction():
            store.refuse("jobs", 0, 1, LETTER)
        assert store.added == []
        assert store.waiting_topics() == {"dlq"}
        with store.transaction():
            store.open_topic("dlq", spread(1), fresh(1), None)
            assert store.claim(9, MIB) == [("dlq", 0, 1)]


def test_a_row_in_quarantine_stays_there(path: Path) -> None:
    """Whole, with the reason, whatever is trimmed, for the next process as well."""
    extra = (("bridge_reason", b"x"),)
    with stored(path) as store:
        open_jobs(store)
        (row,) = append(store, [Record("jobs", b"k", b"v", 77, ENVELOPE, extra)])
        append(store, numbered(0, 2))
        with store.transaction():
            store.quarantine("jobs", 0, 1, "too large")
        assert (store.quarantined, store.pending) == (1, 2)
        acknowledge(store, 2, 3, 0)
        with store.transaction():
            store.trim(older_than_us=10**18, keep_bytes=0, max_rows=99, max_bytes=MIB)
        assert read_all(store) == []
    with stored(path) as store:
        with store.reading():
            assert store.quarantined == 1
        (kept,) = store._connection.execute(
            "SELECT topic, partition, sequence, ce_id, key, value, received_at_us,"
            " reason, ce_type, put_at_us > 0 FROM quarantine"
            " JOIN envelopes ON envelopes.id = envelope"
        )
        assert kept == (
            *("jobs", 0, 1, row.ce_id, b"k", b"v", 77),
            *("too large", ENVELOPE.ce_type, 1),
        )


def test_only_the_first_waiting_row_can_be_refused(path: Path) -> None:
    """A mistake of the caller's is told, and changes nothing."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 4))
        acknowledge(store, 1, 1, 0)
        for wrong in (0, 1, 3, 5):
            with pytest.raises(ValueError, match="first"), store.transaction():
                store.refuse("jobs", 0, wrong, LETTER)
            with pytest.raises(ValueError, match="first"), store.transaction():
                store.quarantine("jobs", 0, wrong, "")
        assert (store.pending, store.quarantined) == (3, 0)
        assert len(read_all(store)) == 4


def test_a_refused_row_does_not_wait_again(path: Path) -> None:
    """When the log loses its tail, what was never in it stays away."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 5))
        acknowledge(store, 1, 2, 0)
        with store.transaction():
            store.refuse("jobs", 0, 3, LETTER)
        acknowledge(store, 4, 4, 2)
        with store.transaction():
            assert store.rewind("jobs", 0, 1, 1) == 2
        assert [row.sequence for row in read_all(store, after=1)] == [2, 4, 5]
        assert [row.sequence for row in store.read("jobs", 0, 1, 9, MIB)] == [2]
        acknowledge(store, 2, 2, 1)
        acknowledge(store, 4, 5, 2)
        assert store.waiting_topics() == {"dlq"}


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
