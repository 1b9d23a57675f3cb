"""The buffer keeps its bound, its order and what matters most."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from bridge.outbox.buffer import Buffer, weigh
from bridge.outbox.losses import Dropped, Share
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from bridge.events.record import Importance, Record
from tests.outbox.making import ENVELOPE, number_of, numbered, record, source_of


_ONE = weigh(record("job", b"x" * 50))
_CELL = "event", "socket"


def _buffer(max_bytes: int) -> Buffer:
    return Buffer(max_bytes, lighten)


def lighten(given_one: Record) -> Record | None:
    """Take out all but the number."""
    if given_one.importance is not Importance.PREVIEW:
        return None
    number = b"%d:" % number_of(given_one)
    return structs.replace(given_one, value=number, importance=Importance.EVENT)


def _records(
    count: int, importance: Importance = Importance.EVENT, first: int = 0
) -> list[Record]:
    return [
        structs.replace(
            record("job", b"%02d:" % number + b"x" * 47),
            importance=importance,
            received_at_us=number,
        )
        for number in range(first, first + count)
    ]


def _of(account: int, records: list[Record]) -> list[Record]:
    """Have records come from an account."""
    envelope = structs.replace(ENVELOPE, ce_source=source_of(account))
    return [structs.replace(one, envelope=envelope) for one in records]


def _gone(records: int, since_us: int, last_us: int) -> Dropped:
    """Tell of records that were given up of the one account."""
    share = Share(records, since_us, last_us)
    return Dropped(shares={ENVELOPE.ce_source: share}, cells={_CELL: records})


def _without(pictures: int, previews: int = 0) -> Dropped:
    """Tell of previews that were given up, on a topic of their own or not."""
    return Dropped(previews, pictures, cells={_CELL: pictures})


def _numbers(records: Sequence[Record]) -> list[int]:
    return [number_of(one) for one in records]


def _rest(buffer: Buffer) -> list[Record]:
    """Take all, a quarter of the buffer at a time."""
    rows: list[Record] = []
    while buffer:
        rows += buffer.take(1000, 1_000_000)[0]
    return rows


# -- Bounds ----------------------------------------------------------------------


def test_takes_events_up_to_seven_eighths_and_last_events_up_to_the_end() -> None:
    """Each is taken in order as far as its kind finds room; the rest is told."""
    buffer = _buffer(8 * _ONE)
    assert buffer.put(_records(3)) is None
    dropped = buffer.put(_records(6, first=3))
    assert dropped == _gone(2, 6, 8)
    assert buffer.put(_records(1, Importance.TERMINAL, first=9)) is None
    assert _numbers(_rest(buffer)) == [0, 1, 2, 3, 4, 5, 6, 9]
    assert buffer.size_bytes == 8 * _ONE


# -- What goes first -------------------------------------------------------------


def test_previews_go_before_any_event_does() -> None:
    """From three quarters on a preview's event is taken without it."""
    buffer = _buffer(8 * _ONE)
    buffer.put(_records(6, Importance.PREVIEW))
    dropped = buffer.put(_records(1, Importance.PREVIEW, first=6))
    assert dropped == Dropped(previews=1)
    taken = _rest(buffer)
    assert _numbers(taken) == list(range(7))
    assert [len(one.value) for one in taken] == [50] * 6 + [2]


def test_shedding_begins_with_previews_on_their_own() -> None:
    """No event goes where records of previews make room enough."""
    buffer = _buffer(16 * _ONE)
    buffer.put(_records(10))
    buffer.put(_records(2, Importance.PICTURE, first=10))
    buffer.put(_records(2, first=12))
    assert buffer.is_crowded
    assert buffer.shed(since_us=-1) == _without(2)
    assert _numbers(_rest(buffer)) == [*range(10), 12, 13]
    buffer.release(buffer.size_bytes)
    buffer.put(_records(3, Importance.PICTURE))
    assert buffer.shed(since_us=-1, to_the_end=True) == _without(3)


def test_events_lose_previews_and_previews_go_where_the_disk_is_short() -> None:
    """What is already in the disk's hands is lightened in the same way."""
    records = _records(1, Importance.PICTURE) + _records(1, Importance.PREVIEW, first=1)
    records += _records(2, first=2)
    lighter, dropped = _buffer(_ONE).lighten(records)
    assert _numbers(lighter) == [1, 2, 3]
    assert dropped == _without(1, previews=1)


def test_sheds_previews_then_the_oldest_events() -> None:
    """While nothing can be written, last events come to the front."""
    buffer = _buffer(16 * _ONE)
    for number in range(7):
        buffer.put(_records(1, first=2 * number))
        buffer.put(_records(1, Importance.TERMINAL, first=2 * number + 1))
    assert buffer.is_crowded
    dropped = buffer.shed(since_us=-1)
    assert dropped == _gone(2, -1, 2)
    assert buffer.size_bytes == 12 * _ONE
    assert buffer.shed(since_us=-1).records == 0
    assert buffer.shed(since_us=-1, to_the_end=True).records == 5
    assert _numbers(_rest(buffer)) == list(range(1, 14, 2))


def test_what_goes_is_told_by_account() -> None:
    """Refused, displaced or shed: each account's part has its own bounds."""
    buffer = _buffer(16 * _ONE)
    buffer.put(_of(1, _records(10)))
    refused = buffer.put(_of(2, _records(5, first=10)) + _of(1, _records(1, first=15)))
    assert refused is not None
    assert refused.shares == {
        source_of(2): Share(1, 13, 14),
        source_of(1): Share(1, 13, 15),
    }
    displaced = buffer.put(_of(3, _records(7, Importance.TERMINAL, first=16)))
    assert displaced is not None
    assert displaced.shares == {
        source_of(2): Share(4, 9, 13),
        source_of(1): Share(1, 8, 9),
    }
    shed = buffer.shed(since_us=-1)
    assert shed.shares == {source_of(1): Share(4, -1, 3)}
    assert (refused.records, displaced.records, shed.records) == (2, 5, 4)


# -- Whatever comes --------------------------------------------------------------

_step = st.one_of(
    st.lists(st.sampled_from(Importance), min_size=1, max_size=8),
    st.tuples(st.integers(1, 8), st.integers(1, 10 * _ONE), st.booleans()),
    st.just("shed"),
)


@given(max_bytes=st.integers(1, 20 * _ONE), steps=st.lists(_step, max_size=40))
def test_keeps_its_bounds_and_its_order_of_dropping(
    max_bytes: int, steps: list[list[Importance] | tuple[int, int, bool] | str]
) -> None:
    """Whatever comes: bounds and order hold, counts add up, last events go last."""
    buffer = _buffer(max_bytes)
    came: list[Record] = []
    taken: list[Record] = []
    dropped = 0
    for step in steps:
        if step == "shed":
            told = buffer.shed(None)
            dropped += told.records + told.pictures
        elif isinstance(step, list):
            records = [
                structs.replace(one, importance=importance)
                for one, importance in zip(
                    numbered(len(came), len(step), size=50), step, strict=True
                )
            ]
            given_up = buffer.put(records)
            came += records
            if given_up is not None:
                dropped += given_up.records + given_up.pictures
                _check_that_previews_went_first(buffer, given_up, records)
            assert buffer.size_bytes <= max(max_bytes, weigh(records[0]))
            _check_that_last_events_went_last(buffer, records)
        elif isinstance(step, tuple):
            max_rows, most_bytes, is_written = step
            rows, weight = buffer.take(max_rows, most_bytes)
            assert len(rows) <= max_rows
            assert weight == sum(weigh(row) for row in rows)
            assert weight <= most_bytes or len(rows) == 1
            if is_written:
                taken += rows
                buffer.release(weight)
            else:
                buffer.put_back(rows, weight)
    rest = _rest(buffer)
    buffer.release(sum(map(weigh, rest)))
    kept = _numbers([*taken, *rest])
    assert kept == sorted(set(kept))
    assert len(kept) + dropped == len(came)
    assert buffer.size_bytes == 0
    assert not buffer


def _check_that_last_events_went_last(buffer: Buffer, records: list[Record]) -> None:
    """No last event was refused while the buffer holds anything else."""
    inside = _rest(buffer)
    buffer.put_back(inside, sum(map(weigh, inside)))
    numbers = set(_numbers(inside))
    lost = [
        one
        for one in records
        if one.importance is Importance.TERMINAL and number_of(one) not in numbers
    ]
    # A single record of any size may stand in a buffer that is too small for it.
    if lost and len(inside) > 1:
        assert {one.importance for one in inside} == {Importance.TERMINAL}


def _check_that_previews_went_first(
    buffer: Buffer, dropped: Dropped, records: list[Record]
) -> None:
    """No event was refused where a preview that came later was taken."""
    inside = _rest(buffer)
    buffer.put_back(inside, sum(map(weigh, inside)))
    numbers = set(_numbers(inside))
    refused = [
        one
        for one in records
        if one.importance is Importance.EVENT and number_of(one) not in numbers
    ]
    assert bool(dropped.shares) or not refused
    if refused:
        after = records[records.index(refused[0]) :]
        pictures = [one for one in after if one.importance is Importance.PICTURE]
        assert not {number_of(one) for one in pictures} & numbers


def test_one_thread_puts_while_another_takes() -> None:
    """Nothing is lost or turned round between two threads, and counts add up."""
    buffer = _buffer(20 * _ONE)
    taken: list[int] = []
    dropped = [0]
    is_done = threading.Event()

    def put() -> None:
        for number in range(0, 20_000, 4):
            records = numbered(number, 4, size=50)
            records[3] = structs.replace(records[3], importance=Importance.TERMINAL)
            told = buffer.put(records)
            dropped[0] += told.records if told is not None else 0
        is_done.set()

    thread = threading.Thread(target=put)
    thread.start()
    shed = 0
    while not is_done.is_set() or buffer:
        rows, weight = buffer.take(3, 1_000_000)
        if buffer.is_crowded:
            buffer.put_back(rows, weight)
            shed += buffer.shed(None).records
            rows, weight = buffer.take(3, 1_000_000)
        taken += [number_of(row) for row in rows]
        buffer.release(weight)
    thread.join()
    assert taken == sorted(set(taken))
    assert len(taken) + shed + dropped[0] == 20_000
    assert buffer.size_bytes == 0
