"""A log that lost its tail: what was acknowledged waits again, as far as it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.outbox.store import Store
from bridge.record import LaneState
from tests.outbox.making import (
    MIB,
    acknowledge,
    append,
    number_of,
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


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Give ten rows: 1 to 8 stand in the log at 100 to 107, 9 and 10 wait."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 10))
        acknowledge(store, 1, 8, 100, size=80)
        yield store


def _rewind(store: Store, sequence: int, resume_offset: int) -> int:
    with store.transaction():
        return store.rewind("jobs", 0, sequence, resume_offset)


def _trim(store: Store, rows: int = 99, keep_bytes: int = 0) -> int:
    with store.transaction():
        return store.trim(
            older_than_us=0, keep_bytes=keep_bytes, max_rows=rows, max_bytes=MIB
        )


def _state(store: Store) -> LaneState:
    (state,) = store.lane_states()
    return state


def _delivered(store: Store, after: int = 0, rows: int = 99) -> list[tuple[int, int]]:
    return [
        (row.sequence, row.offset) for row in store.delivered("jobs", 0, after, rows)
    ]


def test_acknowledged_rows_are_told_with_their_offsets(store: Store) -> None:
    """Those that are kept, in order, over the borders of runs, in portions."""
    acknowledge(store, 9, 9, 200)
    known = [*zip(range(1, 9), range(100, 108), strict=True), (9, 200)]
    assert _delivered(store) == known
    assert _delivered(store, 6) == known[6:]
    assert _delivered(store, 6, 2) == known[6:8]
    assert _delivered(store, 9) == []
    ids = [row.ce_id for row in store.delivered("jobs", 0, 0, 99)]
    assert ids == [row.ce_id for row in read_all(store)[:9]]
    _trim(store, 3)
    assert _delivered(store) == known[3:]


def test_the_record_at_the_resume_offset_is_known_by_name(store: Store) -> None:
    """As long as its row is kept; later its offset alone is known."""
    assert _state(store).resume_ce_id == read_all(store)[7].ce_id
    _trim(store)
    assert _state(store).resume_ce_id is None
    assert _state(store).resume_offset == 107


def test_a_lost_tail_waits_again(store: Store, path: Path) -> None:
    """Rows after the last that is there come back as they were, also after a crash."""
    before = read_all(store)
    assert _rewind(store, 5, 105) == 3
    state = _state(store)
    store.close()
    with stored(path) as again:
        with again.reading():
            assert _state(again) == state
        assert (state.acknowledged_sequence, state.last_sequence) == (5, 10)
        assert (state.resume_offset, state.resent_sequence) == (105, 8)
        assert again.pending == 5
        assert read_all(again, after=5) == before[5:]
        known = list(zip(range(1, 6), range(100, 105), strict=True))
        assert _delivered(again) == known


def test_the_mark_goes_when_the_lane_has_passed_it(store: Store, path: Path) -> None:
    """It tells which rows are sent a second time, and nothing after that."""
    _rewind(store, 5, 105)
    acknowledge(store, 6, 7, 105)
    assert _state(store).resent_sequence == 8
    # The log is cut again; the mark stays where it was.
    assert _rewind(store, 6, 106) == 1
    assert _state(store).resent_sequence == 8
    acknowledge(store, 7, 9, 106)
    assert _state(store).resent_sequence == 0
    assert _delivered(store, 4) == [(5, 104), (6, 105), (7, 106), (8, 107), (9, 108)]
    assert store.pending == 1
    store.close()
    with stored(path) as again:
        assert _state(again).resent_sequence == 0
        assert again.pending == 1


def test_rows_that_stood_there_unheard_are_marked_too(store: Store, path: Path) -> None:
    """They wait as before, and are told with those that wait again."""
    with store.transaction():
        assert store.rewind("jobs", 0, 5, 105, 9) == 4
    store.close()
    with stored(path) as again:
        assert (_state(again).resent_sequence, again.pending) == (9, 5)
        acknowledge(again, 6, 8, 105)
        assert _state(again).resent_sequence == 9
        acknowledge(again, 9, 9, 108)
        assert (_state(again).resent_sequence, again.pending) == (0, 1)


def test_trimmed_rows_do_not_wait_again(store: Store, path: Path) -> None:
    """What isn't kept can't be sent: its sequences are passed over."""
    _trim(store, 6)
    assert _rewind(store, 3, 103) == 2
    assert store.pending == 4
    assert [row.sequence for row in read_all(store, after=3)] == [7, 8, 9, 10]
    assert (_state(store).acknowledged_sequence, _state(store).resume_offset) == (
        3,
        103,
    )
    store.close()
    with stored(path) as again:
        assert again.pending == 4
        acknowledge(again, 7, 8, 103)
        assert (again.pending, _state(again).resent_sequence) == (2, 0)
        acknowledge(again, 9, 10, 105)
        assert again.pending == 0


def test_nothing_waits_for_rows_that_are_all_trimmed(store: Store) -> None:
    """A lane whose lost rows are gone goes on behind them."""
    acknowledge(store, 9, 10, 108)
    _trim(store)
    assert _rewind(store, 3, 103) == 0
    assert store.pending == 0
    state = _state(store)
    assert (state.acknowledged_sequence, state.resent_sequence) == (10, 0)
    assert state.resume_offset == 103
    assert append(store, numbered(10, 1))[0].sequence == 11


def test_waiting_rows_are_never_trimmed(store: Store) -> None:
    """Rows that came back stay, and what is kept beside them is counted right."""
    _rewind(store, 5, 105)
    assert _trim(store, keep_bytes=50) == 0
    assert _trim(store, keep_bytes=49) == 5
    assert [number_of(row) for row in read_all(store)] == [5, 6, 7, 8, 9]
    # The floor that the rewinding gave is above the last trimmed row.
    assert _state(store).resume_offset == 105


def test_only_acknowledged_rows_can_be_lost(store: Store) -> None:
    """A mistake of the caller's is told, and changes nothing."""
    before = store.lane_states()
    for wrong in (9, -1):
        with pytest.raises(ValueError, match="can't be rewound from 8"):
            _rewind(store, wrong, 0)
    with pytest.raises(ValueError, match="no lane"), store.transaction():
        store.rewind("jobs", 7, 1, 0)
    assert store.lane_states() == before


def test_an_undone_rewinding_has_never_been(store: Store) -> None:
    """A commit that fails leaves file and memory as they were."""
    before = store.lane_states(), store.pending, _delivered(store)
    with undone(store):
        store.rewind("jobs", 0, 2, 0)
    assert (store.lane_states(), store.pending, _delivered(store)) == before
    # What is kept was counted anew, too.
    assert _trim(store, keep_bytes=80) == 0


def test_a_row_is_never_passed_over(store: Store) -> None:
    """Sequences without a row may be passed, a row that waits may not."""
    with store.transaction():
        store.open_topic("jobs", spread(1), {0: (20, 108)}, None)
    with pytest.raises(AssertionError, match="passes over a row"):
        acknowledge(store, 10, 10, 108)
    assert store.pending == 2
