"""A file of format 2, which knew no jobs, becomes one of this version."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - writes the file of an older version
from contextlib import closing
from pathlib import Path

import pytest

from bridge.kafka import header_names
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.disk.schema import FORMAT_VERSION, open_database
from bridge.record import JobInFlight, Memory
from bridge.settings import OutboxSettings
from tests.outbox.making import PLENTY_BYTES, event, open_jobs, source_of, stored


# As version 2 made it. Never changed: files in the field were made by it.
_FORMAT_2 = """
PRAGMA page_size = 8192;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE envelopes (
    id INTEGER PRIMARY KEY,
    ce_source TEXT NOT NULL,
    ce_type TEXT NOT NULL,
    origin TEXT NOT NULL,
    content_type TEXT NOT NULL
);
CREATE TABLE lanes (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    acknowledged_sequence INTEGER NOT NULL DEFAULT 0,
    floor_sequence INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    floor_offset INTEGER,
    resent_sequence INTEGER NOT NULL DEFAULT 0,
    topic_id TEXT,
    UNIQUE (topic, partition)
);
CREATE TABLE rows (
    position INTEGER PRIMARY KEY,
    ce_id TEXT NOT NULL,
    envelope INTEGER NOT NULL,
    received_at_us INTEGER NOT NULL,
    key BLOB,
    value BLOB NOT NULL,
    extra BLOB,
    checksum INTEGER
);
CREATE TABLE acknowledged (
    lane INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    base_offset INTEGER NOT NULL,
    acknowledged_at_us INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (lane, first_sequence)
) WITHOUT ROWID;
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    ce_id TEXT NOT NULL,
    envelope INTEGER NOT NULL,
    received_at_us INTEGER NOT NULL,
    key BLOB,
    value BLOB NOT NULL,
    extra BLOB,
    checksum INTEGER,
    reason TEXT NOT NULL,
    put_at_us INTEGER NOT NULL
);
INSERT INTO meta VALUES ('outbox', '5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11');
PRAGMA application_id = 0x62726467;
PRAGMA user_version = 2;
COMMIT;
"""

_JOBS = ("a", "b", "a", "c", "b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a file of version 2: three rows in a lane, one acknowledged, two without."""
    path = tmp_path / "outbox.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(_FORMAT_2)
        connection.execute(
            "INSERT INTO envelopes VALUES (1, ?, ?, 'socket', 'application/json')",
            (source_of(7), header_names.JOB_STATUS_TYPE),
        )
        connection.executescript(
            "INSERT INTO lanes VALUES (1, 'jobs', -1, 3, 3, 0, NULL, 0, NULL);"
            "INSERT INTO lanes VALUES (2, 'jobs', 0, 0, 0, 0, 0, 0, 'id');"
            "INSERT INTO acknowledged VALUES (2, 1, 1, 0, 5, 8);"
        )
        for number, job in enumerate(_JOBS, 1):
            lane = 2 if number <= 3 else 1
            status = "done" if (number, job) == (3, "a") else "in_progress"
            one = event(job, status, number)
            connection.execute(
                "INSERT INTO rows VALUES ((? << 40) + ?, ?, 1, ?, ?, ?, NULL, NULL)",
                (lane, number, f"old-{number}", number, one.key, one.value),
            )
    return path


def test_the_jobs_in_its_rows_are_known(path: Path) -> None:
    """All rows that are left are read once; what was trimmed nobody knows."""
    for _ in range(2):
        with stored(path) as store:
            assert store.pending == 4
            assert store.jobs.of(source_of(7)) == [
                JobInFlight("c", "in_progress", None, 4),
                JobInFlight("b", "in_progress", None, 5),
            ]
            with store.transaction():
                store.job_table.write()
    with stored(path) as store:
        open_jobs(store)
        with store.transaction():
            assert store.claim(9, PLENTY_BYTES) == [("jobs", 0, 5)]
        assert [lane.noted_sequence for lane in store._lanes] == [5, 5]


def test_nothing_else_is_known_of_its_time(path: Path) -> None:
    """Nobody proved anything then; how its process ended it didn't tell."""
    with OutboxDirectory(path.parent) as directory:
        outbox = Outbox(directory, OutboxSettings(dir=path.parent))
        outbox._writer._files.opened.connection.close()
    assert outbox.memory == Memory({}, False, ())


def test_it_has_the_columns_of_a_new_one_in_their_order(path: Path) -> None:
    """Rows of `lanes` are read as they stand."""
    new = path.with_name("new")
    shapes = []
    for one in (path, new):
        with closing(open_database(one, max_bytes=PLENTY_BYTES)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (
                FORMAT_VERSION,
            )
            shapes.append(
                [
                    connection.execute(f"PRAGMA table_info({table})").fetchall()
                    for table in ("lanes", "jobs", "ended", "accounts", "gaps")
                ]
            )
    assert shapes[0] == shapes[1]
