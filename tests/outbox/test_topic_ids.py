"""A topic that was made anew under its name is another log."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.outbox.store import Store
from bridge.record import LaneState
from tests.outbox.making import (
    MIB,
    acknowledge,
    append,
    fresh,
    numbered,
    read_all,
    spread,
    stored,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Give six rows of the topic `a`: 1 to 4 stand at 50 to 53, 5 and 6 wait."""
    with stored(path) as store:
        _open(store, "a", 50)
        append(store, numbered(0, 6))
        acknowledge(store, 1, 4, 50, at_us=10**15, size=40)
        yield store


def _open(
    store: Store, topic_id: str | None, end_offset: int = 60, seen: int = 0
) -> None:
    with store.transaction():
        store.open_topic("jobs", spread(1), {0: (seen, end_offset)}, topic_id)


def _state(store: Store) -> LaneState:
    (state,) = store.lane_states()
    return state


def test_what_the_topic_before_had_is_delivered(store: Store, path: Path) -> None:
    """Acknowledged rows are done with, waiting ones wait, sequences go on."""
    _open(store, "b", 7)
    store.close()
    with stored(path) as again:
        state = _state(again)
        assert (state.resume_offset, state.resume_ce_id) == (0, None)
        assert (state.acknowledged_sequence, state.last_sequence) == (4, 6)
        assert state.topic_id == "b"
        assert again.pending == 2
        assert again.delivered("jobs", 0, 0, 99) == []
        _open(again, "b", 7)
        assert append(again, numbered(6, 1))[0].sequence == 7
        acknowledge(again, 5, 7, 0)
        assert [
            (row.sequence, row.offset) for row in again.delivered("jobs", 0, 0, 99)
        ] == [(5, 0), (6, 1), (7, 2)]


def test_rows_of_the_topic_before_go_first(store: Store) -> None:
    """However young they are, they are trimmed, and offsets stay those of now."""
    _open(store, "b")
    acknowledge(store, 5, 5, 0, at_us=10**15)
    for left in (3, 2, 1, 0):
        with store.transaction():
            assert (
                store.trim(older_than_us=1, keep_bytes=MIB, max_rows=1, max_bytes=MIB)
                == 1
            )
        assert len(read_all(store)) == left + 2
        assert _state(store).resume_offset == 0
    with store.transaction():
        assert not store.trim(
            older_than_us=1, keep_bytes=MIB, max_rows=1, max_bytes=MIB
        )


def test_rows_of_the_topic_before_are_not_sent_again(store: Store) -> None:
    """A log that loses its tail lost nothing that another log had."""
    _open(store, "b")
    acknowledge(store, 5, 6, 0)
    with store.transaction():
        assert store.rewind("jobs", 0, 2, 0) == 2
    assert (_state(store).acknowledged_sequence, store.pending) == (4, 2)


@pytest.mark.parametrize("topic_id", ["a", None])
def test_the_same_topic_goes_on(store: Store, topic_id: str | None) -> None:
    """A broker that doesn't tell an id leaves everything as it was."""
    before = store.lane_states()
    _open(store, topic_id)
    assert store.lane_states() == before
    assert len(store.delivered("jobs", 0, 0, 99)) == 4


def test_an_id_is_learned_later(path: Path) -> None:
    """A lane without an id takes the first that it is told."""
    with stored(path) as store:
        _open(store, None, 50)
        append(store, numbered(0, 1))
        acknowledge(store, 1, 1, 50)
        _open(store, "a")
        assert _state(store).topic_id == "a"
        assert _state(store).resume_offset == 50


def test_a_new_topic_ahead_of_an_older_copy(store: Store, path: Path) -> None:
    """
    The file is put back to before the topic was made anew.

    Its waiting rows may be in either topic, so that they wait; new rows are
    numbered above both.
    """
    store.file.checkpoint()
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    with stored(copy) as older:
        _open(older, "b", 9, seen=20)
        assert older.pending == 2
        assert append(older, numbered(6, 1))[0].sequence == 21
        state = _state(older)
        assert (state.acknowledged_sequence, state.resume_offset) == (4, 0)


def test_a_new_lane_survives_a_power_loss(path: Path) -> None:
    """It is on the disk before anything is sent: else it would begin again at 1."""
    with stored(path) as store:
        with store.transaction():
            store.open_topic("jobs", spread(2), fresh(2), "a")
        append(store, numbered(0, 5))
        # What isn't synced is lost: the log.
        shutil.copy(path, path.with_name("copy"))
    with stored(path.with_name("copy")) as store, store.reading():
        assert [state.partition for state in store.lane_states()] == [0, 1]
        assert store.pending == 0
