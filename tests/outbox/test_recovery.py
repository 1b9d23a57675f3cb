"""A damaged file is replaced by the next start, with all that can be read of it."""

from __future__ import annotations

import os
import random
import sqlite3  # noqa: TID251 - finds a table's page
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.errors import OutboxDamagedError
from bridge.outbox import Outbox
from bridge.outbox.database import Database
from bridge.outbox.values import LeftGap, Loss, Spent
from tests.outbox.making import (
    append,
    dead_letter,
    delivery,
    event,
    number_of,
    numbered,
    opened,
    read_all,
    record,
    source_of,
)


_COUNT = 2000
_PAGE_BYTES = 8192


def _database(path: Path) -> Path:
    return path / "outbox.sqlite3"


def _aside(path: Path) -> list[Path]:
    found = path.glob("outbox.sqlite3.damaged-*")
    return sorted(file for file in found if file.name.endswith("Z"))


def _fill(path: Path, acknowledged: int = 0) -> dict[int, str]:
    """Write rows of which Kafka has the first; give the `ce_id`s of all."""
    with opened(path) as outbox:
        rows = append(outbox, numbered(0, _COUNT, size=400))
        if acknowledged:
            outbox.acknowledge("jobs", 0, 1, acknowledged, 0, 1)
    return {number_of(row): row.ce_id for row in rows}


def _mark(path: Path) -> None:
    with opened(path) as outbox:
        outbox.mark_damaged(OutboxDamagedError("as the test wants it"))


def _recovered(path: Path) -> tuple[list[int], list[Loss], list[Any]]:
    """Start on a damaged file; give what is left, and what was reported of it."""
    losses: list[Loss] = []
    with capture_logs() as lines, opened(path, on_loss=losses.append) as outbox:
        rows = read_all(outbox)
        assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    return [number_of(row) for row in rows], losses, lines


def _overwrite(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * _PAGE_BYTES)
        file.write(random.Random(1).randbytes(_PAGE_BYTES))


# -- What is damaged -----------------------------------------------------------------


def test_a_file_cut_in_half_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Rows before the cut go out again with their identity, before newer ones."""
    ce_ids = _fill(tmp_path, acknowledged=100)
    database = _database(tmp_path)
    os.truncate(database, database.stat().st_size // 2 // _PAGE_BYTES * _PAGE_BYTES)
    damaged = database.read_bytes()
    losses: list[Loss] = []
    with capture_logs() as lines, opened(tmp_path, on_loss=losses.append) as outbox:
        append(outbox, numbered(_COUNT, 10))
        rows = read_all(outbox)
        found = outbox.statistics.topics["jobs"]
        assert found.found + found.committed == found.waiting == len(rows)
    numbers = [number_of(row) for row in rows]
    assert numbers[-10:] == list(range(_COUNT, _COUNT + 10))
    # About a half of them, and of those that wait none before the cut is missing.
    assert _COUNT // 4 < len(numbers) < _COUNT * 3 // 4
    assert numbers[:-10] == list(range(100, 100 + len(numbers) - 10))
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    assert all(row.ce_id == ce_ids[number_of(row)] for row in rows[:-10])
    assert len({row.ce_id for row in rows}) == len(rows)
    (aside,) = _aside(tmp_path)
    assert aside.read_bytes() == damaged
    (line,) = [line for line in lines if line["event"] == "outbox.damaged"]
    assert (line["log_level"], line["rows"]) == ("error", len(rows) - 10)
    # The age and the number of the rest are unknown.
    (loss,) = losses
    assert (loss.cause, loss.since_us) == ("outbox_damaged", None)
    assert loss.until_us is not None


def test_a_changed_row_is_lost_alone(tmp_path: Path) -> None:
    """Its bytes aren't what was read, and must not be published."""
    _fill(tmp_path)
    with closing(sqlite3.connect(_database(tmp_path), isolation_level=None)) as it:
        it.execute("UPDATE rows SET value = x'30' WHERE position & 4095 = 7")
    _mark(tmp_path)
    numbers, losses, _ = _recovered(tmp_path)
    assert set(range(_COUNT)) - set(numbers) == {6}
    assert [loss.records for loss in losses] == [1]


# -- Each table ----------------------------------------------------------------------

_TABLES = {
    "meta": set(),
    "envelopes": {"rows"},
    "topics": set(),
    "partitions": {"rows"},
    "rows": {"rows"},
    "acknowledged": {"more rows"},
    "accounts": {"jobs", "proved", "spent"},
    "jobs": {"jobs"},
    "ended": {"ended"},
    "deliveries": {"taken"},
    "held": {"held"},
    "gaps": {"gaps"},
    "replayed": {"replayed"},
}


def _fill_all(path: Path) -> None:
    with opened(path, refuse_late=dead_letter) as outbox:
        now_us = time.time_ns() // 1000
        statuses = {"a": "in_progress", "b": "done", "c": "in_progress"}
        append(outbox, [event(job, its, now_us) for job, its in statuses.items()])
        outbox.acknowledge("jobs", 0, 1, 1, 0, 1)
        outbox.take(delivery("d", "w"))
        outbox.prove({source_of(7): 5})
        outbox.spend({source_of(7): Spent(1, 2)})
        outbox.replay({"letter": [record("r")]})
        gap = record("7", b"the gap", topic="gaps")
        outbox.keep(gap, opens="g")
        outbox.commit()


def _look(outbox: Outbox) -> dict[str, Any]:
    memory = outbox.memory
    known: list[Future[Any]] = [
        outbox.replayed(["letter"]),
        outbox.held(9),
        outbox.take(delivery("d", "w")),
    ]
    outbox.commit()
    replayed, held, taken = (one.result(0) for one in known)
    outbox.offer([event("b")])
    outbox.commit()
    return {
        "jobs": {one.request_id for one in outbox.jobs.of(source_of(7))} - {"b"},
        "ended": outbox.statistics.late,
        "proved": dict(memory.proved_us),
        "spent": dict(memory.spent),
        "gaps": memory.left_gaps,
        "replayed": replayed,
        "held": [one.record.key for one in held],
        "taken": not taken,
    }


@pytest.mark.parametrize("table", _TABLES)
def test_one_damaged_table_takes_no_other(tmp_path: Path, table: str) -> None:
    """Each is copied as far as it can be read."""
    _fill_all(tmp_path)
    with closing(sqlite3.connect(_database(tmp_path))) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
        ).fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _overwrite(_database(tmp_path), page - 1)
    _database(tmp_path).with_name("outbox.sqlite3.is-damaged").write_text("a test")
    with opened(tmp_path, refuse_late=dead_letter) as outbox:
        keys = [row.key for row in read_all(outbox)]
        found = _look(outbox)
    whole = {
        "jobs": {"a", "c"},
        "ended": 1,
        "proved": {source_of(7): 5},
        "spent": {source_of(7): Spent(1, 2)},
        "gaps": (LeftGap(b"the gap"),),
        "replayed": {"letter"},
        "held": [b"w"],
        "taken": True,
    }
    lost = _TABLES[table]
    assert {name for name in whole if found[name] != whole[name]} == lost - {
        "rows",
        "more rows",
    }
    if "rows" not in lost:
        # Where nothing says what Kafka has, it gets more than once what it may have.
        more = [b"a"] if "more rows" in lost else []
        assert keys == [*more, b"b", b"c", b"r"]


# -- When ----------------------------------------------------------------------------


def test_damage_upon_damage_ends_the_start(tmp_path: Path) -> None:
    """A disk that damages one file after the other is not written to for ever."""
    _fill(tmp_path)
    _mark(tmp_path)
    _recovered(tmp_path)
    _mark(tmp_path)
    before = sorted(tmp_path.iterdir())
    with (
        pytest.raises(OutboxDamagedError, match="See whether the disk fails"),
        opened(tmp_path),
    ):
        pass
    assert sorted(tmp_path.iterdir()) == before


def test_a_recovery_that_dies_is_repeated(tmp_path: Path) -> None:
    """At whichever step: nothing is lost, and one file is moved aside."""
    _fill(tmp_path / "before", acknowledged=100)
    _mark(tmp_path / "before")
    step = 0
    while True:
        path = tmp_path / f"{step}"
        path.mkdir()
        for file in (tmp_path / "before").glob("outbox*"):
            (path / file.name).write_bytes(file.read_bytes())
        dies = _die_at(step, path)
        numbers, losses, _ = _recovered(path)
        assert numbers == list(range(100, _COUNT))
        assert [loss.records for loss in losses] == [0]
        assert len(_aside(path)) == 1
        assert _recovered(path)[0] == numbers
        if not dies:
            break
        step += 1
    assert step > 8


def _die_at(step: int, path: Path) -> bool:
    """Have a process recover that dies just before a step; gives whether it did."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    count = 0

    def dying(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            nonlocal count
            if count == step:
                os._exit(1)
            count += 1
            return work(*args, **options)

        return run

    for owner, name in (
        (Path, "rename"),
        (Path, "unlink"),
        (os, "fsync"),
        (Database, "checkpoint"),
        (Database, "transaction"),
    ):
        setattr(owner, name, dying(getattr(owner, name)))
    try:
        _recovered(path)
    finally:
        os._exit(0)
