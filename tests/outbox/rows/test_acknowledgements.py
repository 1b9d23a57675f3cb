"""Rows that Kafka has are remembered as runs and go when their time has come."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.outbox.rows.lane import Run
from bridge.outbox.store import Store
from tests.outbox.making import (
    MIB,
    acknowledge,
    append,
    fresh,
    numbered,
    open_jobs,
    read_all,
    spread,
    stored,
    undone,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


def _runs(store: Store) -> list[tuple[int, int, int, int]]:
    """Read the first lane's runs: first, last, offset, bytes."""
    return store._connection.execute(
        "SELECT first_sequence, last_sequence, base_offset, size_bytes"
        " FROM acknowledged WHERE lane = 2"
    ).fetchall()


def _trim(
    store: Store,
    older_than_us: int,
    keep_bytes: int,
    max_rows: int = 99,
    max_bytes: int = MIB,
) -> int:
    with store.transaction():
        return store.trim(
            older_than_us=older_than_us,
            keep_bytes=keep_bytes,
            max_rows=max_rows,
            max_bytes=max_bytes,
        )


def test_neighbours_become_one_run(path: Path) -> None:
    """Runs side by side in sequence, offset and time are one row of the table."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 2100))
        acknowledge(store, 1, 2, 10, at_us=0, size=5)
        acknowledge(store, 3, 3, 12, at_us=10, size=7)
        assert _runs(store) == [(1, 3, 10, 12)]
        # Somebody else's record, or a marker, lies between.
        acknowledge(store, 4, 4, 14, at_us=20)
        # Too long ago to go together.
        acknowledge(store, 5, 5, 15, at_us=2_000_000)
        # Long enough to be deleted at once.
        acknowledge(store, 6, 1004, 16, at_us=2_000_001)
        acknowledge(store, 1005, 2004, 1015, at_us=2_000_002)
        assert [run[:3] for run in _runs(store)] == [
            (1, 3, 10),
            (4, 4, 14),
            (5, 1004, 15),
            (1005, 2004, 1015),
        ]
        (state,) = store.lane_states()
        assert state.resume_offset == 1015 + 999


def test_merging_survives_a_failed_commit(path: Path) -> None:
    """What was merged and undone can be acknowledged again, once."""
    runs = [Run(1, 2, 0, 0, 20), Run(3, 4, 2, 0, 20), Run(5, 5, 4, 0, 10)]
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 6))
        with undone(store):
            for run in runs:
                store.acknowledge("jobs", 0, run)
        with store.transaction():
            for run in runs:
                store.acknowledge("jobs", 0, run)
        assert _runs(store) == [(1, 5, 0, 50)]
        assert [run.count for run in runs] == [2, 2, 1]
        assert store.pending == 1


def test_old_rows_go_first(path: Path) -> None:
    """Acknowledged rows go by age, whatever their lane; waiting ones never."""
    with stored(path) as store:
        with store.transaction():
            store.open_topic("jobs", lambda key: int(key == b"job-1"), fresh(2), None)
        append(store, numbered(0, 4, keys=2))
        for partition, at_us in ((1, 100), (0, 200)):
            with store.transaction():
                store.acknowledge("jobs", partition, Run(1, 1, 7, at_us, 10))
        assert _trim(store, older_than_us=100, keep_bytes=100) == 0
        assert _trim(store, older_than_us=150, keep_bytes=100) == 1
        assert [row.sequence for row in read_all(store, 1)] == [2]
        assert [row.sequence for row in read_all(store, 0)] == [1, 2]
        assert _trim(store, older_than_us=10**18, keep_bytes=0) == 1
        assert [row.sequence for row in read_all(store, 0)] == [2]
        assert _trim(store, older_than_us=10**18, keep_bytes=0) == 0
        assert store.pending == 2


def test_rows_go_when_there_are_too_many_bytes(path: Path) -> None:
    """The oldest go until what is left keeps its bound."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 5))
        for sequence in range(1, 6):
            acknowledge(store, sequence, sequence, 2 * sequence, size=10)
        assert _trim(store, older_than_us=0, keep_bytes=25) == 3
        assert [row.sequence for row in read_all(store)] == [4, 5]
    with stored(path) as store:
        # What is kept is counted anew by the next process.
        assert _trim(store, older_than_us=0, keep_bytes=15) == 1


def test_trimming_stops_after_enough_rows(path: Path) -> None:
    """One transaction trims until it has enough; the next one goes on there."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 1000))
        for first in range(1, 1000, 2):
            acknowledge(store, first, first + 1, 2 * first)
        assert _trim(store, 10**18, 0, max_rows=9) == 9
        assert [run[:3] for run in _runs(store)][:2] == [(10, 10, 19), (11, 12, 22)]
        (state,) = store.lane_states()
        assert state.acknowledged_sequence == 1000
        # However small the runs, it takes no longer than some milliseconds.
        assert _trim(store, 10**18, 0, max_rows=10_000) == 299


def test_trimming_stops_after_enough_bytes(path: Path) -> None:
    """Large rows go in smaller pieces, one at least; what is kept is known."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 11, size=1000))
        acknowledge(store, 1, 10, 50, size=10_000)
        assert _trim(store, 10**18, 0, max_bytes=3500) == 3
        assert _runs(store) == [(4, 10, 53, 7000)]
        assert _trim(store, 10**18, 0, max_bytes=1) == 1
    with stored(path) as store:
        assert _runs(store) == [(5, 10, 54, 6000)]
        (state,) = store.lane_states()
        assert (state.acknowledged_sequence, state.resume_offset) == (10, 59)
        assert _trim(store, 0, keep_bytes=6000) == 0
        assert _trim(store, 0, keep_bytes=5999, max_bytes=1) == 1
        assert _trim(store, 10**18, 0) == 5
        assert [row.sequence for row in read_all(store)] == [11]


def test_the_floor_outlives_rows_and_restarts(path: Path) -> None:
    """Without any row left, sequences go on and resuming begins at the last one."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 5))
        acknowledge(store, 1, 5, 100)
        assert _trim(store, older_than_us=10**18, keep_bytes=0) == 5
        assert _runs(store) == []
    with stored(path) as store:
        (state,) = store.lane_states()
        assert (state.acknowledged_sequence, state.last_sequence) == (5, 5)
        assert state.resume_offset == 104
        with store.transaction():
            store.open_topic("jobs", spread(1), {0: (5, 300)}, None)
        (state,) = store.lane_states()
        assert state.resume_offset == 104
        assert append(store, numbered(5, 1))[0].sequence == 6
