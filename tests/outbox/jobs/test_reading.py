"""What a disk has changed in silence of jobs is no end of the process."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - plays the disk
import time
from contextlib import closing
from pathlib import Path

import pytest

from bridge.events.record import Record
from tests.outbox import making
from tests.outbox.making import running, source_of, stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an outbox puts its file."""
    return tmp_path / "outbox.sqlite3"


def event(job: str, status: str = "in_progress", progress: str | None = None) -> Record:
    """Make the record of a status just read: an older one is soon forgotten."""
    return making.event(job, status, time.time_ns() // 1000, progress=progress)


def _fill(path: Path, *, noted: bool) -> None:
    """Write the events of three jobs, of which one ends."""
    with stored(path) as store:
        with store.transaction():
            store.append([event("a", progress="45.5"), event("b", progress="45.5")])
            store.append([event("c", "done")])
        if noted:
            with store.transaction():
                store.job_table.write()


def _change(path: Path, table: str, change: str, job: str | None = "a") -> None:
    which = "" if job is None else f" WHERE key = CAST('{job}' AS BLOB)"
    with closing(sqlite3.connect(path)) as connection, connection:
        changed = connection.execute(f"UPDATE {table} SET {change}{which}")  # noqa: S608 - ours
        assert changed.rowcount == 1


def _is_set_aside(path: Path) -> bool:
    return any(path.parent.glob("*damaged*"))


@pytest.mark.parametrize(
    "change",
    [
        "progress = '4u.5'",
        "progress = CAST(x'fffe' AS TEXT)",
        "status = 'in_pzogress'",
        "last_seen_us = 'long ago'",
        "fingerprint = 'none'",
        "key = 'a'",
        "key = 'abcd'",
        "key = x'ff'",
    ],
)
def test_a_changed_row_of_a_job_sets_the_file_aside(path: Path, change: str) -> None:
    """As any other damage does; what isn't changed is remembered all the same."""
    _fill(path, noted=True)
    _change(path, "jobs", change)
    with running(path.parent) as outbox:
        names = [job.request_id for job in outbox.jobs.of(source_of(7))]
        # Its table was read twice, and has counted once.
        assert len(outbox.jobs.ended) == 1
    # A text that is none ends the reading of its table.
    assert names == ([] if "fffe" in change else ["b"])
    assert _is_set_aside(path)
    with stored(path) as store:
        assert store.jobs.has_ended(store.jobs.account(source_of(7)), b"c")


@pytest.mark.parametrize(
    "change",
    [
        "value = CAST(value AS TEXT)",
        "value = 5",
        "value = CAST(replace(value, 'progress', 'done') AS BLOB)",
        "key = CAST(key AS TEXT)",
        "key = x'ff'",
        "key = NULL",
        "received_at_us = 'long ago'",
        "envelope = 'x'",
        "extra = 'x'",
    ],
)
def test_a_changed_event_is_passed_over(path: Path, change: str) -> None:
    """It tells nothing of its job; who sends it finds the damage."""
    _fill(path, noted=False)
    _change(path, "rows", change)
    with stored(path) as store:
        names = [job.request_id for job in store.jobs.of(source_of(7))]
        assert names == ["b"]
        assert store.jobs.has_ended(store.jobs.account(source_of(7)), b"c")
