"""What is given up is told when it begins and when it is over, and in its order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import structs
from structlog.testing import capture_logs

from bridge.outbox import Outbox, OutboxDirectory
from bridge.record import Importance, Loss, Record
from bridge.settings import OutboxSettings
from tests.outbox.making import (
    MIB,
    eventually,
    number_of,
    numbered,
    record,
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


def test_an_overflow_is_told_from_its_begin_to_its_end(tmp_path: Path) -> None:
    """The last record before it and the first one after it bound it."""
    ledger = _Ledger()
    with _standing(tmp_path, ledger, buffer_bytes=10_000) as outbox:
        outbox.offer(_timed(1, 10))
        for first in (11, 21):
            outbox.offer(_timed(first, 10))
        (begin,) = ledger.losses
        lost = 30 - 10
        assert begin == Loss(1, "overflow", 10, None, 10)
        with threaded(outbox):
            eventually(lambda: outbox.drained)
            outbox.offer(_timed(31, 2))
            eventually(lambda: outbox.drained)
            eventually(lambda: outbox.statistics.kept == 2)
        assert ledger.losses == [begin, Loss(1, "overflow", 10, 31, lost)]
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


def test_a_loss_at_the_disk_ends_with_the_first_record_that_has_room(
    tmp_path: Path,
) -> None:
    """When Kafka has taken rows, what comes then is the end of the gap."""
    ledger = _Ledger()
    with _standing(tmp_path, ledger) as outbox, threaded(outbox):
        outbox.open_topic("jobs", lambda _: 0, {0: (0, 0)}, None).result(10)
        statistics = outbox.statistics
        number = _fill(outbox, ledger)
        count = statistics.committed
        outbox.acknowledge("jobs", 0, 1, count, 0, 500 * count)
        eventually(lambda: outbox.drained)
        eventually(lambda: not outbox._inbox.awaits_room)
        while len(ledger.losses) < 2:
            outbox.offer(_timed(number, 1))
            number += 1
            eventually(lambda: outbox.drained)
        begin, end = ledger.losses
        values = outbox.read("jobs", 0, 0, number, 10 * MIB).result(10)
    found = [number_of(row) for row in values]
    assert end.until_us is not None
    assert begin.since_us == end.since_us
    lost = set(range(end.until_us)) - set(found) - set(range(found[0]))
    assert len(lost) == end.records
    assert begin.since_us is not None
    assert begin.since_us + 1 == min(lost)
    assert max(lost) < end.until_us


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
