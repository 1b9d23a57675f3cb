"""Which jobs have ended is remembered for a day, over restarts, within bounds."""

from __future__ import annotations

import os
import sqlite3  # noqa: TID251 - plays the person with a shell
import sys
import time
from contextlib import closing
from itertools import chain
from pathlib import Path
from unittest.mock import patch

import pytest

from bridge.outbox.jobs.ended import DIGEST_BYTES, Ended
from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.jobs.order import Order
from bridge.outbox.opening import Opened, open_outbox
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.store import Store
from tests.outbox.making import PLENTY_BYTES, event, source_of, stored, undone


_DAY_SECONDS = 86_400.0


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _digests(count: int) -> list[bytes]:
    return [os.urandom(DIGEST_BYTES) for _ in range(count)]


def _known(ended: Ended, digests: list[bytes]) -> list[bool]:
    return [digest in ended for digest in digests]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


def _rows(path: Path) -> list[tuple[int, int]]:
    """Give number and length of each row of the table."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT id, length(digests) / 8 FROM ended ORDER BY id"
        ).fetchall()


def _open(path: Path, ended: Ended) -> Opened:
    return open_outbox(path, PLENTY_BYTES, Order(Jobs(ended=ended)))


def _end(store: Store, *names: str) -> None:
    with store.transaction():
        store.append([event(name, "done") for name in names])


def _write(store: Store) -> None:
    with store.transaction():
        store.job_table.write()


def test_an_end_is_known_for_as_long_as_it_should_be() -> None:
    """Not for less, and for a hundredth more at most."""
    clock = _Clock()
    ended = Ended(keep_seconds=1000.0, clock=clock)
    first, second = _digests(2)
    ended.add(first)
    clock.now += 11
    ended.add(second)
    for now, known in (
        (1999.0, [True, True]),
        (2000.5, [False, True]),
        (2010.0, [False, True]),
        (2012.0, [False, False]),
    ):
        clock.now = now
        ended.expire()
        assert _known(ended, [first, second]) == known
    assert len(ended) == 0


def test_too_many_ends_push_out_the_oldest() -> None:
    """A hundredth more than must, and it is counted."""
    statistics = OutboxStatistics()
    ended = Ended(1000, _DAY_SECONDS, statistics)
    digests = _digests(3000)
    for digest in digests:
        ended.add(digest)
        assert 990 < len(ended) <= 1000 or digest in digests[:1000]
    assert not any(_known(ended, digests[:2000]))
    assert all(_known(ended, digests[2010:]))
    assert statistics.forgotten_ends == 3000 - len(ended)
    # What no file has is bounded as well.
    assert ended.unwritten == b"".join(digests[-len(ended) :])


def test_a_million_ends_survive_a_restart_within_bounds(path: Path) -> None:
    """All of them, and no others, read in a second or two; two million fit in 20 MB."""
    size = DIGEST_BYTES
    digests = os.urandom(1_000_000 * size)
    opened = _open(path, Ended(2_000_000, 90_000.0))
    for start in range(0, len(digests), 50_000 * size):
        opened.store.jobs.ended.add(digests[start : start + 50_000 * size])
        _write(opened.store)
    opened.store.close()
    assert path.stat().st_size < 9_000_000

    ended = Ended(2_000_000, 90_000.0)
    began_at = time.thread_time()
    _open(path, ended).store.close()
    # 0.5 s where nothing else runs.
    assert time.thread_time() - began_at < 5
    assert len(ended) == 1_000_000
    # Every hundredth, the first and the last ones too.
    for start in (*range(0, len(digests), 100 * size), len(digests) - size):
        assert digests[start : start + size] in ended
    assert not any(digest in ended for digest in _digests(10_000))

    ended.add(os.urandom(1_010_000 * size))
    assert 1_980_000 <= len(ended) <= 2_000_000
    parts = chain(ended._buckets, (span.buckets for span in ended._spans))
    assert sum(map(sys.getsizeof, parts)) < 20_000_000


def test_the_table_grows_by_what_has_ended_and_shrinks_by_what_is_forgotten(
    path: Path,
) -> None:
    """A row for each writing that has something to tell; none is written twice."""
    clock = _Clock()
    opened = _open(path, Ended(keep_seconds=1000.0, clock=clock))
    store = opened.store
    _end(store, "a", "b")
    _write(store)
    _write(store)
    clock.now += 500
    _end(store, "c")
    with undone(store):
        store.job_table.write()
    _write(store)
    assert [length for _, length in _rows(path)] == [2, 1]
    clock.now += 600
    store.jobs.expire(0)
    with undone(store):
        store.job_table.write()
    assert [length for _, length in _rows(path)] == [2, 1]
    _write(store)
    assert [length for _, length in _rows(path)] == [1]
    clock.now += 600
    store.jobs.expire(0)
    _end(store, "d")
    _write(store)
    assert [length for _, length in _rows(path)] == [1]
    store.close()
    with stored(path) as again:
        known = [
            again.jobs.has_ended(again.jobs.account(source_of(7)), key)
            for key in (b"a", b"c", b"d")
        ]
    assert known == [False, False, True]


@pytest.mark.parametrize("jump_seconds", [-10 * _DAY_SECONDS, 10 * _DAY_SECONDS])
def test_a_clock_that_is_set_makes_nothing_forgotten_while_it_runs(
    path: Path, jump_seconds: float
) -> None:
    """A jump shortens nothing; a restart believes the clock, but no time to come."""
    clock = _Clock()
    opened = _open(path, Ended(keep_seconds=1000.0, clock=clock))
    store, whose = opened.store, opened.store.jobs.account(source_of(7))
    now_ns = time.time_ns()
    _end(store, "a")
    _write(store)
    with patch("time.time_ns", return_value=now_ns + int(jump_seconds * 1e9)):
        store.jobs.expire(time.time_ns() // 1000)
        _end(store, "b")
        _write(store)
        assert store.jobs.has_ended(whose, b"a")
    store.close()
    # The clock is right again.
    ended = Ended(keep_seconds=1000.0, clock=clock)
    store = _open(path, ended).store
    whose = store.jobs.account(source_of(7))
    assert store.jobs.has_ended(whose, b"a")
    # What ended long ago for all that the file says is forgotten, in its turn.
    clock.now += 1001
    store.jobs.expire(0)
    assert len(ended) == 0
    store.close()


def test_a_job_in_both_tables_has_ended(path: Path) -> None:
    """Killed between two steps of a writing, with its last rows unreadable since."""
    with stored(path) as store:
        with store.transaction():
            store.append([event("a"), event("b")])
        _write(store)
        _end(store, "a")
        _write(store)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO jobs SELECT 99, ce_source, CAST('a' AS BLOB), status,"
            " progress, last_seen_us, fingerprint FROM jobs"
        )
    for _ in range(2):
        with stored(path) as store:
            names = [job.request_id for job in store.jobs.of(source_of(7))]
            assert names == ["b"]
            _write(store)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (1,)


def test_rows_of_an_older_file_tell_which_jobs_have_ended(path: Path) -> None:
    """Format 3 noted them as gone; those whose rows are left are known at once."""
    with stored(path) as store:
        with store.transaction():
            store.append([event("a"), event("b"), event("a", "done")])
        _write(store)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE jobs DROP COLUMN fingerprint")
        connection.execute("ALTER TABLE envelopes DROP COLUMN kind")
        for by in ("status_endpoint", "webhook"):
            connection.execute(f"ALTER TABLE gaps DROP COLUMN healed_by_{by}")
        younger = ("ended", "pinned", "replayed", "held", "deliveries", "spent")
        for table in younger:
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 3")
    with stored(path) as store:
        with store.transaction():
            store.append([event("b"), event("a")])
        assert store.jobs.statistics.anomalies == {"duplicate": 1, "regression": 1}
