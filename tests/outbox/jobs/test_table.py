"""The jobs in flight outlive the process, and cost the disk next to nothing."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - plays the person with a shell
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from bridge.outbox.jobs import table as job_table
from bridge.outbox.store import Store
from bridge.record import JobInFlight, Record
from tests.outbox.making import (
    MIB,
    acknowledge,
    event,
    open_jobs,
    record,
    source_of,
    stored,
    undone,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


def _append(store: Store, *records: Record) -> None:
    with store.transaction():
        store.append(records)


def _write(store: Store) -> None:
    with store.transaction():
        store.job_table.write()


def _names(store: Store, account: int = 7) -> list[str]:
    return [job.request_id for job in store.jobs.of(source_of(account))]


def _table(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT CAST(key AS TEXT), status FROM jobs ORDER BY CAST(key AS TEXT)"
        ).fetchall()


def _trim(store: Store) -> int:
    with store.transaction():
        return store.trim(
            older_than_us=10**18, keep_bytes=0, max_rows=99, max_bytes=MIB
        )


def test_table_and_rows_tell_a_new_process_where_jobs_stand(path: Path) -> None:
    """The latest event counts, written down or not; order of being heard too."""
    with stored(path) as store:
        _append(store, event("a", "processing", 1), event("b", at_us=2))
        _write(store)
        _append(store, event("a", at_us=3, progress="7.00"), event("c", at_us=4))
        _append(store, event("b", "done", 5), event("c", at_us=6, account=8))
    with stored(path) as store:
        assert store.jobs.of(source_of(7)) == [
            JobInFlight("a", "in_progress", "7.00", 3),
            JobInFlight("c", "in_progress", None, 4),
        ]
        assert _names(store, 8) == ["c"]


def test_a_short_job_never_touches_the_table(path: Path) -> None:
    """What begins and ends between two writings is in the rows alone."""
    with stored(path) as store:
        _append(store, event("long"))
        _write(store)
        written = patch.object(job_table, "_upsert", wraps=job_table._upsert)
        deleted = patch.object(job_table, "_delete", wraps=job_table._delete)
        with written as upsert, deleted as delete:
            _append(store, event("short", "processing"), event("short", "done"))
            _write(store)
        assert upsert.call_args.args[1] == delete.call_args.args[1] == []
    assert _table(path) == [("long", "in_progress")]


def test_a_written_job_is_deleted_with_its_end(path: Path) -> None:
    """The table holds the jobs in flight and nothing else."""
    with stored(path) as store:
        _append(store, *(event(f"{n}") for n in range(1200)))
        _write(store)
        _append(store, *(event(f"{n}", "done") for n in range(1190)))
        _write(store)
    assert [name for name, _ in _table(path)] == [f"{n}" for n in range(1190, 1200)]


def test_many_changed_jobs_are_written_in_steps(path: Path) -> None:
    """No commit has to wait for all of them, and none is lost on the way."""
    with (
        stored(path) as store,
        patch.multiple(job_table, _JOBS_A_COMMIT=10, _INTERVAL_SECONDS=0.0),
    ):
        _append(store, *(event(f"{n:02}") for n in range(25)))
        counts: list[int] = []
        for _ in range(3):
            with store.transaction():
                store.job_table.write_if_due()
                store.append([event("00", at_us=len(counts) + 2)])
            counts.append(len(_table(path)))
            with stored(path) as other:
                assert len(_names(other)) == 25
                assert other.jobs.of(source_of(7))[-1].last_seen_us == len(counts) + 1
        assert counts == [10, 20, 25]


def test_it_is_written_every_few_seconds(path: Path) -> None:
    """Not with each commit: an event must cost nothing here."""
    with stored(path) as store, patch("time.monotonic") as clock:
        for now, count in ((0, 0), (4, 0), (6, 2), (9, 2), (12, 4)):
            clock.return_value = now
            with store.transaction():
                store.job_table.write_if_due()
                store.append([event(f"{now}")])
            assert len(_table(path)) == count


def test_an_undone_transaction_leaves_no_trace(path: Path) -> None:
    """Its events are unheard, and what it wrote of the table is written again."""
    with stored(path) as store:
        _append(store, event("a"), event("b"))
        _write(store)
        _append(store, event("a", "done"), event("c"))
        with undone(store):
            store.job_table.write()
            store.append([event("b", "done"), event("d")])
        assert sorted(_names(store)) == ["b", "c"]
        _write(store)
        assert [name for name, _ in _table(path)] == ["b", "c"]
    with stored(path) as store:
        assert sorted(_names(store)) == ["b", "c"]


def test_rows_may_go_once_they_are_noted(path: Path) -> None:
    """Trimmed, refused, put aside or claimed: the job stays what its last row told."""
    with stored(path) as store:
        # Before Kafka was reached: two of four rows are claimed.
        _append(store, event("a"), event("b"), event("a", "done"), event("b"))
        open_jobs(store)
        with store.transaction():
            store.claim(2, MIB)
        with stored(path) as other:
            assert _names(other) == ["b"]
        with store.transaction():
            store.claim(9, MIB)
        _append(store, event("c"), event("d"), event("e"), event("e"))
        acknowledge(store, 1, 5, 0)
        assert _trim(store) == 5
        with store.transaction():
            store.quarantine("jobs", 0, 6, "too large")
            store.refuse("jobs", 0, 7, record("x", topic="dlq"))
    with stored(path) as store:
        assert sorted(_names(store)) == ["b", "c", "d", "e"]


def test_on_the_last_resort_rows_go_all_the_same(path: Path) -> None:
    """A disk that can't take the table must not keep rows from going."""
    with stored(path) as store:
        open_jobs(store)
        _append(store, event("a"), event("b"))
        acknowledge(store, 1, 1, 0)
        with store.transaction(is_last_resort=True):
            assert store.trim(
                older_than_us=10**18, keep_bytes=0, max_rows=9, max_bytes=MIB
            )
        assert _table(path) == []
        # This process knows all the same, and the next writing repairs it.
        assert _names(store) == ["a", "b"]
        _write(store)
    assert [name for name, _ in _table(path)] == ["a", "b"]


def test_somebody_s_deleted_rows_hide_no_later_ones(path: Path) -> None:
    """A sequence that comes again is told again."""
    with stored(path) as store:
        open_jobs(store)
        _append(store, event("a"), event("b"))
        _write(store)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM rows WHERE key = CAST('b' AS BLOB)")
        connection.execute("UPDATE lanes SET floor_sequence = 0")
    with stored(path) as store:
        _write(store)
        open_jobs(store)
        _append(store, event("c"))
    with stored(path) as store:
        assert sorted(_names(store)) == ["a", "b", "c"]


def test_a_row_that_is_no_job_status_is_passed_over(path: Path) -> None:
    """Rows were written by whoever wrote them; the others are read all the same."""
    with stored(path) as store:
        _append(store, event("a"), event("b"), event("c"))
    with closing(sqlite3.connect(path)) as connection, connection:
        for key, value in (("a", b"\xff"), ("b", b"{}")):
            connection.execute(
                "UPDATE rows SET value = ? WHERE key = CAST(? AS BLOB)", (value, key)
            )
    with stored(path) as store:
        assert _names(store) == ["c"]
