"""The least important is dropped first, and each interval of it is a loss, twice."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from structlog.testing import capture_logs

from bridge.events.record import Importance, Record
from bridge.outbox.buffer import Buffer, weigh
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.values import Loss
from tests.outbox.making import (
    ENVELOPE,
    MIB,
    append,
    number_of,
    numbered,
    opened,
    read_all,
    record,
    source_of,
)


_ONE = weigh(record("job", b"x" * 50))


def _records(
    count: int,
    importance: Importance = Importance.EVENT,
    first: int = 0,
    account: int = 7,
) -> list[Record]:
    """Make records that were read when their number says."""
    envelope = structs.replace(ENVELOPE, ce_source=source_of(account))
    return [
        structs.replace(
            record("job", b"%02d:" % number + b"x" * 47),
            importance=importance,
            received_at_us=number,
            envelope=envelope,
        )
        for number in range(first, first + count)
    ]


def _strip(given_one: Record) -> Record | None:
    """Take out all but the number."""
    if given_one.importance is not Importance.PREVIEW:
        return None
    number = b"%d:" % number_of(given_one)
    return structs.replace(given_one, value=number, importance=Importance.EVENT)


class _Flood:
    """A buffer, what was reported of it, and a clock of the test's own."""

    def __init__(self, max_bytes: int = 8 * _ONE) -> None:
        self.losses: list[Loss] = []
        self.statistics = OutboxStatistics()
        self.quota: Any = SimpleNamespace(use=0.0, is_full=False)
        self.now = 0.0
        self.buffer = self.make_buffer(max_bytes)

    def make_buffer(self, max_bytes: int) -> Buffer:
        """Make one of another size."""
        return Buffer(
            max_bytes, self.statistics, self.quota, _strip, self.losses.append
        )

    def put(
        self, count: int, importance: Importance = Importance.EVENT, **more: Any
    ) -> None:
        """Offer records."""
        self.buffer.offer(_records(count, importance, **more))

    def take(self) -> list[int]:
        """Empty the buffer."""
        items = self.buffer.take(1000, 10**9)
        self.buffer.release(items)
        return [number_of(record) for item in items for record in item.records]

    def wait(self, seconds: float) -> None:
        """Let time pass, with looks several times a second."""
        for _ in range(8):
            self.now += seconds / 8
            self.buffer.report_losses()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have the clock."""
        clock = SimpleNamespace(monotonic=lambda: self.now)
        with patch("bridge.outbox.buffer.time", clock):
            yield

    def ends(self) -> list[tuple[str | None, int | None, int | None, int]]:
        """Return what was reported at the ends."""
        return [
            (loss.ce_source, loss.since_us, loss.until_us, loss.records)
            for loss in self.losses
            if loss.until_us is not None
        ]


@pytest.fixture
def flood() -> Iterator[_Flood]:
    """Nothing is dropped yet."""
    flood = _Flood()
    with flood.running():
        yield flood


# -- What goes first ---------------------------------------------------------------


def test_events_have_seven_eighths_and_last_events_more(flood: _Flood) -> None:
    """Each is taken in order as far as its kind has room."""
    flood.buffer = flood.make_buffer(64 * _ONE)
    flood.put(60)
    flood.put(9, Importance.TERMINAL, first=60)
    # 31 of 32 parts; the last one is for gap records.
    assert flood.take() == [*range(56), *range(60, 66)]
    assert flood.statistics.dropped == {"overflow": 7, "outbox_full": 0}


@pytest.mark.parametrize(
    ("use", "kept"),
    [(0.7, [0, 1, 2, 3]), (0.8, [1, 2, 3]), (0.9, [3]), (0.98, [])],
)
def test_a_short_disk_drops_the_same(
    flood: _Flood, use: float, kept: list[int]
) -> None:
    """The larger of the two uses decides, and the cause is the disk's."""
    flood.quota.use = use
    for importance in Importance:
        flood.put(1, importance, first=int(importance))
    assert flood.take() == kept
    dropped = 4 - len(kept) - flood.statistics.dropped_pictures
    assert flood.statistics.dropped == {"overflow": 0, "outbox_full": dropped}


def test_a_reader_stands_back_while_the_disk_takes_rows(flood: _Flood) -> None:
    """Above one half, and not longer than the disk makes progress."""
    found = []
    for _ in range(2):
        flood.put(4)
        found.append(flood.buffer.is_crowded)
    flood.now += 3
    found.append(flood.buffer.is_crowded)
    flood.buffer.release([])
    found.append(flood.buffer.is_crowded)
    assert found == [False, True, False, True]


_offers = st.lists(
    st.one_of(
        st.lists(st.sampled_from(Importance), min_size=1, max_size=8),
        st.tuples(st.integers(1, 8), st.integers(1, 10 * _ONE), st.booleans()),
    ),
    max_size=40,
)


@given(max_bytes=st.integers(1, 20 * _ONE), steps=_offers)
def test_bounds_order_and_counts_hold_whatever_comes(
    max_bytes: int, steps: list[list[Importance] | tuple[int, int, bool]]
) -> None:
    """What is taken and put back stays in front; the least important goes first."""
    flood = _Flood(max_bytes)
    came: list[Record] = []
    taken: list[int] = []
    with flood.running():
        for step in steps:
            if isinstance(step, list):
                records = [
                    structs.replace(one, importance=importance)
                    for one, importance in zip(
                        numbered(len(came), len(step), size=50), step, strict=True
                    )
                ]
                came += records
                flood.buffer.offer(records)
                largest = max(weigh(one) for one in records)
                assert flood.buffer.size_bytes <= max(max_bytes, largest)
                continue
            max_rows, most_bytes, is_written = step
            items = flood.buffer.take(max_rows, most_bytes)
            rows = [record for item in items for record in item.records]
            assert len(rows) <= max_rows
            assert sum(map(weigh, rows)) <= most_bytes or len(rows) == 1
            if is_written:
                taken += [number_of(row) for row in rows]
                flood.buffer.release(items)
            else:
                flood.buffer.put_back(items)
        taken += flood.take()
    statistics = flood.statistics
    dropped = sum(statistics.dropped.values())
    assert taken == sorted(set(taken))
    assert len(taken) + dropped + statistics.dropped_pictures == len(came)
    assert flood.buffer.size_bytes == 0
    assert bool(flood.losses) is bool(dropped)


# -- Losses --------------------------------------------------------------------------


def test_a_loss_is_that_of_the_account_whose_records_went(flood: _Flood) -> None:
    """Each has its own, with its own bounds and number of records; others have none."""
    flood.put(7)
    flood.put(2, first=10)
    flood.put(3, first=12, account=8)
    assert flood.losses == [
        Loss(1, "overflow", source_of(7), 6, None, 0),
        Loss(2, "overflow", source_of(8), 6, None, 0),
    ]
    flood.take()
    # Read while the last one of account 8 was dropped: space only for account 7.
    flood.put(1, first=13, account=9)
    flood.put(1, first=17, account=9)
    flood.wait(1.1)
    assert flood.ends() == [(source_of(7), 6, 13, 2), (source_of(8), 6, 17, 3)]


def test_a_flood_that_flaps_is_one_loss(flood: _Flood) -> None:
    """What is dropped within a second takes the end back; the log has two lines."""
    with capture_logs() as lines:
        flood.put(7)
        for number in range(10, 1000, 10):
            flood.put(7, first=number)
            flood.put(1, first=number + 7)
            flood.take()
            flood.put(1, first=number + 8)
            flood.wait(0.9)
        assert flood.ends() == []
        flood.wait(0.2)
    ((source, since_us, until_us, _),) = flood.ends()
    assert (source, since_us, until_us) == (source_of(7), 6, 998)
    assert [line["event"] for line in lines] == ["buffer.overflow", "buffer.has_space"]
    flood.put(8, first=2000)
    assert flood.losses[-1].number == 2


def test_a_loss_ends_with_a_record_not_with_time(flood: _Flood) -> None:
    """Without traffic the space is unknown: the loss ends once something is kept."""
    flood.put(8)
    flood.take()
    flood.wait(3600)
    assert flood.ends() == []
    flood.put(1, first=20)
    assert flood.ends() == [(source_of(7), 6, 20, 1)]


def test_no_loss_is_over_while_another_account_loses(flood: _Flood) -> None:
    """The next drop may be of any account; each account's own end is reported."""
    flood.put(8)
    flood.take()
    flood.put(1, first=15)
    flood.wait(0.75)
    flood.put(7, first=20, account=8)
    flood.wait(0.75)
    assert flood.ends() == []
    flood.wait(0.5)
    assert flood.ends() == [(source_of(7), 6, 15, 1)]


# -- In the outbox -------------------------------------------------------------------


def test_a_full_outbox_keeps_last_events_and_gap_records(tmp_path: Path) -> None:
    """Above its limit it never gets; what Kafka takes makes room for all."""
    losses: list[Loss] = []
    limit = 4 * MIB
    options: dict[str, Any] = {"max_bytes": limit, "buffer_bytes": 100_000}
    with (
        capture_logs() as lines,
        opened(tmp_path, **options, on_loss=losses.append) as it,
    ):
        number = 0
        while not it.statistics.dropped["outbox_full"]:
            it.offer(_large(number, 10))
            it.commit()
            number += 10
        for _ in range(60):
            it.offer(_large(number, 10))
            it.commit()
            number += 10
        dropped = sum(it.statistics.dropped.values())
        assert dropped > 60
        lost = sorted(set(range(number)) - {number_of(r) for r in read_all(it)})
        # No last event of a job is among them.
        assert all(one % 10 for one in lost)
        assert len(lost) == dropped
        it.keep(record("7", b"99: the gap", topic="gaps"))
        it.commit()
        assert it.statistics.kept == 1
        assert _size(tmp_path) <= limit + 64 * 1024
        (begin,) = losses
        assert (begin.cause, begin.until_us) == ("outbox_full", None)
        rows = it.statistics.rows - 1
        it.acknowledge("jobs", 0, 1, rows, 0, rows * 500)
        # There is a look at the disk once a second.
        for _ in range(2):
            it.commit()
            time.sleep(1.1)
            it.commit()
        assert len(append(it, _large(number, 10))) == 10
        it.report_losses(at_end=True)
    assert losses[-1].records == dropped
    assert losses[-1].since_us is not None
    assert losses[-1].since_us <= lost[0]
    assert lines[0]["event"] in {"outbox.full", "buffer.overflow"}


def _large(first: int, count: int) -> list[Record]:
    return [
        structs.replace(
            one,
            received_at_us=number,
            importance=Importance.EVENT if number % 10 else Importance.TERMINAL,
        )
        for number, one in enumerate(numbered(first, count, size=500), first)
    ]


def _size(path: Path) -> int:
    found = [path / name for name in ("outbox.sqlite3", "outbox.sqlite3-wal")]
    return sum(one.stat().st_size for one in found if one.exists())


def test_a_shorter_limit_of_files_takes_the_limits_place(tmp_path: Path) -> None:
    """Acknowledgements go on, and make room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, before[1]))
    try:
        with opened(tmp_path) as outbox:
            while not outbox.statistics.full:
                outbox.offer(numbered(0, 100, size=500))
                outbox.commit()
            (state,) = outbox.states("jobs")
            last = state.last_sequence
            outbox.acknowledge("jobs", 0, 1, last, 0, last * 500)
            assert outbox.states("jobs")[0].waiting == 0
            assert not outbox.is_stuck
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [20, 700, 8300, 40_000])
def test_the_limit_holds_for_rows_of_any_size(tmp_path: Path, size: int) -> None:
    """Database and log together stay below it, and come near to it."""
    limit, largest, number = 8 * MIB, 0, 0
    with opened(tmp_path, max_bytes=limit) as outbox:
        while not (outbox.statistics.full or outbox.statistics.dropped["outbox_full"]):
            count = max(20_000 // size, 1)
            outbox.offer(numbered(number, count, size=size))
            outbox.commit()
            number += count
            largest = max(largest, _size(tmp_path))
    # The index of the log (32 KiB a piece) is the operating system's memory.
    assert limit // 2 < largest <= limit + 64 * 1024
