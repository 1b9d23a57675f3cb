"""Rows are refused in time: by the limit, and by what the disk has left."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
from bridge.outbox.buffer import weigh
from bridge.outbox.disk.schema import log_bytes, new_incarnation, open_database
from msgspec import structs

from bridge.events.record import Importance
from bridge.outbox.quota import Room
from bridge.outbox.store import Store
from tests.outbox.making import MIB, acknowledge, append, numbered, open_jobs, stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


def _on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob("outbox.sqlite3*"))


def _disk(monkeypatch: pytest.MonkeyPatch, free: int, total: int = 1000 * MIB) -> None:
    """Make a disk look as if it had so many bytes free."""
    look = SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=total)
    monkeypatch.setattr(os, "statvfs", lambda _: look)


@pytest.mark.parametrize("size", [20, 700, 8300, 40_000])
def test_the_limit_holds_for_rows_of_any_size(path: Path, size: int) -> None:
    """Database and log together stay below the limit, and come near to it."""
    limit = 8 * MIB
    store = Store(open_database(path, max_bytes=limit), new_incarnation())
    room = Room(path, limit, store)
    open_jobs(store)
    number, largest = 0, 0
    while True:
        records = numbered(number, max(20_000 // size, 1), size=size)
        count = room.fit(records, sum(weigh(record) for record in records))
        if not count:
            break
        append(store, records[:count])
        number += count
        largest = max(largest, _on_disk(path))
    assert room.reason == f"outbox.max_bytes is {limit}"
    # The index of the log (32 KiB a piece) is the operating system's memory.
    assert limit // 2 < largest <= limit + 64 * 1024
    room.measure()
    assert abs(room.used_bytes - _on_disk(path)) <= 64 * 1024
    # Rows that go make room again, without the file getting shorter.
    acknowledge(store, 1, number, 0)
    with store.transaction():
        store.trim(older_than_us=10**18, keep_bytes=0, max_rows=10**6, max_bytes=MIB)
    records = numbered(number, 20, size=size)
    assert room.fit(records, sum(weigh(record) for record in records)) == 20
    store.close()


def test_takes_as_many_from_the_front_as_fit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that doesn't fit whole is written as far as there is room."""
    records = numbered(0, 10, size=1000)
    one = weigh(records[0])
    with stored(path) as store:
        open_jobs(store)
        store.file.checkpoint()
        room = Room(path, 128 * MIB, store)
        # 16 MiB are kept for what makes room, 4 MiB for more important rows; each
        # row counts twice, and once more for the log; 20 KiB are left free in the
        # database's pages.
        kept = (16 + 2 * 4) * MIB
        _disk(monkeypatch, kept + 3 * 4 * one)
        assert room.fit(records, 10 * one) == 3
        assert room.reason == "the disk has no room"
        _disk(monkeypatch, kept)
        assert room.fit(records, 10 * one) == 0
        _disk(monkeypatch, 1000 * MIB)
        assert room.fit(records, 10 * one) == 10


def test_the_last_room_is_for_the_last_events_and_gaps(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where events are refused, last events still fit, down to what gaps have."""
    event = numbered(0, 1, size=1000)[0]
    last = structs.replace(event, importance=Importance.TERMINAL)
    one = weigh(event)
    with stored(path) as store:
        room = Room(path, 128 * MIB, store)
        _disk(monkeypatch, (16 + 2 * 4) * MIB)
        assert room.fit([event], one) == 0
        assert room.is_near_its_end
        assert room.fit([last, last, event, last], 4 * one) == 2
        _disk(monkeypatch, (16 + 2 * 1) * MIB)
        assert room.fit([last], one) == 0
        # What is written in spite of it is counted.
        _disk(monkeypatch, (16 + 2 * 1) * MIB + 4 * one)
        room.measure()
        room.spend(one)
        _disk(monkeypatch, 0)
        assert room.fit([last], one) == 0
        _disk(monkeypatch, 1000 * MIB)
        room.measure()
        assert not room.is_near_its_end


def test_a_limit_of_files_is_seen_before_it_is_reached(path: Path) -> None:
    """What no disk shows, `ulimit -f`, refuses rows in time as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with stored(path) as store:
        room = Room(path, 128 * MIB, store)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (6 * MIB, hard))
            room.measure()
            assert room.fit(numbered(0, 1, size=3 * MIB), 3 * MIB) == 0
            assert "RLIMIT_FSIZE" in room.reason
            assert room.step_bytes <= 2 * MIB
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert room.fit(numbered(0, 1, size=3 * MIB), 3 * MIB) == 1


def test_a_disk_that_gets_short_has_the_log_emptied(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the log takes its room twice until it is in the database."""
    log = path.with_name("outbox.sqlite3-wal")
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 1000))
        room = Room(path, 100 * MIB, store)
        room.measure()
        assert log.stat().st_size > 0
        _disk(monkeypatch, 2 * log_bytes(100 * MIB))
        room.measure()
        assert log.stat().st_size == 0


def test_a_small_disk_keeps_a_small_reserve(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume of a few megabytes can be used for the most part."""
    records = numbered(0, 1)
    with stored(path) as store:
        room = Room(path, 100 * MIB, store)
        _disk(monkeypatch, free=MIB, total=2 * MIB)
        assert room.fit(records, 100_000) == 1


def test_what_can_not_be_looked_at_has_no_room(path: Path) -> None:
    """A directory that is gone refuses rows and says so; nothing breaks."""
    with stored(path) as store:
        room = Room(path.parent / "gone" / "outbox.sqlite3", 100 * MIB, store)
        assert room.fit(numbered(0, 1), 500) == 0
        assert "No such file or directory" in room.reason
