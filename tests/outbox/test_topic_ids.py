"""A topic that was made anew under its name is another log."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.outbox.store import Store
from bridge.outbox.values import LaneState
from tests.outbox.making import (
    acknowledge,
    append,
    fresh,
    numbered,
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
