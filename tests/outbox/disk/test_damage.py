"""A damaged file is set aside, read as far as it goes, and another one goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.errors import OutboxDamagedError, OutboxFormatError
from bridge.outbox import Outbox
from tests.outbox.harming import (
    COUNT,
    Scene,
    halve,
    named,
    numbers_of,
    open_jobs,
    overwrite_header,
    overwrite_page,
    read_all,
    read_until_replaced,
)
from tests.outbox.making import (
    eventually,
    number_of,
    numbered,
)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A directory for an outbox."""
    return Scene(tmp_path)


# -- At the start ------------------------------------------------------------------


def test_a_file_cut_in_half_is_read_as_far_as_it_goes(scene: Scene) -> None:
    """Rows before the cut go out again with their identity, before newer ones."""
    ce_ids = scene.fill(acknowledged=100)
    halve(scene.database)
    damaged = scene.database.read_bytes()
    with capture_logs() as lines, scene.running() as outbox:
        outbox.offer(numbered(COUNT, 10))
        open_jobs(outbox)
        eventually(lambda: outbox.statistics.rows > 10 and outbox.drained)
        rows = read_all(outbox)
        statistics = outbox.statistics
    numbers = numbers_of(rows)
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 100
    assert numbers[-10:] == list(range(COUNT, COUNT + 10))
    # About a half of them.
    assert COUNT // 4 < len(numbers) - 10 < COUNT * 3 // 4
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    assert all(row.ce_id == ce_ids[number_of(row)] for row in rows[:-10])
    assert len({row.ce_id for row in rows}) == len(rows)
    (aside,) = scene.aside
    assert aside.read_bytes() == damaged
    (told,) = named(lines, "outbox.damaged")
    assert told["set_aside"] == str(aside)
    assert told["log_level"] == "error"
    (salvaged,) = named(lines, "outbox.salvaged")
    assert salvaged["records"] == len(rows) - 10
    assert statistics.lost_rows == salvaged["given_up"]
    scene.check_losses(since_us=None)
    assert scene.losses[1].records == statistics.lost_rows
    # Nothing more is made of it at the next start.
    with capture_logs() as lines, scene.running() as outbox:
        assert outbox.statistics.rows == len(rows)
    assert named(lines, "outbox.salvaged") == []


def test_rows_behind_a_damaged_page_are_read_too(scene: Scene) -> None:
    """A page that is overwritten takes the rows on it, and no other."""
    ce_ids = scene.fill()
    overwrite_page(scene.database)
    with capture_logs() as lines, scene.running() as outbox:
        # A page is looked at when its rows are wanted.
        open_jobs(outbox)
        read_until_replaced(scene, outbox)
        open_jobs(outbox)
        rows = read_all(outbox)
        lost = outbox.statistics.lost_rows
    numbers = numbers_of(rows)
    assert numbers == sorted(set(numbers))
    missing = sorted(set(range(COUNT)) - set(numbers))
    # A page of 8 KiB has less than 20 rows of 400 bytes.
    assert 10 <= len(missing) <= 20
    assert missing == list(range(missing[0], missing[-1] + 1))
    assert lost == len(missing)
    assert numbers[-1] == COUNT - 1
    assert all(row.ce_id == ce_ids[number_of(row)] for row in rows)
    (salvaged,) = named(lines, "outbox.salvaged")
    assert salvaged["stopped_by"] is None


def test_a_file_without_a_header_is_set_aside(scene: Scene) -> None:
    """What SQLite can't read at all is kept as well, and the start goes on."""
    scene.fill()
    overwrite_header(scene.database)
    damaged = scene.database.read_bytes()
    with capture_logs() as lines, scene.running() as outbox:
        outbox.offer(numbered(0, 5))
        open_jobs(outbox)
        eventually(lambda: outbox.drained)
        assert numbers_of(read_all(outbox)) == list(range(5))
    (aside,) = scene.aside
    assert aside.read_bytes() == damaged
    (salvaged,) = named(lines, "outbox.salvaged")
    assert (salvaged["records"], salvaged["stopped_by"]) == (
        0,
        "file is not a database",
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_log_that_was_cut_loses_its_end_alone(scene: Scene, share: float) -> None:
    """SQLite's log is taken up to the last commit that is whole in it."""
    log = scene.database.with_name("outbox.sqlite3-wal")
    with scene.running() as outbox:
        open_jobs(outbox)
        for first in range(0, 400, 10):
            outbox.offer(numbered(first, 10, size=400))
            eventually(lambda: outbox.drained)
        copies = {path: path.read_bytes() for path in (scene.database, log)}
    assert len(copies[log]) > 100_000
    for path, content in copies.items():
        path.write_bytes(content)
    os.truncate(log, int(len(copies[log]) * share))
    with scene.running() as outbox:
        open_jobs(outbox)
        numbers = numbers_of(read_all(outbox))
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) < 400
    assert scene.aside == []


def test_a_foreign_file_is_left_alone(scene: Scene) -> None:
    """What is whole, and somebody else's, is refused and not moved."""
    scene.path.mkdir(exist_ok=True)
    scene.fill()
    with scene.database.open("r+b") as file:
        # The application's id in SQLite's header: https://sqlite.org/fileformat.html
        file.seek(68)
        file.write(b"else")
    with pytest.raises(OutboxFormatError), scene.running():
        pass
    assert scene.aside == []


# -- While it runs -----------------------------------------------------------------


@pytest.mark.parametrize("harm", [halve, overwrite_page])
def test_a_file_damaged_while_running_is_replaced(
    scene: Scene, harm: Callable[[Path], None]
) -> None:
    """What was in memory is written to the new file; the relay is told; it goes on."""
    scene.fill()
    with capture_logs() as lines, scene.running() as outbox:
        before = outbox.id
        harm(scene.database)
        outbox.offer(numbered(COUNT, 10, size=400))
        number = COUNT + 10
        # Unless it is told that the file is gone.
        with suppress(CancelledError):
            open_jobs(outbox)
        read_until_replaced(scene, outbox)
        assert outbox.id != before
        open_jobs(outbox)
        eventually(lambda: outbox.drained)
        rows = read_all(outbox)
        statistics = outbox.statistics
    numbers = numbers_of(rows)
    assert numbers == sorted(set(numbers))
    # The last ones came with the damage, and are there.
    assert numbers[-1] == number - 1
    assert numbers[0] == 0
    assert statistics.accepted == statistics.committed
    assert sum(statistics.dropped.values()) == 0
    tally = statistics.tallies.read()["event", "socket"]
    assert tally.committed == statistics.committed
    assert tally.waiting == len(rows)
    assert tally.committed + tally.found == tally.waiting + tally.lost
    assert len(scene.aside) == len(named(lines, "outbox.damaged")) == 1
    # Of the oldest row that waited.
    scene.check_losses(since_us=1)
    assert statistics.last_beat == 0


def _write_more_than_is_cached(outbox: Outbox) -> int:
    """SQLite keeps 2 MB of pages in memory: there no damage is seen."""
    for first in range(0, 400, 20):
        outbox.offer(numbered(first, 20, size=20_000))
        eventually(lambda: outbox.drained)
    return 400


def test_damage_upon_damage_ends_the_process(scene: Scene) -> None:
    """A disk that damages one file after the other is not written to for ever."""

    def damage_it_twice() -> None:
        log = scene.database.with_name("outbox.sqlite3-wal")
        with scene.running() as outbox:
            for times in (1, 2):
                open_jobs(outbox)
                _write_more_than_is_cached(outbox)
                os.truncate(log, log.stat().st_size // 2)
                read_until_replaced(scene, outbox, times)

    with pytest.raises(OutboxDamagedError, match="see whether the disk fails"):
        damage_it_twice()
    assert len(scene.aside) == 1
