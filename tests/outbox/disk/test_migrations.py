"""A file that an older version wrote becomes one of this version, whole or not."""

from __future__ import annotations

import shutil
import sqlite3  # noqa: TID251 - writes the file of an older version
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bridge.outbox.disk import migrations
from bridge.outbox.disk.schema import FORMAT_VERSION, open_database, outbox_id
from tests.outbox.making import (
    ENVELOPE,
    MIB,
    PLENTY_BYTES,
    acknowledge,
    append,
    number_of,
    numbered,
    read_all,
    spread,
    stored,
)


# As version 1 made it. Never changed: files in the field were made by it.
_FORMAT_1 = """
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
    UNIQUE (topic, partition)
);
CREATE TABLE rows (
    position INTEGER PRIMARY KEY,
    ce_id TEXT NOT NULL,
    envelope INTEGER NOT NULL,
    received_at_us INTEGER NOT NULL,
    key BLOB,
    value BLOB NOT NULL,
    extra BLOB
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
INSERT INTO meta VALUES ('outbox', '5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11');
PRAGMA application_id = 0x62726467;
PRAGMA user_version = 1;
COMMIT;
"""

# Lane 2: rows 4 and 5 stand at 103 and 104; 6 and 7 wait; 8 and 9 were skipped by
# an older copy; 10 waits. Lane 1 has a row that waits for a lane.
_ROWS = """
INSERT INTO envelopes VALUES (1, '{0.ce_source}', '{0.ce_type}', '{0.origin}',
    '{0.content_type}');
INSERT INTO lanes VALUES (1, 'jobs', -1, 3, 3, 0, NULL);
INSERT INTO lanes VALUES (2, 'jobs', 0, 3, 9, 2, 102);
INSERT INTO acknowledged VALUES (2, 4, 5, 103, 5, 8);
INSERT INTO rows VALUES ((1 << 40) + 4, 'old-99', 1, 99, x'6b', '99:', NULL);
UPDATE rows SET value = CAST(value AS BLOB);
"""


def _make(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(_FORMAT_1)
        connection.executescript(_ROWS.format(ENVELOPE))
        # One extra header, as msgpack has it.
        extra = b"\x91\x92\xa1h\xc4\x01v"
        connection.executemany(
            "INSERT INTO rows VALUES ((2 << 40) + ?, ?, 1, ?, NULL, ?, ?)",
            [
                (number, f"old-{number}", number, f"{number}:".encode(), extra)
                for number in (4, 5, 6, 7, 10)
            ],
        )


def _shape(path: Path) -> tuple[int, list[str]]:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        columns = connection.execute(
            "SELECT schema.name || '.' || columns.name || ' ' || columns.type"
            " || columns.\"notnull\" || coalesce(columns.dflt_value, '')"
            " FROM sqlite_schema AS schema, pragma_table_info(schema.name) AS columns"
            " WHERE schema.type = 'table' ORDER BY 1"
        ).fetchall()
    return version, [column for (column,) in columns]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a file of version 1."""
    path = tmp_path / "outbox.sqlite3"
    _make(path)
    return path


def test_everything_goes_on_where_it_was(path: Path) -> None:
    """Rows, acknowledgements, skipped sequences and the name are what they were."""
    with stored(path) as store:
        assert outbox_id(store._connection) == "5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11"
        with store.reading():
            (state,) = store.lane_states()
        assert (state.acknowledged_sequence, state.last_sequence) == (5, 10)
        assert (state.resume_offset, state.resume_ce_id) == (104, "old-5")
        assert (state.resent_sequence, state.topic_id) == (0, None)
        assert store.pending == 4
        rows = read_all(store)
        assert [(row.sequence, row.ce_id) for row in rows] == [
            (number, f"old-{number}") for number in (4, 5, 6, 7, 10)
        ]
        assert rows[0].extra == (("h", b"v"),)
        assert rows[0].envelope == ENVELOPE
        assert [row.offset for row in store.delivered("jobs", 0, 0, 9)] == [103, 104]
        with store.transaction():
            store.open_topic("jobs", spread(1), {0: (0, 105)}, "id")
            assert store.claim(9, MIB) == [("jobs", 0, 11)]
        assert append(store, numbered(100, 1))[0].sequence == 12
    # What this version wrote beside it has checksums; both are read.
    with stored(path) as store:
        acknowledge(store, 6, 7, 105)
        acknowledge(store, 10, 12, 107)
        assert [number_of(row) for row in read_all(store)][-3:] == [10, 99, 100]
        with store.transaction():
            assert store.rewind("jobs", 0, 5, 105) == 5
        assert store.pending == 5


def test_a_migrated_file_is_like_a_new_one(path: Path) -> None:
    """The same tables with the same columns, whoever made them."""
    new = path.with_name("new")
    for one in (path, new):
        open_database(one, max_bytes=PLENTY_BYTES).close()
    version, columns = _shape(new)
    assert _shape(path) == (version, columns)
    assert version == FORMAT_VERSION
    assert "rows.checksum INTEGER0" in columns


def test_what_waits_is_of_the_kind_that_its_type_tells(path: Path) -> None:
    """Which kind a dead letter stands for an older file doesn't say: an event."""
    types = [
        "dev.dryapi.request.status.updated",
        "dev.dryapi.request.preview",
        "dev.dryapi.bridge.gap",
        "dev.dryapi.bridge.dead-letter",
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO envelopes VALUES (?, 'a', ?, 'socket', 'b')",
            enumerate(types, 2),
        )
    with stored(path) as store, store.reading():
        envelopes = store._envelopes.by_number
        assert [envelopes[number].kind for number in sorted(envelopes)] == [
            "event",
            "event",
            "preview",
            "gap",
            "event",
        ]


def test_it_is_done_once(path: Path) -> None:
    """A second opening changes nothing more."""
    open_database(path, max_bytes=PLENTY_BYTES).close()
    before = _shape(path)
    open_database(path, max_bytes=PLENTY_BYTES).close()
    assert _shape(path) == before


_CRASHING = """
import os, sqlite3, sys
from pathlib import Path
from bridge.outbox.disk.schema import open_database

class Crashing(sqlite3.Connection):
    def execute(self, sql, *parameters):
        done = super().execute(sql, *parameters)
        if "{after}" in sql:
            os._exit(9)
        return done

connect = sqlite3.connect
sqlite3.connect = lambda *a, **k: connect(*a, factory=Crashing, **k)
open_database(Path(sys.argv[1]), max_bytes=2**30)
"""


@pytest.mark.parametrize(
    "after", ["topic_id", "CREATE TABLE", f"user_version = {FORMAT_VERSION}"]
)
def test_a_crash_in_the_middle_leaves_the_older_file(path: Path, after: str) -> None:
    """Before the commit it is a file of version 1, which the older bridge reads."""
    before = _shape(path)
    crashed = subprocess.run(
        [sys.executable, "-c", _CRASHING.format(after=after), str(path)],
        check=False,
        timeout=20,
    )
    assert crashed.returncode == 9
    for name in (path.name, f"{path.name}-wal"):
        shutil.copy(path.with_name(name), path.with_name(f"copy-{name}"))
    assert _shape(path.with_name(f"copy-{path.name}")) == before
    with stored(path) as store, store.reading():
        assert store.pending == 4


def test_a_failed_migration_leaves_the_older_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error on the way undoes all of it; the next try may succeed."""
    before = _shape(path)
    steps = (*migrations._STEPS[1], "CREATE TABLE meta (again)")
    monkeypatch.setitem(migrations._STEPS, 1, steps)
    with pytest.raises(Exception, match="already exists"):
        open_database(path, max_bytes=PLENTY_BYTES)
    assert _shape(path) == before
    monkeypatch.undo()
    open_database(path, max_bytes=PLENTY_BYTES).close()
    assert _shape(path)[0] == FORMAT_VERSION
