"""Lanes open where the log ends, also where it is ahead of the file."""

from __future__ import annotations

import shutil
import sqlite3  # noqa: TID251 - plays the person with a shell
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import OutboxDamagedError
from tests.outbox.making import (
    MIB,
    acknowledge,
    append,
    fresh,
    number_of,
    numbered,
    open_jobs,
    read_all,
    spread,
    stored,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


def test_a_new_lane_resumes_at_the_end_of_its_log(path: Path) -> None:
    """Nothing of a new outbox can lie before the end that its log had."""
    with stored(path) as store:
        with store.transaction():
            store.open_topic("jobs", spread(1), fresh(1, end_offset=500), None)
        (state,) = store.lane_states()
        assert state.resume_offset == 500
        assert (state.acknowledged_sequence, state.last_sequence) == (0, 0)
    with stored(path) as store:
        # Opened again the log is longer; where to resume stays as it was.
        with store.transaction():
            store.open_topic("jobs", spread(1), fresh(1, end_offset=900), None)
        (state,) = store.lane_states()
        assert state.resume_offset == 500


def test_a_partition_more_is_a_lane_more(path: Path) -> None:
    """A topic that has grown keeps its lanes and gets the new ones."""
    with stored(path) as store:
        open_jobs(store, 1)
        append(store, numbered(0, 5))
        open_jobs(store, 3)
        assert [state.partition for state in store.lane_states()] == [0, 1, 2]
        assert [row.sequence for row in read_all(store)] == [1, 2, 3, 4, 5]


def test_a_log_ahead_of_the_file_is_not_repeated(path: Path) -> None:
    """New rows are numbered above whatever the log has seen of this outbox."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 5))
        acknowledge(store, 1, 5, 0)
        with store.transaction():
            store.open_topic("jobs", spread(1), {0: (20, 20)}, None)
        assert store.pending == 0
        (state,) = store.lane_states()
        assert (state.acknowledged_sequence, state.last_sequence) == (20, 20)
        # Further up nothing is known to be wanted: reading on from here is right.
        assert state.resume_offset == 4
    with stored(path) as store:
        (state,) = store.lane_states()
        assert (state.acknowledged_sequence, state.last_sequence) == (20, 20)
        open_jobs(store)
        assert append(store, numbered(20, 1))[0].sequence == 21
        assert store.pending == 1
        acknowledge(store, 21, 21, 20)
        assert store.pending == 0


def _without_lane(path: Path) -> list[str]:
    """Write rows 1 and 2, acknowledged, and five that have no lane: their ce_ids."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 2))
        acknowledge(store, 1, 2, 0)
    with stored(path) as store:
        append(store, numbered(2, 5))
        cursor = store._connection.execute("SELECT ce_id FROM rows ORDER BY position")
        # Those without a lane come first.
        return [ce_id for (ce_id,) in cursor][:5]


def test_rows_without_a_lane_get_the_sequences_that_the_log_has(path: Path) -> None:
    """
    The file was put back to a copy from before its rows got their lanes.

    One that was refused then has its place in between; what the log doesn't have
    goes above all that it ever had. A crash in the middle changes nothing.
    """
    first, _, third, fourth, _ = _without_lane(path)
    shown = {first: 3, third: 5, fourth: 6, "lost since": 7}
    with stored(path) as store:
        with store.transaction():
            store.open_topic("jobs", spread(1), {0: (20, 20)}, None, {0: shown})
            assert store.claim(3, MIB) == [("jobs", 0, 5)]
        acknowledge(store, 3, 3, 2)
        acknowledge(store, 4, 5, 3)
        assert store.pending == 2
    with stored(path) as store:
        (state,) = store.lane_states()
        assert (state.acknowledged_sequence, state.last_sequence) == (5, 5)
        shown = {fourth: 6, "lost since": 7}
        with store.transaction():
            store.open_topic("jobs", spread(1), {0: (20, 20)}, None, {0: shown})
            assert store.claim(9, MIB) == [("jobs", 0, 21)]
        rows = read_all(store, after=5)
        assert [(row.sequence, number_of(row)) for row in rows] == [(6, 5), (21, 6)]
        acknowledge(store, 6, 6, 5)
        acknowledge(store, 21, 21, 20)
        assert store.pending == 0


def test_a_sequence_of_the_log_never_stands_for_two_events(path: Path) -> None:
    """Where the log's sequences don't fit to the rows' order they get new ones."""
    first, _, third, _, _ = _without_lane(path)
    # As after more partitions: the second row stood in another lane, and what has
    # the sequence between the two is now in another one.
    shown = {first: 3, "elsewhere": 4, third: 5}
    with stored(path) as store:
        with store.transaction():
            store.open_topic("jobs", spread(1), {0: (20, 20)}, None, {0: shown})
            store.claim(9, MIB)
        rows = read_all(store, after=2)
        assert [row.sequence for row in rows] == [21, 22, 23, 24, 25]
        assert [number_of(row) for row in rows] == [2, 3, 4, 5, 6]


def test_rows_of_an_older_copy_wait_until_they_are_found(path: Path) -> None:
    """
    The file was put back to an older copy with rows in it that wait.

    The log may have them or not, so they stay until the relay has looked for
    each; new rows go on above the log; nothing is counted that isn't there.
    """
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 5))
        acknowledge(store, 1, 2, 0)
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    with stored(copy) as store:
        with store.transaction():
            store.open_topic("jobs", spread(1), {0: (9, 9)}, None)
        assert store.pending == 3
        (state,) = store.lane_states()
        assert (state.acknowledged_sequence, state.last_sequence) == (2, 5)
        new = append(store, numbered(100, 2))
        assert [row.sequence for row in new] == [10, 11]
        assert store.pending == 5
    with stored(copy) as store:
        # A restart in the middle changes nothing, and an even longer log is heeded.
        assert store.pending == 5
        (state,) = store.lane_states()
        assert (state.acknowledged_sequence, state.last_sequence) == (2, 11)
        with store.transaction():
            store.open_topic("jobs", spread(1), {0: (30, 30)}, None)
        assert append(store, numbered(200, 1))[0].sequence == 31
        # A read never spans what was skipped: offsets beside it would be wrong.
        assert [row.sequence for row in store.read("jobs", 0, 2, 9, 999)] == [3, 4, 5]
        acknowledge(store, 3, 4, 2)
        acknowledge(store, 5, 5, 4)
        assert store.pending == 3
        assert [number_of(row) for row in store.read("jobs", 0, 5, 9, 999)] == [
            100,
            101,
        ]
        acknowledge(store, 10, 11, 9)
        acknowledge(store, 31, 31, 30)
        assert store.pending == 0
        with store.transaction():
            assert (
                store.trim(
                    older_than_us=10**18, keep_bytes=0, max_rows=99, max_bytes=MIB
                )
                == 8
            )
        assert read_all(store) == []
    with stored(copy) as store:
        (state,) = store.lane_states()
        assert (state.acknowledged_sequence, state.last_sequence) == (31, 31)


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
