"""What one process leaves to the next: proofs, open gaps, and how it ended."""

from __future__ import annotations

import os
import sqlite3  # noqa: TID251 - looks into the file, damages it
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bridge.outbox import Outbox
from bridge.outbox.store import Store
from bridge.outbox.values import LeftGap, Memory
from tests.outbox.leaving import FOR_EVER, NOTHING, found, gap_value, refuse, standing
from tests.outbox.making import (
    event,
    eventually,
    fresh,
    record,
    running,
    source_of,
    spread,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for an outbox."""
    return tmp_path / "outbox"


# -- How it ended --------------------------------------------------------------


def test_a_new_outbox_remembers_nothing(path: Path) -> None:
    """Nobody was here before."""
    with standing(path) as outbox:
        assert outbox.memory == NOTHING


def test_a_stop_is_told_until_somebody_works_again(path: Path) -> None:
    """The process after a stop finds it; the one after a crash doesn't."""
    with running(path) as outbox:
        assert not outbox.memory.was_stopped
    assert found(path).was_stopped
    # A process that ends before it works, for want of a setting, leaves no trace.
    with standing(path) as outbox:
        assert outbox.memory.was_stopped
    with running(path) as outbox:
        assert outbox.memory.was_stopped
        eventually(lambda: not found(path).was_stopped)
    assert found(path).was_stopped


def test_a_stop_that_could_not_write_all_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap record that found no room must not look like an orderly end."""
    with running(path) as outbox:
        eventually(lambda: outbox.statistics.last_beat > 0)
        monkeypatch.setattr(Store, "append", refuse)
        outbox.keep(record("7", topic="jobs.gaps"))
    monkeypatch.undo()
    assert not found(path).was_stopped


# -- Gaps ----------------------------------------------------------------------


def test_open_gaps_are_remembered_in_the_order_of_opening(path: Path) -> None:
    """Opened with one record, closed with another, each with its transaction."""
    with running(path) as outbox:
        for number in (3, 1, 2):
            gap = record("7", gap_value(number), topic="jobs.gaps")
            outbox.keep(gap, opens=f"{number}")
        outbox.keep(record("7", b"closed", topic="jobs.gaps"), closes="1")
        outbox.keep(record("7", b"unknown", topic="jobs.gaps"), closes="9")
        outbox.keep(record("7", b"once", topic="jobs.gaps"))
        eventually(lambda: outbox.statistics.kept == 6)
        assert found(path).left_gaps == (LeftGap(gap_value(3)), LeftGap(gap_value(2)))
    with running(path) as outbox:
        assert outbox.memory.left_gaps == (LeftGap(gap_value(3)), LeftGap(gap_value(2)))
        outbox.keep(record("7", b"closed", topic="jobs.gaps"), closes="3")
    assert found(path).left_gaps == (LeftGap(gap_value(2)),)


# -- Another file --------------------------------------------------------------


def _fill(path: Path) -> None:
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        outbox.open_topic("jobs", spread(1), fresh(1), None).result(10)
        outbox.offer([event(f"{n}", at_us=n, account=7 + n % 2) for n in range(1, 200)])
        outbox.keep(record("7", gap_value(1), topic="jobs.gaps"), opens="1")
        outbox.prove({source_of(7): 10_000, source_of(8): 199})


def _check(outbox: Outbox) -> None:
    assert outbox.jobs.count(source_of(7)) == 99
    assert outbox.jobs.count(source_of(8)) == 100
    memory = outbox.memory
    assert memory.proved_us == {source_of(7): 10_000, source_of(8): 199}
    assert memory.left_gaps == (LeftGap(gap_value(1)),)


def test_a_new_file_remembers_what_the_damaged_one_did(path: Path) -> None:
    """Found at the start: tables that can be read are read, at once."""
    _fill(path)
    database = path / "outbox.sqlite3"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        # The table of acknowledged runs, which every start reads.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'quarantine'"
        )
    with standing(path) as outbox:
        _check(outbox)
        assert list(path.glob("*.damaged-*.to-salvage"))
    # Killed before anything of the damaged file was salvaged: it is known still.
    with standing(path) as outbox:
        _check(outbox)
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        _check(outbox)
        eventually(lambda: outbox.statistics.rows == 199 + 1)
        assert not list(path.glob("*.damaged-*.to-salvage"))
    with standing(path) as outbox:
        _check(outbox)


def test_what_can_t_be_read_is_not_remembered(path: Path) -> None:
    """A file of random bytes leaves nothing; the outbox works all the same."""
    _fill(path)
    (path / "outbox.sqlite3").write_bytes(os.urandom(50_000))
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        assert outbox.memory == NOTHING
        assert outbox.jobs.of(source_of(7)) == []
        outbox.prove({source_of(7): 5})
    assert found(path).proved_us == {source_of(7): 5}


# -- A crash -------------------------------------------------------------------

_DYING = """
import os, sys
from pathlib import Path
from tests.outbox.making import event, eventually, record, running, source_of

with running(Path(sys.argv[1]), keep_jobs_seconds=1e11) as outbox:
    outbox.offer([event(f"{n}", at_us=n) for n in range(1, 101)])
    outbox.keep(record("7", b"gap", topic="jobs.gaps"), opens="1")
    outbox.prove({source_of(7): 1000})
    eventually(lambda: outbox.drained and outbox.statistics.kept == 1)
    outbox.offer([event(f"{n}", "done", n + 1000) for n in range(1, 51)])
    outbox.prove({source_of(7): 1050})
    proved = outbox._writer._store.remembered.proved_us
    eventually(lambda: outbox.drained and proved[source_of(7)] == 1050)
    os._exit(9)
"""


def test_all_of_it_outlives_a_process_that_dies(path: Path) -> None:
    """Jobs, proofs and gaps are those of what was committed."""
    died = subprocess.run(
        [sys.executable, "-c", _DYING, str(path)],
        check=False,
        cwd=Path(__file__).parents[2],
        timeout=30,
    )
    assert died.returncode == 9
    with standing(path) as outbox:
        assert outbox.memory == Memory({source_of(7): 1050}, False, (LeftGap(b"gap"),))
        names = {job.request_id for job in outbox.jobs.of(source_of(7))}
        assert names == {f"{n}" for n in range(51, 101)}
