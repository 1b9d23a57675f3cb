"""Which webhooks were taken is remembered within bounds."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - looks into the file
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bridge.outbox.disk.schema import open_database
from bridge.outbox.webhooks.deliveries import (
    Deliveries,
    KeptDeliveries,
)

from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.webhooks import deliveries as module
from bridge.settings import OutboxSettings, WebhookSettings
from tests.outbox.healing import delivery
from tests.outbox.making import PLENTY_BYTES, eventually, threaded


_US = 1_000_000
_NOW_US = 1_780_000_000 * _US

_HOUR = KeptDeliveries(3600.0, 1000)


class _Clock:
    """Both clocks, as `Deliveries` reads them."""

    def __init__(self) -> None:
        self.now_us = _NOW_US
        self._up_seconds = 0.0

    def pass_by(self, seconds: int) -> None:
        self.now_us += seconds * _US
        self._up_seconds += seconds

    def time_ns(self) -> int:
        return self.now_us * 1000

    def monotonic(self) -> float:
        return self._up_seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    """A clock that goes when it is told to."""
    clock = _Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A file without webhooks."""
    with closing(open_database(tmp_path / "x", max_bytes=PLENTY_BYTES)) as connection:
        yield connection


def _known(connection: sqlite3.Connection) -> list[int]:
    return [
        number
        for (number,) in connection.execute("SELECT id FROM deliveries ORDER BY id")
    ]


def _note(deliveries: Deliveries, *names: object) -> list[bool]:
    return [deliveries.note("7", f"{name}") for name in names]


def test_each_is_noted_once(connection: sqlite3.Connection) -> None:
    """By id and account, which can't be taken for one another."""
    deliveries = Deliveries(connection)
    assert _note(deliveries, "a", "b", "a") == [True, True, False]
    assert deliveries.note("7a", "")
    assert deliveries.note("", "7a")
    assert _known(connection) == [1, 2, 3, 4]


def test_old_ones_are_forgotten(connection: sqlite3.Connection, clock: _Clock) -> None:
    """Not before their time; one that is forgotten is new once more."""
    deliveries = Deliveries(connection)
    _note(deliveries, "a", "b")
    clock.pass_by(1800)
    _note(deliveries, "c")
    clock.pass_by(1800)
    deliveries.forget(_HOUR)
    assert _known(connection) == [1, 2, 3]
    clock.pass_by(2)
    deliveries.forget(_HOUR)
    assert _known(connection) == [3]
    assert _note(deliveries, "a", "c") == [True, False]
    clock.pass_by(3601)
    deliveries.forget(_HOUR)
    assert _known(connection) == []
    deliveries.forget(_HOUR)
    assert _note(deliveries, "a") == [True]


def test_too_many_are_forgotten_the_oldest_first(
    connection: sqlite3.Connection, clock: _Clock
) -> None:
    """The latest ones stay, as many as the setting says."""
    deliveries = Deliveries(connection)
    _note(deliveries, *range(30))
    deliveries.forget(KeptDeliveries(3600.0, 30))
    assert len(_known(connection)) == 30
    clock.pass_by(2)
    deliveries.forget(KeptDeliveries(3600.0, 10))
    assert _known(connection) == list(range(21, 31))
    assert _note(deliveries, 20, 19) == [False, True]


def test_a_running_outbox_forgets_them(tmp_path: Path) -> None:
    """Without being asked, while nothing else happens."""
    with OutboxDirectory(tmp_path) as directory:
        webhook = WebhookSettings(max_deliveries=3)
        outbox = Outbox(directory, OutboxSettings(dir=tmp_path), webhook=webhook)
        with threaded(outbox):
            taken = [outbox.take(delivery(f"{n}", f"{n}")) for n in range(10)]
            assert all(future.result(10) for future in taken)
            path = tmp_path / "outbox.sqlite3"
            with closing(sqlite3.connect(path)) as connection:
                eventually(lambda: _known(connection) == [8, 9, 10])
            assert len(outbox.held(99).result(10)) == 10
