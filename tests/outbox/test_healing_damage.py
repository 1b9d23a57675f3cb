"""A damaged file leaves webhooks, what was healed and what was asked to the next."""

from __future__ import annotations

import os
import sqlite3  # noqa: TID251 - harms the file
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.tallies import Tally
from bridge.record import Held, LeftGap, Spent
from bridge.settings import OutboxSettings
from tests.outbox.adding import WEBHOOKS, adds_up
from tests.outbox.harming import Scene, halve, named, overwrite_page
from tests.outbox.healing import answer, delivery
from tests.outbox.leaving import FOR_EVER, found, gap_value
from tests.outbox.making import event, eventually, record, source_of, threaded


_COUNT = 300


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A directory for an outbox."""
    return Scene(tmp_path)


def _take(outbox: Outbox, count: int = _COUNT) -> list[Held]:
    taken = []
    for number in range(count):
        one = delivery(f"{number}", f"{number}", due_us=number)
        # So that most of the file are webhooks.
        large = structs.replace(one.record, value=one.record.value.ljust(2000))
        taken.append(outbox.take(structs.replace(one, record=large)))
    assert all(future.result(10) for future in taken)
    return outbox.held(count).result(10)


def _alter(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(statement, values)


def _lose(path: Path, name: str) -> None:
    """Have a table or an index point to where nothing is."""
    _alter(path, "UPDATE sqlite_schema SET rootpage = 99999 WHERE name = ?", name)


def _ask_until_replaced(scene: Scene, outbox: Outbox) -> None:
    while not scene.replaced:
        future = outbox.held(_COUNT)
        eventually(future.done)
    scene.subscribe(outbox)


def test_webhooks_are_held_on_in_the_new_file(scene: Scene) -> None:
    """But for the one that has changed; what was asked before is for them still."""
    with capture_logs() as lines, scene.running() as outbox:
        held = _take(outbox)
        changed = held[7].place
        _alter(scene.database, "UPDATE held SET due_us = 9 WHERE place = ?", changed)
        _ask_until_replaced(scene, outbox)
        left = outbox.held(_COUNT).result(10)
        assert left == [one for one in held if one.place != changed]
        assert outbox.statistics.held == _COUNT - 1
        assert outbox.statistics.lost_rows == 1
        # Its delivery is known all the same.
        assert not outbox.take(delivery("7", "7")).result(10)
        assert outbox.take(delivery("new", "new", due_us=-1)).result(10)
        (new,) = outbox.held(1).result(10)
        assert new.place > held[-1].place
        assert not outbox.release(changed, ()).result(10)
        assert outbox.release(left[0].place, ()).result(10)
        assert adds_up(outbox.statistics.tallies)[WEBHOOKS] == Tally(
            committed=_COUNT + 2, superseded=1, lost=1, waiting=_COUNT
        )
    (salvaged,) = named(lines, "outbox.salvaged")
    assert (salvaged["records"], salvaged["given_up"]) == (_COUNT - 1, 1)
    assert salvaged["stopped_by"] is None


def test_what_finds_the_damage_is_done_in_the_new_file(tmp_path: Path) -> None:
    """With all that was asked beside it: nothing has to be asked for twice."""
    with threaded(outbox := _standing(tmp_path)):
        replaced: list[bool] = []
        outbox.subscribe(lambda _: None, lambda _: None, lambda: replaced.append(True))
        held = _take(outbox, 3)
        outbox.offer([event("job")])
        eventually(lambda: outbox.drained)
        job = outbox.jobs.find(source_of(7), "job")
        assert job is not None
        changed = "UPDATE held SET record = x'00' WHERE place = ?"
        _alter(tmp_path / "outbox.sqlite3", changed, held[0].place)
        asked = [
            outbox.take(delivery("new", "new", due_us=99)),
            outbox.take(delivery("1", "1")),
            outbox.release(held[0].place, ()),
            outbox.release(held[1].place, ()),
            outbox.heal(answer(job)),
        ]
        done = [future.result(10) for future in asked]
        assert replaced
        # The one that found it can't be read.
        assert done == [True, False, False, True, True]
        left = [one.record.key for one in outbox.held(9).result(10)]
        assert left == [b"2", b"new"]
        eventually(lambda: outbox.statistics.rows == 3)


@pytest.mark.parametrize(
    ("harm", "least", "most"),
    [
        (halve, _COUNT // 4, _COUNT * 3 // 4),
        (overwrite_page, _COUNT - 4, _COUNT - 1),
        # One way to them, and the other one.
        (lambda path: _lose(path, "held_by_due"), _COUNT, _COUNT),
        (lambda path: _lose(path, "held"), 0, 0),
    ],
)
def test_what_can_be_read_of_webhooks_is_brought_over(
    scene: Scene, harm: Callable[[Path], None], least: int, most: int
) -> None:
    """None of them twice, none changed, and the outbox goes on."""
    with scene.running() as outbox:
        held = _take(outbox)
    scene.database.rename(scene.path / "outbox.sqlite3.damaged-20260101T000000Z")
    (scene.path / "outbox.sqlite3.damaged-20260101T000000Z.to-salvage").touch()
    harm(scene.path / "outbox.sqlite3.damaged-20260101T000000Z")
    with scene.running() as outbox:
        left = outbox.held(_COUNT).result(10)
        assert left == [one for one in held if one in left]
        assert len(left) == outbox.statistics.held
        assert least <= len(left) <= most
        assert outbox.take(delivery("new", "new")).result(10)
        tallies = adds_up(outbox.statistics.tallies)[WEBHOOKS]
        assert tallies.found == len(left)


def test_a_salvage_of_webhooks_that_was_begun_is_finished(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was brought over before the process died doesn't come twice."""
    monkeypatch.setattr("bridge.outbox.webhooks.salvaging._HELD_A_STEP", 100)
    monkeypatch.setattr("bridge.outbox.webhooks.salvaging._DELIVERIES_A_STEP", 100)
    with scene.running() as outbox:
        held = _take(outbox)
    scene.database.rename(scene.path / "outbox.sqlite3.damaged-20260101T000000Z")
    (scene.path / "outbox.sqlite3.damaged-20260101T000000Z.to-salvage").touch()
    for step in (2, 3, 5, 6):
        beats = 0

        def die(_: object, step: int = step) -> None:
            nonlocal beats
            beats += 1
            if beats == step:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("bridge.outbox.writer.Writer._beat", die)
            with pytest.raises(KeyboardInterrupt), scene.running():
                pass
    with scene.running() as outbox:
        assert outbox.held(_COUNT + 1).result(10) == held
        taken = [outbox.take(delivery(f"{n}", f"{n}")) for n in range(_COUNT)]
        assert not any(future.result(10) for future in taken)


@pytest.mark.parametrize(
    ("fitting", "left", "reason"),
    [
        (0, 0, f"the new file takes no more: outbox.max_bytes is {8 * 1024**3}"),
        # Deliveries are no loss.
        (1, 5, None),
    ],
)
def test_a_new_file_that_is_full_takes_what_it_can(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    fitting: int,
    left: int,
    reason: str | None,
) -> None:
    """First what is held, of which nobody will hear again."""
    with scene.running() as outbox:
        _take(outbox, 5)
    scene.database.rename(scene.path / "outbox.sqlite3.damaged-20260101T000000Z")
    (scene.path / "outbox.sqlite3.damaged-20260101T000000Z.to-salvage").touch()
    asked = 0

    def take(_: object, weight: int) -> bool:
        nonlocal asked
        asked += weight > 0
        return asked <= fitting

    with capture_logs() as lines, monkeypatch.context() as patch:
        patch.setattr("bridge.outbox.room.Room.take", take)
        with scene.running() as outbox:
            assert len(outbox.held(9).result(10)) == left
    (salvaged,) = named(lines, "outbox.salvaged")
    assert (salvaged["records"], salvaged["stopped_by"]) == (left, reason)
    with scene.running() as outbox:
        # It is known no more, and does no harm.
        assert outbox.take(delivery("0", "0")).result(10)


def _heal(outbox: Outbox) -> None:
    outbox.offer([event("a"), event("b")])
    outbox.keep(record("7", gap_value(1), topic="jobs.gaps"), opens="1")
    eventually(lambda: outbox.drained)
    job = outbox.jobs.find(source_of(7), "a")
    assert job is not None
    assert outbox.heal(answer(job, "done", "1")).result(10)
    outbox.spend({source_of(7): Spent(5, 199)})
    eventually(lambda: not outbox._inbox.spending.due())


def _is_remembered(outbox: Outbox) -> bool:
    memory = outbox.memory
    return memory.left_gaps == (LeftGap(gap_value(1), 1),) and memory.spent == {
        source_of(7): Spent(5, 199)
    }


def _standing(path: Path) -> Outbox:
    with OutboxDirectory(path) as directory:
        limits = OutboxSettings(dir=path, keep_jobs_seconds=FOR_EVER)
        return Outbox(directory, limits)


def test_calls_and_what_was_healed_are_remembered(tmp_path: Path) -> None:
    """Of a file that is damaged while it is in use, and of one that was."""
    outbox = _standing(tmp_path)
    with threaded(outbox):
        _heal(outbox)
        replaced: list[bool] = []
        outbox.subscribe(lambda _: None, lambda _: None, lambda: replaced.append(True))
        outbox.take(delivery("1", "1")).result(10)
        _alter(tmp_path / "outbox.sqlite3", "UPDATE held SET record = x'00'")
        outbox.held(1)
        eventually(lambda: bool(replaced))
        memory = found(tmp_path)
        assert memory.left_gaps == (LeftGap(gap_value(1), 1),)
        assert memory.spent == {source_of(7): Spent(5, 199)}
    _lose(tmp_path / "outbox.sqlite3", "quarantine")
    with threaded(outbox := _standing(tmp_path)):
        assert _is_remembered(outbox)


def test_a_damaged_file_of_an_older_format_leaves_what_it_has(scene: Scene) -> None:
    """It knows of no webhooks: nothing is lost with them."""
    with scene.running() as outbox:
        _heal(outbox)
    for by in ("status_endpoint", "webhook"):
        _alter(scene.database, f"ALTER TABLE gaps DROP COLUMN healed_by_{by}")
    for table in ("held", "deliveries", "spent"):
        _alter(scene.database, f"DROP TABLE {table}")
    _alter(scene.database, "PRAGMA user_version = 5")
    scene.database.rename(scene.path / "outbox.sqlite3.damaged-20260101T000000Z")
    (scene.path / "outbox.sqlite3.damaged-20260101T000000Z.to-salvage").touch()
    with capture_logs() as lines, scene.running() as outbox:
        assert outbox.memory.left_gaps == (LeftGap(gap_value(1)),)
        assert outbox.memory.was_stopped
        eventually(lambda: outbox.statistics.rows == 4)
    (salvaged,) = named(lines, "outbox.salvaged")
    assert (salvaged["given_up"], salvaged["stopped_by"]) == (0, None)


def test_random_bytes_leave_nothing(scene: Scene) -> None:
    """The outbox takes webhooks all the same."""
    scene.database.write_bytes(os.urandom(50_000))
    with scene.running() as outbox:
        assert outbox.held(9).result(10) == []
        assert outbox.take(delivery("1", "1")).result(10)
