"""A look into an outbox's file from outside, without touching it."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - makes files that aren't an outbox
import time
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from bridge.errors import OutboxDamagedError, OutboxDirectoryError
from bridge.outbox.survey import is_for_replays, look, survey
from tests.outbox.making import append, dead_letter, numbered, opened, record


def _file_of(folder: Path) -> Path:
    return folder / "outbox.sqlite3"


def _filled(folder: Path, **options: float) -> Path:
    """Make an outbox of a thousand rows: Kafka has ten, and refused the next two."""
    with opened(folder, **options) as outbox:
        append(outbox, numbered(0, 1_000))
        outbox.acknowledge("jobs", 0, 1, 10, 0, 1)
        outbox.refuse("jobs", 0, 11, None)
        outbox.refuse("jobs", 0, 12, dead_letter(record("a")))
    return _file_of(folder)


def test_a_stopped_outbox_is_read_without_a_trace(tmp_path: Path) -> None:
    """How far its partitions have come is there, and no file was made."""
    path = _filled(tmp_path)
    before = {one.name for one in tmp_path.iterdir()}
    tmp_path.chmod(0o500)
    try:
        seen = look(tmp_path)
        found = survey(tmp_path, 10, is_held=False)
    finally:
        tmp_path.chmod(0o700)
    assert {one.name for one in tmp_path.iterdir()} == before
    states = {
        one.topic: (one.acknowledged_sequence, one.waiting, one.unsendable)
        for one in seen.partitions
    }
    assert states == {"jobs": (12, 988, [11]), "dlq": (0, 1, []), "gaps": (0, 0, [])}
    assert found is not None
    assert found.is_read
    assert found == structs.replace(seen, is_read=True)
    assert found.size_bytes == path.stat().st_size


def test_a_partition_whose_rows_are_trimmed_is_as_far_as_before(
    tmp_path: Path,
) -> None:
    """Without a run of acknowledged rows the table of partitions has it."""
    with opened(tmp_path, acknowledged_seconds=0) as outbox:
        append(outbox, numbered(0, 3))
        outbox.acknowledge("jobs", 0, 1, 3, 0, 1)
        time.sleep(0.15)
    with closing(sqlite3.connect(_file_of(tmp_path))) as file:
        assert file.execute("SELECT count(*) FROM rows").fetchone() == (0,)
    (jobs,) = [one for one in look(tmp_path).partitions if one.topic == "jobs"]
    assert (jobs.acknowledged_sequence, jobs.waiting) == (3, 0)


def test_a_large_file_is_left_when_the_time_is_over(tmp_path: Path) -> None:
    """Not all was read, and that is known; so is what it holds."""
    with opened(tmp_path) as outbox:
        for first in range(0, 40_000, 10_000):
            append(outbox, numbered(first, 10_000, size=100))
    found = survey(tmp_path, 0, is_held=False)
    assert found is not None
    assert not found.is_read
    assert max(one.waiting for one in found.partitions) == 40_000


def test_where_there_is_nothing_there_is_no_outbox(tmp_path: Path) -> None:
    """A process that was killed at its first step has left an empty file."""
    assert survey(tmp_path, 10, is_held=False) is None
    _file_of(tmp_path).touch()
    assert survey(tmp_path, 10, is_held=False) is None


@pytest.mark.parametrize("content", [None, b"", b"not a database, but long" * 100])
def test_what_is_no_outbox_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    """A missing, empty or foreign file names the option."""
    if content is not None:
        _file_of(tmp_path).write_bytes(content)
    with pytest.raises(OutboxDirectoryError, match="--outbox-dir"):
        look(tmp_path)


def test_an_outbox_without_its_uuid_is_damaged(tmp_path: Path) -> None:
    """Where nothing says whose it is, nothing else of it is believed."""
    with closing(sqlite3.connect(_filled(tmp_path))) as connection, connection:
        connection.execute("DELETE FROM meta WHERE name = 'outbox'")
    with pytest.raises(OutboxDamagedError, match="UUID"):
        survey(tmp_path, 10, is_held=False)


def test_a_file_that_can_not_be_opened_is_named(tmp_path: Path) -> None:
    """A log that is a directory stands for all that keeps SQLite out."""
    _filled(tmp_path)
    _file_of(tmp_path).with_name("outbox.sqlite3-wal").mkdir()
    with pytest.raises(OutboxDirectoryError, match="can't be opened"):
        survey(tmp_path, 10, is_held=False)


def test_a_bridges_own_outbox_differs_from_one_for_replays(tmp_path: Path) -> None:
    """It has written a record that came from elsewhere."""
    assert is_for_replays(tmp_path)
    own = record("a")
    replayed = structs.replace(
        own, envelope=structs.replace(own.envelope, origin="replay")
    )
    with opened(tmp_path) as outbox:
        append(outbox, [replayed])
        assert is_for_replays(tmp_path)
        append(outbox, [own])
    assert not is_for_replays(tmp_path)
