"""A byte that changes on the disk in silence never reaches a topic."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - looks into the file
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import OutboxDamagedError
from bridge.events.record import Record
from tests.outbox.making import (
    ENVELOPE,
    MIB,
    append,
    numbered,
    open_jobs,
    read_all,
    stored,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


@pytest.mark.parametrize(
    "change",
    [
        "value = CAST('1;' AS BLOB)",
        "key = CAST('job-9' AS BLOB)",
        "key = NULL",
        "extra = x'91'",
        "envelope = 99",
        "value = 'text'",
    ],
)
def test_a_changed_row_is_told(path: Path, change: str) -> None:
    """It is named, and rows before it can still be read."""
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 5))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE rows SET {change} WHERE position & 15 = 3")  # noqa: S608
    with stored(path) as store, store.reading():
        assert len(store.read("jobs", 0, 0, 2, MIB)) == 2
        with pytest.raises(OutboxDamagedError, match="row 3 of jobs-0 has changed"):
            store.read("jobs", 0, 0, 9, MIB)


def test_a_single_byte_is_enough(path: Path) -> None:
    """One bit of one value, changed behind SQLite's back, is noticed."""
    with stored(path) as store:
        open_jobs(store)
        append(store, [Record("jobs", b"k", b"needle" * 9, 1, ENVELOPE)])
    whole = path.read_bytes()
    assert whole.count(b"needle" * 9) == 1
    path.write_bytes(whole.replace(b"needleneedle", b"needlenfedle", 1))
    with (
        pytest.raises(OutboxDamagedError, match="has changed"),
        stored(path) as store,
        store.reading(),
    ):
        read_all(store)
