"""What is given up of an account is told when it begins and when it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from bridge.outbox.losses import Dropped, Losses
from msgspec import structs
from structlog.testing import capture_logs

from bridge.events.record import Importance, Record
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.values import Loss
from bridge.settings import OutboxSettings
from tests.outbox.making import (
    ENVELOPE,
    MIB,
    event,
    eventually,
    numbered,
    record,
    source_of,
    stored,
    threaded,
)


class _Ledger:
    """Keeps losses, and hands each to the outbox as a record: as the real one does."""

    def __init__(self) -> None:
        self.losses: list[Loss] = []
        self.outbox: Outbox | None = None

    def on_loss(self, loss: Loss) -> None:
        self.losses.append(loss)
        if self.outbox is not None:
            value = f"{len(self.losses)}: {loss}".encode()
            self.outbox.keep(record("7", value, topic="jobs.gaps"))


@contextmanager
def _standing(
    path: Path, ledger: _Ledger, *, max_bytes: int = MIB, buffer_bytes: int = 100_000
) -> Iterator[Outbox]:
    """An outbox whose thread doesn't run yet."""
    settings = OutboxSettings(dir=path, max_bytes=max_bytes, buffer_bytes=buffer_bytes)
    with OutboxDirectory(path) as directory:
        ledger.outbox = Outbox(directory, settings, on_loss=ledger.on_loss)
        yield ledger.outbox


def _timed(first: int, count: int, *, lasts_every: int = 0) -> list[Record]:
    """Make records that were read when their number says."""
    return [
        structs.replace(
            one,
            received_at_us=number,
            importance=Importance.TERMINAL
            if lasts_every and number % lasts_every == 0
            else Importance.EVENT,
        )
        for number, one in enumerate(numbered(first, count, size=500), first)
    ]


def _fill(outbox: Outbox, ledger: _Ledger, *, lasts_every: int = 0) -> int:
    """Offer until something was given up because the disk takes nothing."""
    number = 0
    while not outbox.statistics.dropped["outbox_full"]:
        outbox.offer(_timed(number, 10, lasts_every=lasts_every))
        number += 10
        eventually(lambda: outbox.drained or outbox.statistics.full)
    return number


def _on_disk(path: Path, topic: str = "jobs") -> list[bytes]:
    """Read a topic's rows, as the next process would."""
    values: list[bytes] = []
    with stored(path / "outbox.sqlite3") as store:
        with store.transaction():
            store.open_topic(topic, lambda _: 0, {0: (0, 0)}, None)
        with store.transaction():
            while store.claim(1000, MIB):
                pass
        while more := store.read(topic, 0, len(values), 1000, 100 * MIB):
            values += [row.value for row in more]
    return values


def _numbers(values: list[bytes]) -> list[int]:
    return [int(value.split(b":")[0]) for value in values]


# -- Begin, end and calm -----------------------------------------------------------


class _Flood:
    """Losses, what was told of them, and a clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.told: list[Loss] = []
        self.statistics = OutboxStatistics()
        self.losses = Losses(self.statistics, self.told.append)

    def drop(self, *numbers: int, account: int = 7, cause: str = "overflow") -> None:
        """Give up records that were read when their numbers say."""
        given_up = [event("job", at_us=n, account=account) for n in numbers]
        self.losses.note(cause, Dropped.of(given_up, numbers[0] - 1))

    def keep(self, number: int, account: int = 7) -> None:
        """Have room again, and look whether anything is over."""
        if self.losses.await_record:
            self.losses.survive([event("job", at_us=number, account=account)])
        self.losses.settle()

    def wait(self, seconds: float) -> None:
        """Let time pass, with rounds of the outbox's thread."""
        for _ in range(8):
            self._clock.return_value += seconds / 8
            self.losses.settle()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the clock stand."""
        with patch("time.monotonic", return_value=100.0) as self._clock:
            yield

    def ends(self) -> list[tuple[str | None, int | None, int | None, int]]:
        """Give what was told at the ends."""
        return [
            (loss.ce_source, loss.since_us, loss.until_us, loss.records)
            for loss in self.told
            if loss.until_us is not None
        ]


@pytest.fixture
def flood() -> Iterator[_Flood]:
    """Nothing is dropped yet."""
    flood = _Flood()
    with flood.running():
        yield flood


def test_a_loss_is_that_of_the_account_whose_records_went(flood: _Flood) -> None:
    """Each has its own, with its own bounds and number of records; others have none."""
    flood.drop(11, 12)
    flood.drop(13, 14, 15, account=8)
    flood.drop(16)
    assert flood.told == [
        Loss(1, "overflow", source_of(7), 10, None, 2),
        Loss(2, "overflow", source_of(8), 12, None, 3),
    ]
    # Read while the last one was dropped: it has not proved room for account 7.
    flood.keep(15, account=9)
    flood.keep(17, account=9)
    flood.wait(1)
    assert flood.ends() == [(source_of(7), 10, 17, 3), (source_of(8), 12, 15, 3)]
    assert {loss.number for loss in flood.told} == {1, 2}
    assert flood.statistics.dropped["overflow"] == 6


def test_a_flood_that_flaps_is_one_loss(flood: _Flood) -> None:
    """What is dropped within a second takes the end back; the log has two lines."""
    with capture_logs() as lines:
        for number in range(10, 1000, 10):
            flood.drop(number, account=number % 20)
            flood.keep(number + 5)
            flood.wait(0.9)
        assert flood.ends() == []
        assert len(lines) == 1
        flood.wait(0.2)
    # Half of the accounts was hit last by the last drop but one.
    assert flood.ends() == [(source_of(10), 9, 995, 50), (source_of(0), 19, 985, 49)]
    assert lines == [
        {"event": "buffer.overflow", "log_level": "error", "cause": "overflow"},
        {
            "event": "buffer.has_room",
            "log_level": "info",
            "cause": "overflow",
            "dropped": 99,
        },
    ]


def test_a_second_flood_is_another_loss(flood: _Flood) -> None:
    """After a second without a drop the first one is told, and is over."""
    for number in (10, 20):
        flood.drop(number)
        flood.keep(number + 5)
        flood.wait(1)
    assert flood.ends() == [(source_of(7), 9, 15, 1), (source_of(7), 19, 25, 1)]
    assert [loss.number for loss in flood.told] == [1, 1, 2, 2]


def test_no_loss_is_over_while_another_account_loses(flood: _Flood) -> None:
    """The next drop may be anybody's; the end that is told then is each one's own."""
    flood.drop(10)
    flood.keep(15)
    flood.wait(0.75)
    flood.drop(20, account=8)
    flood.wait(0.75)
    assert flood.ends() == []
    flood.wait(0.25)
    assert flood.ends() == [(source_of(7), 9, 15, 1)]
    flood.keep(30)
    flood.wait(1)
    assert flood.ends()[1:] == [(source_of(8), 19, 30, 1)]


def test_a_loss_ends_with_a_record_not_with_time(flood: _Flood) -> None:
    """Without traffic nobody knows of room: it goes on until something is kept."""
    flood.drop(10)
    flood.wait(3600)
    assert flood.ends() == []
    flood.keep(20)
    flood.wait(0.875)
    assert flood.ends() == []
    flood.wait(0.125)
    assert flood.ends() == [(source_of(7), 9, 20, 1)]


def test_losses_end_with_the_process_at_once(flood: _Flood) -> None:
    """What is over ends where it was over, all others with the process."""
    flood.drop(10)
    flood.keep(20)
    flood.drop(30, account=8)
    flood.losses.close(99)
    assert flood.ends() == [(source_of(7), 9, 20, 1), (source_of(8), 29, 99, 1)]
    flood.wait(2)
    assert len(flood.told) == 4


def test_a_begin_is_the_earliest_one_that_anything_says(flood: _Flood) -> None:
    """Older records may go after younger ones; one that isn't known may be any."""
    flood.drop(10)
    flood.drop(5)
    flood.drop(7, account=8)
    flood.losses.note("overflow", Dropped.of([event("job", account=8)], None))
    flood.drop(9, account=8)
    flood.losses.close(20)
    assert flood.ends() == [(source_of(7), 4, 20, 2), (source_of(8), None, 20, 3)]


def test_what_goes_with_a_damaged_file_is_of_its_loss(flood: _Flood) -> None:
    """It may be of any account, and lasts until the new file is ready."""
    damaged = "outbox_damaged"
    flood.losses.begin(damaged, 5)
    flood.drop(10, cause=damaged)
    flood.drop(3, account=8, cause=damaged)
    flood.drop(11)
    flood.keep(20)
    flood.wait(5)
    assert flood.ends() == [(source_of(7), 10, 20, 1)]
    flood.losses.begin(damaged, None)
    flood.losses.end(damaged, 30, more=4)
    assert flood.ends()[1:] == [(None, 2, 30, 6)]
    assert flood.statistics.dropped[damaged] == 2
    flood.losses.end(damaged, 40)
    assert len(flood.told) == 4


# -- In the outbox -----------------------------------------------------------------


def test_an_overflow_is_told_from_its_begin_to_its_end(tmp_path: Path) -> None:
    """The last record before it and the first one after it bound it."""
    ledger = _Ledger()
    with _standing(tmp_path, ledger, buffer_bytes=10_000) as outbox:
        outbox.offer(_timed(1, 10))
        for first in (11, 21):
            outbox.offer(_timed(first, 10))
        (begin,) = ledger.losses
        lost = 30 - 10
        ours = ENVELOPE.ce_source
        assert begin == Loss(1, "overflow", ours, 10, None, 10)
        with threaded(outbox):
            eventually(lambda: outbox.drained)
            outbox.offer(_timed(31, 2))
            eventually(lambda: outbox.drained)
            eventually(lambda: outbox.statistics.kept == 2)
        assert ledger.losses == [begin, Loss(1, "overflow", ours, 10, 31, lost)]
        statistics = outbox.statistics
        assert statistics.accepted == 32 == statistics.committed + lost
    assert _numbers(_on_disk(tmp_path, "jobs.gaps")) == [1, 2]


def test_a_full_outbox_keeps_the_last_events_and_the_gap(tmp_path: Path) -> None:
    """Where rows are refused, jobs' last events and gap records still come to disk."""
    ledger = _Ledger()
    with (
        capture_logs() as lines,
        _standing(tmp_path, ledger, max_bytes=4 * MIB) as outbox,
    ):
        with threaded(outbox):
            statistics = outbox.statistics
            number = _fill(outbox, ledger, lasts_every=10)
            # The gap's record is on disk while the outbox is full.
            eventually(lambda: statistics.kept == 1)
            assert statistics.full
            committed = statistics.committed
            # Six times what memory holds, in no time.
            for _ in range(60):
                outbox.offer(_timed(number, 10, lasts_every=10))
                number += 10
            # The disk is tried once a second, and memory emptied for it.
            eventually(lambda: statistics.committed > committed)
        assert statistics.accepted == number
        dropped = sum(statistics.dropped.values())
        assert statistics.committed + dropped == number
    found = _numbers(_on_disk(tmp_path))
    assert found == sorted(set(found))
    assert len(found) == statistics.committed
    assert set(range(0, number, 10)) <= set(found)
    begin, end = ledger.losses
    assert begin.cause == "outbox_full"
    assert begin.until_us is None
    # It ended with the process: by the clock, not by a record.
    assert end.until_us is not None
    assert end.until_us > time.time_ns() // 1000 - 60_000_000
    assert end.records == dropped
    assert end.since_us is not None
    lost = sorted(set(range(number)) - set(found))
    assert end.since_us <= lost[0]
    assert len(_on_disk(tmp_path, "jobs.gaps")) == 2
    gave_up = [line for line in lines if line["event"] == "outbox.gave_up"]
    assert all("gap_records" not in line for line in gave_up)


def test_gap_records_come_past_every_bound(tmp_path: Path) -> None:
    """Not even a memory and a disk full of last events hold one up."""
    ledger = _Ledger()
    with _standing(tmp_path, ledger) as outbox, threaded(outbox):
        statistics = outbox.statistics
        _fill(outbox, ledger, lasts_every=1)
        outbox.keep(record("7", b"99: the one", topic="jobs.gaps"))
        eventually(lambda: statistics.kept == 2)
        assert statistics.full
    assert _numbers(_on_disk(tmp_path, "jobs.gaps")) == [1, 99, 2]


def test_a_gap_record_that_comes_too_late_is_told(tmp_path: Path) -> None:
    """After the outbox has ended nothing can be written, and that is said."""
    ledger = _Ledger()
    with capture_logs() as lines, _standing(tmp_path, ledger) as outbox:
        with threaded(outbox):
            outbox.keep(record("7", b"1: in time", topic="jobs.gaps"))
        outbox.keep(record("7", b"2: too late", topic="jobs.gaps"))
    assert _numbers(_on_disk(tmp_path, "jobs.gaps")) == [1]
    (told,) = lines
    assert (told["event"], told["gap_records"]) == ("outbox.gave_up", 1)
