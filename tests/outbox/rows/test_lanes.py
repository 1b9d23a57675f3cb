"""Lanes open where the log ends, also where it is ahead of the file."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - plays the person with a shell
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import OutboxDamagedError
from tests.outbox.making import (
    MIB,
    acknowledge,
    append,
    numbered,
    open_jobs,
    read_all,
    stored,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


def test_a_partition_more_is_a_lane_more(path: Path) -> None:
    """A topic that has grown keeps its lanes and gets the new ones."""
    with stored(path) as store:
        open_jobs(store, 1)
        append(store, numbered(0, 5))
        open_jobs(store, 3)
        assert [state.partition for state in store.lane_states()] == [0, 1, 2]
        assert [row.sequence for row in read_all(store)] == [1, 2, 3, 4, 5]


def test_an_acknowledgement_out_of_order_is_a_mistake(path: Path) -> None:
    """A row is never passed over, nor acknowledged twice, without a noise."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 5))
        acknowledge(store, 1, 2, 0)
        for first in (2, 4):
            with pytest.raises(AssertionError, match="out of order"):
                acknowledge(store, first, 5, 2)
        assert store.pending == 3


def test_rows_that_are_gone_from_a_lane_are_damage(path: Path) -> None:
    """A place that changed on the disk, or a person: no lane passes over it unheard."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 5))
        acknowledge(store, 1, 2, 100)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM rows WHERE value = ?", (b"2:xxxxxxxx",))
    with stored(path) as store:
        (row, _) = store.read("jobs", 0, 2, 9, MIB)
        assert row.sequence == 4
        with pytest.raises(OutboxDamagedError, match="before 4 of jobs-0 are gone"):
            acknowledge(store, 4, 5, 102)
