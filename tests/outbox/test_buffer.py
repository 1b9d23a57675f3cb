"""The buffer keeps its bound and its order, whoever comes and goes."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from bridge.outbox.buffer import Buffer, weigh
from bridge.record import Record
from tests.outbox.making import ENVELOPE, number_of, numbered, record


_ONE = weigh(record("job", b"x" * 50))


def _records(count: int) -> list[Record]:
    return [record("job", b"%02d:" % number + b"x" * 47) for number in range(count)]


def test_takes_what_has_room_and_drops_the_rest_from_the_end() -> None:
    """A run that doesn't fit whole is taken as far as it fits."""
    buffer = Buffer(3 * _ONE)
    assert buffer.put(_records(1)) == 0
    assert buffer.put(_records(5)) == 3
    taken, weight = buffer.take(100, 1_000_000)
    assert [number_of(row) for row in taken] == [0, 0, 1]
    assert weight == buffer.size_bytes == 3 * _ONE


def test_counts_what_was_taken_until_it_is_released() -> None:
    """Records on their way to disk still use the buffer's room."""
    buffer = Buffer(2 * _ONE)
    buffer.put(_records(2))
    _, weight = buffer.take(100, 1_000_000)
    assert not buffer
    assert buffer.put(_records(1)) == 1
    buffer.release(weight)
    assert buffer.size_bytes == 0
    assert buffer.put(_records(1)) == 0


def test_takes_one_record_of_any_size_when_it_holds_nothing() -> None:
    """No record is too large for good, and no second one comes with it."""
    buffer = Buffer(10)
    assert buffer.put(_records(3)) == 2
    assert buffer.put(_records(1)) == 1
    assert len(buffer.take(100, 1)[0]) == 1


def test_weighs_headers_too() -> None:
    """A dead letter's headers count, in the sum and one by one."""
    plain = record("job", b"x" * 50)
    headed = Record("jobs", b"job", b"x" * 50, 1, ENVELOPE, (("reason", b"y" * 1000),))
    assert weigh(headed) > weigh(plain) + 1000
    buffer = Buffer(10 * weigh(headed))
    buffer.put([plain, headed])
    assert buffer.size_bytes == weigh(plain) + weigh(headed)


def test_is_relaxed_when_half_of_it_is_free() -> None:
    """The end of an overflow is told with a distance to its beginning."""
    buffer = Buffer(4 * _ONE)
    buffer.put(_records(3))
    assert not buffer.is_relaxed
    _, weight = buffer.take(1, _ONE)
    buffer.release(weight)
    assert buffer.is_relaxed


@given(
    max_bytes=st.integers(1, 20 * _ONE),
    steps=st.lists(
        st.one_of(
            st.integers(1, 12),
            st.tuples(st.integers(1, 8), st.integers(1, 10 * _ONE)),
        ),
        max_size=40,
    ),
)
def test_keeps_its_bounds(max_bytes: int, steps: list[int | tuple[int, int]]) -> None:
    """Whatever is put and taken: bounds hold, order holds, nothing gets lost."""
    buffer = Buffer(max_bytes)
    accepted: list[int] = []
    taken: list[int] = []
    given_out = 0
    for step in steps:
        if isinstance(step, int):
            records = numbered(given_out, step, size=50)
            given_out += step
            dropped = buffer.put(records)
            accepted += [number_of(row) for row in records[: step - dropped]]
            assert buffer.size_bytes <= max(max_bytes, weigh(records[0]))
        else:
            rows, weight = buffer.take(*step)
            assert len(rows) <= step[0]
            assert weight == sum(weigh(row) for row in rows)
            assert weight <= step[1] or len(rows) == 1
            taken += [number_of(row) for row in rows]
            buffer.release(weight)
    rest, weight = buffer.take(1000, 1_000_000)
    buffer.release(weight)
    assert taken + [number_of(row) for row in rest] == accepted
    assert buffer.size_bytes == 0
    assert not buffer


def test_one_thread_puts_while_another_takes() -> None:
    """Nothing is lost or turned round between two threads."""
    buffer = Buffer(20 * _ONE)
    accepted: list[int] = []
    taken: list[int] = []
    is_done = threading.Event()

    def put() -> None:
        for number in range(0, 20_000, 4):
            records = numbered(number, 4, size=50)
            dropped = buffer.put(records)
            accepted.extend(number_of(row) for row in records[: 4 - dropped])
        is_done.set()

    thread = threading.Thread(target=put)
    thread.start()
    while not is_done.is_set() or buffer:
        rows, weight = buffer.take(3, 1_000_000)
        taken += [number_of(row) for row in rows]
        buffer.release(weight)
    thread.join()
    assert taken == accepted
    assert buffer.size_bytes == 0
