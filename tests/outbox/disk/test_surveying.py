"""Finding out whether an outbox's file is whole, without touching it."""

from __future__ import annotations

import os
import sqlite3  # noqa: TID251 - makes files that are no outbox
from pathlib import Path

import pytest
from bridge.outbox.disk.surveying import survey

from bridge.errors import OutboxDamagedError, OutboxDirectoryError, OutboxFormatError
from tests.outbox.making import (
    acknowledge,
    append,
    numbered,
    open_jobs,
    running,
    stored,
)


def file_of(folder: Path) -> Path:
    """Where an outbox has its file."""
    return folder / "outbox.sqlite3"


def filled(folder: Path) -> Path:
    """Make an outbox of a thousand rows, ten of which Kafka has."""
    path = file_of(folder)
    with stored(path) as store:
        open_jobs(store)
        append(store, numbered(0, 1_000))
        acknowledge(store, 1, 10, 0)
    return path


def test_a_whole_file_is_read_to_its_end(tmp_path: Path) -> None:
    """What it says of its lanes and how large it is come along."""
    path = filled(tmp_path)
    found = survey(tmp_path, 10, is_held=False)
    assert found is not None
    assert found.is_read
    assert [lane.waiting for lane in found.outbox.lanes] == [990]
    assert found.size_bytes == path.stat().st_size


def test_where_nothing_stands_there_is_no_outbox(tmp_path: Path) -> None:
    """A process that was killed at its first step has left an empty file."""
    assert survey(tmp_path, 10, is_held=False) is None
    file_of(tmp_path).touch()
    assert survey(tmp_path, 10, is_held=False) is None


def test_a_large_file_is_left_when_the_time_is_over(tmp_path: Path) -> None:
    """It is said that not all was read; what it holds is known all the same."""
    with stored(file_of(tmp_path)) as store:
        open_jobs(store)
        append(store, numbered(0, 40_000, size=100))
    found = survey(tmp_path, 0, is_held=False)
    assert found is not None
    assert not found.is_read
    assert [lane.waiting for lane in found.outbox.lanes] == [40_000]


def test_a_file_in_use_is_seen_with_its_log(tmp_path: Path) -> None:
    """Its pages are left to whoever has it open."""
    with running(tmp_path):
        found = survey(tmp_path, 10, is_held=True)
        assert found is not None
        assert not found.is_read


@pytest.mark.parametrize("offset", [0, 16])
def test_a_file_without_its_header_is_damaged(tmp_path: Path, offset: int) -> None:
    """SQLite's own words stand in the error."""
    path = filled(tmp_path)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 84)
    with pytest.raises(OutboxDamagedError, match="not a readable outbox"):
        survey(tmp_path, 10, is_held=False)


def test_a_file_cut_in_half_is_damaged(tmp_path: Path) -> None:
    """Pages that are missing are noticed."""
    path = filled(tmp_path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(OutboxDamagedError, match="not a readable outbox"):
        survey(tmp_path, 10, is_held=False)


def test_somebody_elses_database_is_no_outbox(tmp_path: Path) -> None:
    """It is left alone, and the directory is to be another one."""
    with sqlite3.connect(file_of(tmp_path)) as connection:
        connection.execute("CREATE TABLE shopping (item TEXT)")
    connection.close()
    with pytest.raises(OutboxFormatError, match="no outbox"):
        survey(tmp_path, 10, is_held=False)


def test_a_file_that_can_not_be_opened_is_named(tmp_path: Path) -> None:
    """A log that is a directory stands for all that keeps SQLite out."""
    filled(tmp_path)
    file_of(tmp_path).with_name("outbox.sqlite3-wal").mkdir()
    with pytest.raises(OutboxDirectoryError, match="can't be opened"):
        survey(tmp_path, 10, is_held=False)
