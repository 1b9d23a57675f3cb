"""A damaged file is set aside, read as far as it goes, and another one goes on."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.errors import OutboxDamagedError, OutboxFormatError
from bridge.outbox import Outbox, OutboxDirectory, succession
from bridge.record import Loss, Memory, StoredRecord
from bridge.settings import OutboxSettings
from tests.outbox.making import (
    MIB,
    eventually,
    fresh,
    number_of,
    numbered,
    record,
    spread,
    stored,
    threaded,
)


_COUNT = 2000
_PAGE_BYTES = 8192


class _Scene:
    """An outbox that runs, with what it told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses: list[Loss] = []
        self.replaced = 0

    @property
    def database(self) -> Path:
        return self.path / "outbox.sqlite3"

    @property
    def aside(self) -> list[Path]:
        """What was set aside, without its log."""
        found = self.path.glob("outbox.sqlite3.damaged-*")
        return sorted(file for file in found if file.name.endswith("Z"))

    @contextmanager
    def running(self) -> Iterator[Outbox]:
        with OutboxDirectory(self.path) as directory:
            outbox = Outbox(
                directory, OutboxSettings(dir=self.path), on_loss=self.losses.append
            )
            outbox.subscribe(lambda _: None, lambda _: None, self._note_replaced)
            with threaded(outbox):
                yield outbox

    def _note_replaced(self) -> None:
        self.replaced += 1

    def fill(self, acknowledged: int = 0) -> dict[int, str]:
        """Write rows of which Kafka has the first; give the `ce_id`s of all."""
        with self.running() as outbox:
            _open(outbox)
            outbox.offer(numbered(0, _COUNT, size=400))
            eventually(lambda: outbox.drained)
            rows = _read_all(outbox)
            if acknowledged:
                outbox.acknowledge("jobs", 0, 1, acknowledged, 0, 1)
        return {number_of(row): row.ce_id for row in rows}

    def check_losses(self, since_us: int | None, *, until: bool = True) -> None:
        """One loss, told at its begin and at its end."""
        begin, end = self.losses
        assert begin.cause == end.cause == "outbox_damaged"
        assert begin.number == end.number
        assert begin.since_us == end.since_us == since_us
        assert begin.until_us is None
        assert (end.until_us is not None) is until


@pytest.fixture
def scene(tmp_path: Path) -> _Scene:
    """A directory for an outbox."""
    return _Scene(tmp_path)


def _open(outbox: Outbox) -> None:
    outbox.open_topic("jobs", spread(1), fresh(1), None).result(10)


def _read_all(outbox: Outbox) -> list[StoredRecord]:
    rows: list[StoredRecord] = []
    while True:
        after = rows[-1].sequence if rows else 0
        more = outbox.read("jobs", 0, after, 1000, MIB).result(10)
        if not more:
            return rows
        rows += more


def _read_until_replaced(scene: _Scene, outbox: Outbox, times: int = 1) -> None:
    """Do what the relay does, until the damage is found."""
    after = 0
    while scene.replaced < times:
        read = outbox.read("jobs", 0, after, 10, 10 * MIB)
        eventually(read.done)
        if read.cancelled():
            return
        rows = [] if read.exception() else read.result()
        after = rows[-1].sequence if rows else 0


def _numbers(rows: list[StoredRecord]) -> list[int]:
    return [number_of(row) for row in rows]


def _named(lines: list[Any], event: str) -> list[Any]:
    return [line for line in lines if line["event"] == event]


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // _PAGE_BYTES * _PAGE_BYTES)


def _overwrite_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(random.Random(1).randbytes(100))


def _overwrite_page(path: Path) -> None:
    """Random bytes in the middle, where rows lie."""
    pages = path.stat().st_size // _PAGE_BYTES
    with path.open("r+b") as file:
        file.seek(pages // 2 * _PAGE_BYTES)
        file.write(random.Random(1).randbytes(_PAGE_BYTES))


# -- At the start ------------------------------------------------------------------


def test_a_file_cut_in_half_is_read_as_far_as_it_goes(scene: _Scene) -> None:
    """Rows before the cut go out again with their identity, before newer ones."""
    ce_ids = scene.fill(acknowledged=100)
    _halve(scene.database)
    damaged = scene.database.read_bytes()
    with capture_logs() as lines, scene.running() as outbox:
        outbox.offer(numbered(_COUNT, 10))
        _open(outbox)
        eventually(lambda: outbox.statistics.rows > 10 and outbox.drained)
        rows = _read_all(outbox)
        statistics = outbox.statistics
    numbers = _numbers(rows)
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 100
    assert numbers[-10:] == list(range(_COUNT, _COUNT + 10))
    # About a half of them.
    assert _COUNT // 4 < len(numbers) - 10 < _COUNT * 3 // 4
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    assert all(row.ce_id == ce_ids[number_of(row)] for row in rows[:-10])
    assert len({row.ce_id for row in rows}) == len(rows)
    (aside,) = scene.aside
    assert aside.read_bytes() == damaged
    (told,) = _named(lines, "outbox.damaged")
    assert told["set_aside"] == str(aside)
    assert told["log_level"] == "error"
    (salvaged,) = _named(lines, "outbox.salvaged")
    assert salvaged["records"] == len(rows) - 10
    assert statistics.lost_rows == salvaged["given_up"]
    scene.check_losses(since_us=None)
    assert scene.losses[1].records == statistics.lost_rows
    # Nothing more is made of it at the next start.
    with capture_logs() as lines, scene.running() as outbox:
        assert outbox.statistics.rows == len(rows)
    assert _named(lines, "outbox.salvaged") == []


def test_rows_behind_a_damaged_page_are_read_too(scene: _Scene) -> None:
    """A page that is overwritten takes the rows on it, and no other."""
    ce_ids = scene.fill()
    _overwrite_page(scene.database)
    with capture_logs() as lines, scene.running() as outbox:
        # A page is looked at when its rows are wanted.
        _open(outbox)
        _read_until_replaced(scene, outbox)
        _open(outbox)
        rows = _read_all(outbox)
        lost = outbox.statistics.lost_rows
    numbers = _numbers(rows)
    assert numbers == sorted(set(numbers))
    missing = sorted(set(range(_COUNT)) - set(numbers))
    # A page of 8 KiB has less than 20 rows of 400 bytes.
    assert 10 <= len(missing) <= 20
    assert missing == list(range(missing[0], missing[-1] + 1))
    assert lost == len(missing)
    assert numbers[-1] == _COUNT - 1
    assert all(row.ce_id == ce_ids[number_of(row)] for row in rows)
    (salvaged,) = _named(lines, "outbox.salvaged")
    assert salvaged["stopped_by"] is None


def test_a_file_without_a_header_is_set_aside(scene: _Scene) -> None:
    """What SQLite can't read at all is kept as well, and the start goes on."""
    scene.fill()
    _overwrite_header(scene.database)
    damaged = scene.database.read_bytes()
    with capture_logs() as lines, scene.running() as outbox:
        outbox.offer(numbered(0, 5))
        _open(outbox)
        eventually(lambda: outbox.drained)
        assert _numbers(_read_all(outbox)) == list(range(5))
    (aside,) = scene.aside
    assert aside.read_bytes() == damaged
    (salvaged,) = _named(lines, "outbox.salvaged")
    assert (salvaged["records"], salvaged["stopped_by"]) == (
        0,
        "file is not a database",
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_log_that_was_cut_loses_its_end_alone(scene: _Scene, share: float) -> None:
    """SQLite's log is taken up to the last commit that is whole in it."""
    log = scene.database.with_name("outbox.sqlite3-wal")
    with scene.running() as outbox:
        _open(outbox)
        for first in range(0, 400, 10):
            outbox.offer(numbered(first, 10, size=400))
            eventually(lambda: outbox.drained)
        copies = {path: path.read_bytes() for path in (scene.database, log)}
    assert len(copies[log]) > 100_000
    for path, content in copies.items():
        path.write_bytes(content)
    os.truncate(log, int(len(copies[log]) * share))
    with scene.running() as outbox:
        _open(outbox)
        numbers = _numbers(_read_all(outbox))
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) < 400
    assert scene.aside == []


def test_a_foreign_file_is_left_alone(scene: _Scene) -> None:
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


@pytest.mark.parametrize("harm", [_halve, _overwrite_page])
def test_a_file_damaged_while_running_is_replaced(
    scene: _Scene, harm: Callable[[Path], None]
) -> None:
    """What was in memory is written to the new file; the relay is told; it goes on."""
    scene.fill()
    with capture_logs() as lines, scene.running() as outbox:
        before = outbox.id
        harm(scene.database)
        outbox.offer(numbered(_COUNT, 10, size=400))
        number = _COUNT + 10
        # Unless it is told that the file is gone.
        with suppress(CancelledError):
            _open(outbox)
        _read_until_replaced(scene, outbox)
        assert outbox.id != before
        _open(outbox)
        eventually(lambda: outbox.drained)
        rows = _read_all(outbox)
        statistics = outbox.statistics
    numbers = _numbers(rows)
    assert numbers == sorted(set(numbers))
    # The last ones came with the damage, and are there.
    assert numbers[-1] == number - 1
    assert numbers[0] == 0
    assert statistics.accepted == statistics.committed
    assert sum(statistics.dropped.values()) == 0
    assert len(scene.aside) == len(_named(lines, "outbox.damaged")) == 1
    # Of the oldest row that waited.
    scene.check_losses(since_us=1)
    assert statistics.last_beat == 0


def _write_more_than_is_cached(outbox: Outbox) -> int:
    """SQLite keeps 2 MB of pages in memory: there no damage is seen."""
    for first in range(0, 400, 20):
        outbox.offer(numbered(first, 20, size=20_000))
        eventually(lambda: outbox.drained)
    return 400


def test_a_log_cut_while_running_is_noticed(scene: _Scene) -> None:
    """Pages that were in the log alone are gone; what is left goes on."""
    log = scene.database.with_name("outbox.sqlite3-wal")
    with scene.running() as outbox:
        _open(outbox)
        number = _write_more_than_is_cached(outbox)
        os.truncate(log, log.stat().st_size // 2)
        outbox.offer(numbered(number, 10))
        _read_until_replaced(scene, outbox)
        _open(outbox)
        eventually(lambda: outbox.drained)
        numbers = _numbers(_read_all(outbox))
    assert numbers == sorted(set(numbers))
    assert numbers[:100] == list(range(100))
    (aside,) = scene.aside
    assert aside.with_name(f"{aside.name}-wal").exists()


def test_damage_upon_damage_ends_the_process(
    scene: _Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that damages one file after the other is not written to for ever."""

    def damage_it_twice() -> None:
        log = scene.database.with_name("outbox.sqlite3-wal")
        with scene.running() as outbox:
            for times in (1, 2):
                _open(outbox)
                _write_more_than_is_cached(outbox)
                os.truncate(log, log.stat().st_size // 2)
                _read_until_replaced(scene, outbox, times)

    with pytest.raises(OutboxDamagedError, match="see whether the disk fails"):
        damage_it_twice()
    assert len(scene.aside) == 1
    # Later it is another accident.
    monkeypatch.setattr(succession, "_DYING_SECONDS", 0.0)
    with scene.running() as outbox:
        _open(outbox)


# -- Somebody dies meanwhile -------------------------------------------------------


@pytest.mark.parametrize("moved", ["", "-wal"])
def test_a_move_that_was_begun_is_finished(scene: _Scene, moved: str) -> None:
    """A process that died while it set the file aside leaves it to the next one."""
    scene.fill()
    name = "outbox.sqlite3.damaged-20260101T000000Z"
    (scene.path / f"{name}.to-salvage").touch()
    if moved:
        scene.database.with_name("outbox.sqlite3-wal").touch()
        scene.database.with_name("outbox.sqlite3-wal").rename(
            scene.path / f"{name}-wal"
        )
    else:
        scene.database.rename(scene.path / name)
    with scene.running() as outbox:
        _open(outbox)
        eventually(lambda: outbox.statistics.rows == _COUNT)
        assert _numbers(_read_all(outbox)) == list(range(_COUNT))
    assert (scene.path / name).exists()
    assert not (scene.path / f"{name}.to-salvage").exists()


def test_a_salvage_that_was_begun_is_finished(
    scene: _Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were brought over before the process died don't come twice."""
    scene.fill()
    scene.database.rename(scene.path / "outbox.sqlite3.damaged-20260101T000000Z")
    (scene.path / "outbox.sqlite3.damaged-20260101T000000Z.to-salvage").touch()
    beats = 0

    def die(_: object) -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bridge.outbox.writer.Writer._beat", die)
        with pytest.raises(KeyboardInterrupt), scene.running():
            pass
    with scene.running() as outbox:
        assert outbox.statistics.rows_at_start == 1000
        _open(outbox)
        eventually(lambda: outbox.statistics.rows == _COUNT)
        assert _numbers(_read_all(outbox)) == list(range(_COUNT))


@pytest.mark.parametrize("harm", [_halve, _overwrite_header])
def test_what_a_salvage_doesn_t_find_is_a_loss_whoever_found_the_damage(
    scene: _Scene, harm: Callable[[Path], None]
) -> None:
    """The process that set the file aside was killed before it told anybody."""
    scene.fill()
    harm(scene.database)
    scene.database.rename(scene.path / "outbox.sqlite3.damaged-20260101T000000Z")
    (scene.path / "outbox.sqlite3.damaged-20260101T000000Z.to-salvage").touch()
    with scene.running() as outbox:
        _open(outbox)
    scene.check_losses(since_us=None)
    assert scene.losses[1].records == outbox.statistics.lost_rows


def test_a_gap_of_damage_is_on_disk_before_the_salvage(
    scene: _Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That may take minutes: killed meanwhile, the next process knows of it."""
    scene.fill()
    _halve(scene.database)

    def die(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bridge.outbox.writer.Writer._beat", die)
    with OutboxDirectory(scene.path) as directory:
        outbox = Outbox(directory, OutboxSettings(dir=scene.path))
        outbox.keep(record("7", b"gap", topic="jobs.gaps"), opens="1")
        with pytest.raises(KeyboardInterrupt), threaded(outbox):
            pass
    with stored(scene.database) as store:
        assert store.remembered.memory() == Memory({}, False, (b"gap",))
        assert store.waiting_topics() == {"jobs.gaps"}
    assert outbox.statistics.kept == 1
