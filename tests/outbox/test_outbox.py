"""The outbox at work, with its thread: nothing lost, all answered and counted."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - plays the person with a shell
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.errors import OutboxDamagedError
from bridge.outbox import Outbox, OutboxDirectory
from bridge.settings import OutboxSettings
from tests.outbox.making import (
    MIB,
    Log,
    eventually,
    fresh,
    numbered,
    record,
    running,
    spread,
    stored,
    threaded,
)


@contextmanager
def _standing(path: Path, **limits: float) -> Iterator[Outbox]:
    """An outbox whose thread doesn't run yet."""
    with OutboxDirectory(path) as directory:
        yield Outbox(directory, OutboxSettings(dir=path, **limits))  # type: ignore[arg-type]


def _open(outbox: Outbox, partitions: int = 1) -> None:
    outbox.open_topic("jobs", spread(partitions), fresh(partitions), None).result(10)


def _database(path: Path) -> Path:
    return path / "outbox.sqlite3"


# -- The way through -----------------------------------------------------------


def test_old_acknowledged_rows_are_deleted(tmp_path: Path) -> None:
    """What Kafka has had for long enough goes, without being asked."""
    with running(tmp_path, keep_acked_seconds=0.0) as outbox, Log(outbox):
        _open(outbox)
        outbox.offer(numbered(0, 50))
        eventually(lambda: outbox.statistics.acknowledged == 50)
        eventually(lambda: outbox.read("jobs", 0, 0, 99, MIB).result(10) == [])


def test_measures_itself(tmp_path: Path) -> None:
    """Size and lag are looked at every second; a beat shows that it lives."""
    with running(tmp_path) as outbox:
        statistics = outbox.statistics
        outbox.offer(numbered(0, 100, size=5000))
        eventually(lambda: statistics.bytes > 500_000)
        assert statistics.oldest_received_at_us == 1
        assert time.monotonic() - statistics.last_beat < 10
    assert statistics.last_beat == 0


# -- Stopping ------------------------------------------------------------------


def test_requests_after_the_end_are_cancelled(tmp_path: Path) -> None:
    """Nobody waits for an answer that can't come."""
    with running(tmp_path) as outbox:
        pass
    assert outbox.lane_states().cancelled()
    assert outbox.read("jobs", 0, 0, 1, 1).cancelled()
    assert outbox.open_topic("jobs", spread(1), fresh(1), None).cancelled()


def test_a_cancelled_request_harms_nobody(tmp_path: Path) -> None:
    """A relay that gives up while it reads leaves the outbox running."""
    with _standing(tmp_path) as outbox:
        outbox.lane_states().cancel()
        outbox.open_topic("jobs", spread(1), fresh(1), None).cancel()
        with threaded(outbox):
            assert outbox.lane_states().result(10) == []
            for _ in range(200):
                outbox.waiting_topics().cancel()
            _open(outbox)


# -- Bounds --------------------------------------------------------------------


def test_rows_that_kafka_has_make_room_for_new_ones(tmp_path: Path) -> None:
    """Kept acknowledged rows go before anything is refused; it is never full."""
    limit = 4 * MIB
    with (
        capture_logs() as lines,
        running(tmp_path, max_bytes=limit) as outbox,
        Log(outbox) as log,
    ):
        _open(outbox)
        for first in range(0, 20_000, 100):
            outbox.offer(numbered(first, 100, size=500))
            eventually(lambda: outbox.drained)
        eventually(lambda: outbox.statistics.rows == 0)
        assert _size(tmp_path) <= limit + 64 * 1024
        kept = outbox.read("jobs", 0, 0, 1, MIB).result(10)[0].sequence
    assert lines == []
    assert len(log.rows["jobs", 0]) == 20_000
    # Not all of them went: the last ones may be wanted again.
    assert 10_000 < kept < 19_000


def _size(path: Path) -> int:
    size = 0
    for name in ("outbox.sqlite3", "outbox.sqlite3-wal"):
        try:
            size += (path / name).stat().st_size
        except FileNotFoundError:
            continue
    return size


def test_an_outbox_full_of_unassigned_rows_can_be_emptied(tmp_path: Path) -> None:
    """Kafka comes only after the limit is reached: claims still find room."""
    limit = 2 * MIB
    with (
        running(tmp_path, max_bytes=limit, buffer_bytes=20_000) as outbox,
        Log(outbox) as log,
    ):
        statistics = outbox.statistics
        first = 0
        while not statistics.dropped["outbox_full"]:
            outbox.offer(numbered(first, 20, size=3000))
            first += 20
            time.sleep(0.001)
        _open(outbox, 6)
        eventually(lambda: outbox.drained and statistics.rows == 0)
        assert _size(tmp_path) <= limit + 64 * 1024
    assert sum(len(rows) for rows in log.rows.values()) == statistics.committed


def test_a_stop_of_a_full_outbox_counts_what_it_gives_up(tmp_path: Path) -> None:
    """What can't be written at the end is a drop, not a silence."""
    with capture_logs() as lines:
        with running(tmp_path, max_bytes=MIB, buffer_bytes=200_000) as outbox:
            # Until it is so: on a busy machine the buffer drops most before.
            for offered in range(20, 400_000, 20):
                outbox.offer(numbered(offered, 20, size=500))
                if offered >= 4000 and outbox.statistics.full:
                    break
                time.sleep(0.0005)
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
    statistics = outbox.statistics
    given_up = [line for line in lines if line["event"] == "outbox.gave_up"]
    assert given_up[0]["records"] > 0
    assert given_up[0]["cause"] == "outbox_full"
    assert statistics.committed + sum(statistics.dropped.values()) == offered
    with stored(_database(tmp_path)) as store:
        assert store.pending == statistics.committed


# -- Other people's hands ------------------------------------------------------


def test_reads_are_answered_while_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock from a person's shell stops commits; the relay can read on."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def impatient(*args: Any, **options: Any) -> sqlite3.Connection:
        return connect(*args, **options | {"timeout": 0.001})

    monkeypatch.setattr(sqlite3, "connect", impatient)
    with capture_logs() as lines, _standing(tmp_path) as outbox, threaded(outbox):
        _open(outbox)
        outbox.offer(numbered(0, 5))
        eventually(lambda: outbox.drained)
        with closing(
            sqlite3.connect(_database(tmp_path), isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            outbox.offer(numbered(5, 5))
            outbox.acknowledge("jobs", 0, 1, 5, 0, 50)
            eventually(lambda: outbox.is_stuck)
            assert outbox.statistics.full
            assert len(outbox.read("jobs", 0, 0, 9, MIB).result(10)) == 5
            assert not outbox.drained
            other.execute("ROLLBACK")
        eventually(lambda: outbox.drained)
        assert not outbox.is_stuck
        assert outbox.statistics.acknowledged == 5
        assert outbox.statistics.rows == 5
    assert [line["reason"] for line in lines] == ["database is locked"]


def test_requests_end_with_the_file_that_they_are_about(tmp_path: Path) -> None:
    """What was asked of a damaged file is not done to the one in its place."""
    asked: list[Future[None]] = []

    def partition_of(key: bytes | None) -> int:
        if key == b"late":
            asked.append(outbox.open_topic("jobs", spread(1), {0: (7, 7)}, None))
            raise OutboxDamagedError("a page can't be read")
        return 0

    with running(tmp_path) as outbox:
        outbox.open_topic("jobs", partition_of, fresh(1), None).result(10)
        before = outbox.id
        outbox.offer([record("late")])
        eventually(lambda: bool(asked) and asked[0].done())
        assert asked[0].cancelled()
        assert outbox.id != before
        assert outbox.lane_states().result(10) == []
