"""A damaged file leaves webhooks, what was healed and what was asked to the next."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - harms the file
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from bridge.outbox.tallies import Tally
from msgspec import structs
from structlog.testing import capture_logs

from bridge.outbox import Outbox
from bridge.outbox.values import Held
from tests.outbox.adding import WEBHOOKS, adds_up
from tests.outbox.harming import Scene, halve, named, overwrite_page
from tests.outbox.healing import delivery
from tests.outbox.making import eventually


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
