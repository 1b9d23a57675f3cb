"""Looking into an outbox's file from outside."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - makes files that are no outbox
from pathlib import Path

import pytest
from bridge.outbox.disk.looking import look

from bridge.errors import OutboxDirectoryError
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


def names(folder: Path) -> set[str]:
    """What lies in a directory."""
    return {path.name for path in folder.iterdir()}


def test_a_stopped_outbox_is_read_without_a_trace(tmp_path: Path) -> None:
    """How far its lanes have come is there, and no file was made."""
    with stored(file_of(tmp_path)) as store:
        open_jobs(store)
        append(store, numbered(0, 10))
        acknowledge(store, 1, 4, 0)
    before = names(tmp_path)
    tmp_path.chmod(0o500)
    try:
        seen = look(tmp_path)
    finally:
        tmp_path.chmod(0o700)
    assert names(tmp_path) == before
    (lane,) = seen.lanes
    assert (lane.topic, lane.partition) == ("jobs", 0)
    assert (lane.acknowledged_sequence, lane.waiting) == (4, 6)
    assert lane.quarantined == []
    assert len(seen.id) == 36


def test_a_lane_whose_rows_are_trimmed_is_as_far_as_before(tmp_path: Path) -> None:
    """Without a run of acknowledged rows the table of lanes tells it."""
    with stored(file_of(tmp_path)) as store:
        open_jobs(store)
        append(store, numbered(0, 3))
        acknowledge(store, 1, 3, 0)
        with store.transaction():
            store.trim(older_than_us=1, keep_bytes=0, max_rows=100, max_bytes=10**6)
    (lane,) = look(tmp_path).lanes
    assert (lane.acknowledged_sequence, lane.waiting) == (3, 0)


def test_rows_in_quarantine_are_named(tmp_path: Path) -> None:
    """Their sequence counts as passed, and a file of format 1 has none."""
    with stored(file_of(tmp_path)) as store:
        open_jobs(store)
        append(store, numbered(0, 3))
        acknowledge(store, 1, 1, 0)
        with store.transaction():
            store.quarantine("jobs", 0, 2, "refused")
    (lane,) = look(tmp_path).lanes
    assert (lane.acknowledged_sequence, lane.quarantined) == (2, [2])
    connection = sqlite3.connect(file_of(tmp_path))
    connection.execute("DROP TABLE quarantine")
    connection.close()
    assert look(tmp_path).lanes[0].quarantined == []


def test_a_running_outbox_is_not_disturbed(tmp_path: Path) -> None:
    """It can be read while it is held, and goes on writing."""
    with running(tmp_path) as outbox:
        outbox.offer(numbered(0, 5))
        while outbox.statistics.committed < 5:
            pass
        seen = look(tmp_path)
        # Rows without a partition belong to no lane yet.
        assert (seen.id, seen.lanes) == (outbox.id, [])
        outbox.offer(numbered(5, 5))
        while outbox.statistics.committed < 10:
            pass


@pytest.mark.parametrize("content", [None, b"", b"not a database, but long" * 100])
def test_what_is_no_outbox_is_told(tmp_path: Path, content: bytes | None) -> None:
    """A missing, empty or foreign file is an error that names the option."""
    if content is not None:
        file_of(tmp_path).write_bytes(content)
    with pytest.raises(OutboxDirectoryError, match="--outbox-dir"):
        look(tmp_path)
