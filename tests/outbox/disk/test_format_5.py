"""A file of version 5, which knew no webhooks: its gaps go on, and nothing is held."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - writes the file of an older version
from contextlib import closing
from pathlib import Path

import pytest

from bridge.outbox.disk.schema import FORMAT_VERSION, open_database
from bridge.record import LeftGap, Memory
from tests.outbox.healing import answer, delivery
from tests.outbox.leaving import FOR_EVER, found
from tests.outbox.making import PLENTY_BYTES, event, eventually, running, source_of


# As version 5 made it. Never changed: files in the field were made by it.
_FORMAT_5 = """
PRAGMA page_size = 8192;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE envelopes (
    id INTEGER PRIMARY KEY,
    ce_source TEXT NOT NULL,
    ce_type TEXT NOT NULL,
    origin TEXT NOT NULL,
    content_type TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT 'event'
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
    noted_sequence INTEGER NOT NULL DEFAULT 0,
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
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    ce_source TEXT NOT NULL,
    key BLOB NOT NULL,
    status TEXT NOT NULL,
    progress TEXT,
    last_seen_us INTEGER NOT NULL,
    fingerprint INTEGER
);
CREATE TABLE ended (
    id INTEGER PRIMARY KEY,
    ended_at_us INTEGER NOT NULL,
    digests BLOB NOT NULL
);
CREATE TABLE pinned (
    topic TEXT NOT NULL,
    key BLOB NOT NULL,
    partition INTEGER NOT NULL,
    PRIMARY KEY (topic, key)
) WITHOUT ROWID;
CREATE TABLE replayed (ce_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE accounts (
    ce_source TEXT PRIMARY KEY,
    proved_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    gap_id TEXT NOT NULL UNIQUE,
    value BLOB NOT NULL
);
INSERT INTO meta VALUES ('outbox', '5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11');
INSERT INTO meta VALUES ('stopped', '');
INSERT INTO accounts VALUES ('https://api/clients/7', 99);
INSERT INTO gaps (gap_id, value) VALUES ('b', x'62');
INSERT INTO gaps (gap_id, value) VALUES ('a', x'61');
PRAGMA application_id = 0x62726467;
PRAGMA user_version = 5;
COMMIT;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory with a file of version 5."""
    with closing(
        sqlite3.connect(tmp_path / "outbox.sqlite3", isolation_level=None)
    ) as connection:
        connection.executescript(_FORMAT_5)
    return tmp_path


def test_it_is_like_a_new_one(path: Path) -> None:
    """The same tables with the same columns in their order, and the same indexes."""
    shapes = []
    for name in ("outbox.sqlite3", "new"):
        with closing(open_database(path / name, max_bytes=PLENTY_BYTES)) as opened:
            (version,) = opened.execute("PRAGMA user_version").fetchone()
            assert version == FORMAT_VERSION
            names = opened.execute(
                "SELECT type, name FROM sqlite_schema ORDER BY name"
            ).fetchall()
            shapes.append(
                [
                    (
                        kind,
                        name,
                        opened.execute(f"PRAGMA {kind}_info({name})").fetchall(),
                    )
                    for kind, name in names
                ]
            )
    assert shapes[0] == shapes[1]


def test_what_it_remembers_goes_on(path: Path) -> None:
    """Its gaps are those of which nothing was healed so far; webhooks are taken."""
    assert found(path) == Memory(
        {source_of(7): 99}, True, (LeftGap(b"b"), LeftGap(b"a"))
    )
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        outbox.offer([event("j")])
        eventually(lambda: outbox.drained)
        job = outbox.jobs.find(source_of(7), "j")
        assert job is not None
        assert outbox.heal(answer(job, "done", "a")).result(10)
        assert outbox.take(delivery("d", "k")).result(10)
        (held,) = outbox.held(9).result(10)
        assert outbox.release(held.place, ["a", "b"]).result(10)
    assert found(path).left_gaps == (LeftGap(b"b", 0, 1), LeftGap(b"a", 1, 1))
