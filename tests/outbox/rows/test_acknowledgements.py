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
    stored,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


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
