"""Rows come in, get their place, are read, and go; memory is what the file is."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - looks into the file
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import OutboxDamagedError
from bridge.events.record import Record
from tests.outbox.making import (
    ENVELOPE,
    PLENTY_BYTES,
    acknowledge,
    append,
    fresh,
    number_of,
    numbered,
    open_jobs,
    read_all,
    record,
    spread,
    stored,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


# -- Lanes and sequences -------------------------------------------------------


def test_sequences_are_dense_in_each_lane(path: Path) -> None:
    """Each lane counts from 1 without holes, and keeps a key's order."""
    partition_of = spread(3)
    with stored(path) as store:
        open_jobs(store, 3)
        # One more than any whole number of rows that a statement takes.
        for first, count in ((0, 1), (1, 9), (10, 681), (691, 1200)):
            append(store, numbered(first, count))
        for partition in range(3):
            rows = read_all(store, partition)
            assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
            assert {partition_of(row.key) for row in rows} <= {partition}
            numbers = [number_of(row) for row in rows]
            assert numbers == sorted(numbers)
        assert store.pending == 1891


def test_rows_come_back_as_they_went_in(path: Path) -> None:
    """Nothing of a record changes on its way through the file."""
    extra = (("bridge_reason", b"not_json"), ("raw", bytes(range(256))))
    plain = record("job", b"\x00\xff", "jobs")
    headed = Record("jobs", None, b"", 1_732_450_000_000_000, ENVELOPE, extra)
    with stored(path) as store:
        open_jobs(store)
        placed = append(store, [plain, headed])
    with stored(path) as store:
        open_jobs(store)
        assert read_all(store) == placed
    assert placed[0].key == b"job"
    assert placed[0].value == b"\x00\xff"
    assert placed[1].key is None
    assert placed[1].extra == extra
    assert placed[1].received_at_us == 1_732_450_000_000_000
    assert placed[1].envelope == ENVELOPE


def test_topics_have_lanes_of_their_own(path: Path) -> None:
    """The same partition of two topics is two lanes."""
    with stored(path) as store:
        for topic in ("jobs", "jobs.dlq"):
            with store.transaction():
                store.open_topic(topic, spread(1), fresh(1), None)
        with store.transaction():
            placed = store.append([record("a"), record("a", topic="jobs.dlq")])
        assert [(topic, rows[0].sequence) for topic, _, rows in placed] == [
            ("jobs", 1),
            ("jobs.dlq", 1),
        ]
        assert store.waiting_topics() == {"jobs", "jobs.dlq"}


# -- Rows from before Kafka was reached ----------------------------------------


@pytest.mark.parametrize("deleted", ["1", "CAST(value AS TEXT) LIKE '0:%'"])
def test_a_claim_gets_over_rows_that_somebody_deleted(path: Path, deleted: str) -> None:
    """What isn't there any more doesn't keep the topic waiting for ever."""
    with stored(path) as store:
        append(store, numbered(0, 4))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        left = 4 - connection.execute(f"DELETE FROM rows WHERE {deleted}").rowcount  # noqa: S608
    with stored(path) as store:
        with store.transaction():
            store.append(numbered(4, 1))
        open_jobs(store)
        with store.transaction():
            store.claim(100, PLENTY_BYTES)
        assert store.pending == left + 1
        assert append(store, numbered(5, 1))[0].sequence == left + 2


# -- Reading -------------------------------------------------------------------


def test_reads_keep_their_bounds(path: Path) -> None:
    """A read ends at its rows or at its bytes, and gives one row at least."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 20, size=100))
        open_jobs(store)

        def sequences(after: int, rows: int, size: int) -> list[int]:
            return [row.sequence for row in store.read("jobs", 0, after, rows, size)]

        assert sequences(0, 5, PLENTY_BYTES) == [1, 2, 3, 4, 5]
        assert sequences(18, 5, PLENTY_BYTES) == [19, 20]
        assert sequences(20, 5, PLENTY_BYTES) == []
        assert sequences(3, 100, 250) == [4, 5, 6]
        assert sequences(3, 100, 1) == [4]


def test_the_oldest_waiting_row_is_known(path: Path) -> None:
    """Lag is told from the row that waits longest, in whichever lane."""

    def at(received_at_us: int, key: str) -> Record:
        return Record("jobs", key.encode(), b"{}", received_at_us, ENVELOPE)

    with stored(path) as store:
        assert store.oldest_pending_us() is None
        append(store, [at(50, "early")])
        assert store.oldest_pending_us() == 50
        open_jobs(store)
        with store.transaction():
            store.claim(10, PLENTY_BYTES)
        append(store, [at(70, "a"), at(80, "b")])
        acknowledge(store, 1, 1, 0)
        assert store.oldest_pending_us() == 70
        acknowledge(store, 2, 3, 1)
        assert store.oldest_pending_us() is None


# -- Restart and failure -------------------------------------------------------


def test_a_damaged_page_is_told(path: Path) -> None:
    """Random bytes in the file give one clear sentence that names the file."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 500, size=400))
    damaged = bytearray(path.read_bytes())
    damaged[8192:] = b"\xa5" * (len(damaged) - 8192)
    path.write_bytes(damaged)
    with (
        pytest.raises(OutboxDamagedError, match="not a readable outbox") as caught,
        stored(path),
    ):
        pytest.fail("it can be read")
    assert str(path) in str(caught.value)
