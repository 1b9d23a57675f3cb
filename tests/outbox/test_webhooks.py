"""Webhooks are on the disk itself before they are answered, and are held whole."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - traces SQLite's statements, and changes rows
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from bridge.errors import OutboxDamagedError
from bridge.outbox import Outbox
from bridge.outbox.values import Held
from tests.outbox.making import answer, append, delivery, event, opened, source_of


def _held(outbox: Outbox) -> list[Held]:
    asked = outbox.held(99)
    outbox.commit()
    return asked.result(0)


# -- The power -------------------------------------------------------------------------


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Get the statements of every connection to SQLite that is opened from now on."""
    statements: list[str] = []
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def listen(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", listen)
    return statements


def _is_synced(statements: list[str], write: str) -> list[bool]:
    """Return of each transaction with such a statement whether its commit is synced."""
    level, synced, writes = "", [], False
    begun = level
    for statement in statements:
        if statement.startswith("PRAGMA synchronous = "):
            level = statement.removeprefix("PRAGMA synchronous = ")
        elif statement.startswith("BEGIN"):
            begun, writes = level, False
        elif statement.startswith(write):
            writes = True
        elif statement == "COMMIT" and writes:
            # Within a transaction SQLite refuses another level.
            assert level == begun
            synced.append(level == "FULL")
    return synced


def test_the_commit_of_a_webhook_is_synced_and_no_other_is(
    tmp_path: Path, statements: list[str]
) -> None:
    """It costs what waiting for the disk costs, so events alone don't wait for it."""
    with opened(tmp_path) as outbox:
        for number in range(3):
            append(outbox, [event(f"{number}")])
            taken = outbox.take(delivery(f"{number}", "a"))
            outbox.commit()
            assert taken.result(0)
    assert _is_synced(statements, "INSERT INTO held") == [True] * 3
    assert _is_synced(statements, "INSERT INTO rows") == [False] * 3


def test_the_commit_of_what_heals_is_synced(
    tmp_path: Path, statements: list[str]
) -> None:
    """It is on disk before Kafka has it: no loss of power has it healed once more."""
    with opened(tmp_path) as outbox:
        append(outbox, [event("a")])
        outbox.take(delivery("d", "b"))
        (held,) = _held(outbox)
        job = outbox.jobs.find(source_of(7), "a")
        assert job is not None
        healed = outbox.heal(answer(job))
        outbox.commit()
        append(outbox, [event("c")])
        released = outbox.release(held.place, ())
        outbox.commit()
        assert healed.result(0)
        assert released.result(0)
    synced = _is_synced(statements, "INSERT INTO rows")
    assert synced == [False, True, False, True]


def test_a_new_partition_is_synced(tmp_path: Path, statements: list[str]) -> None:
    """One that a power loss takes would begin again at 1, beside what its log has."""
    with opened(tmp_path):
        pass
    assert set(_is_synced(statements, "INSERT INTO partitions")) == {True}


# -- What is held ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "due_us = 8",
        "due_us = 'x'",
        "ended_us = 7",
        "record = CAST(record || x'00' AS BLOB)",
        "record = 5",
        "checksum = checksum + 1",
        "checksum = 'x'",
    ],
)
def test_what_has_changed_is_damage(tmp_path: Path, change: str) -> None:
    """A disk that changes a byte in silence changes no record."""
    with opened(tmp_path) as outbox:
        outbox.take(delivery("d", "a"))
        (held,) = _held(outbox)
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite3")) as file:
        file.execute(f"UPDATE held SET {change}")  # noqa: S608 - written above
        file.commit()
    with opened(tmp_path) as outbox:
        for ask in (outbox.held, lambda _: outbox.release(held.place, ())):
            ask(9)
            with pytest.raises(OutboxDamagedError, match="has changed"):
                outbox.commit()


def test_no_place_is_given_twice(tmp_path: Path) -> None:
    """Not when the clock stops or is set back, nor after one was released."""
    places: list[int] = []
    with opened(tmp_path) as outbox, patch("time.time_ns", return_value=1000):
        for name in "abc":
            outbox.take(delivery(name, name))
            (held,) = _held(outbox)
            places.append(held.place)
            outbox.release(held.place, ())
    assert places == sorted(set(places))


def test_what_is_forgotten_is_what_is_too_much(tmp_path: Path) -> None:
    """The latest ones are known, as many as are kept; what is held stays."""
    with opened(tmp_path, deliveries=3) as outbox:
        for number in range(10):
            outbox.take(delivery(f"{number}", f"{number}"))
        outbox.commit()
    with opened(tmp_path, deliveries=3) as outbox:
        outbox.commit()
        again = [outbox.take(delivery(f"{n}", "a")) for n in (9, 8, 7, 6, 0)]
        outbox.commit()
        assert [one.result(0) for one in again] == [False] * 3 + [True] * 2
        assert len(_held(outbox)) == 12


def test_accounts_have_deliveries_of_their_own(tmp_path: Path) -> None:
    """By id and account, which can't be taken for one another."""
    with opened(tmp_path) as outbox:
        taken = [
            outbox.take(delivery(name, "a", account=account))
            for name, account in (
                ("1", 7),
                ("1", 8),
                ("1", 7),
                ("11", 7),
                ("\ud800", 7),
            )
        ]
        outbox.commit()
        assert [one.result(0) for one in taken] == [True, True, False, True, True]
