"""What may succeed later is told apart from what never will, by SQLite's codes."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - its codes are what is translated
from pathlib import Path

import pytest
from bridge.outbox.disk.failures import translated

from bridge.errors import OutboxDamagedError, OutboxError, OutboxFullError


_PATH = Path("/somewhere/outbox.sqlite3")


def _error(code: int | None, kind: type[sqlite3.Error]) -> sqlite3.Error:
    error = kind("what SQLite says")
    if code is not None:
        error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "name",
    [
        "SQLITE_FULL",
        "SQLITE_IOERR_WRITE",
        "SQLITE_IOERR_FSYNC",
        "SQLITE_IOERR_READ",
        "SQLITE_IOERR_NOMEM",
        "SQLITE_IOERR_LOCK",
        "SQLITE_READONLY",
        "SQLITE_CANTOPEN",
        "SQLITE_BUSY_RECOVERY",
        "SQLITE_LOCKED",
        "SQLITE_PROTOCOL",
        "SQLITE_NOMEM",
    ],
)
def test_what_may_go_away_is_waited_out(name: str) -> None:
    """No room, no lock, no memory, a disk that is away: the file is as it was."""
    error = translated(_error(getattr(sqlite3, name), sqlite3.OperationalError), _PATH)
    assert type(error) is OutboxFullError
    assert str(error) == "what SQLite says"


@pytest.mark.parametrize(
    "name",
    [
        "SQLITE_CORRUPT",
        "SQLITE_CORRUPT_VTAB",
        "SQLITE_CORRUPT_INDEX",
        "SQLITE_NOTADB",
        "SQLITE_IOERR_SHORT_READ",
        "SQLITE_IOERR_CORRUPTFS",
        "SQLITE_IOERR_DATA",
        "SQLITE_READONLY_DBMOVED",
        "SQLITE_CONSTRAINT_PRIMARYKEY",
        "SQLITE_ERROR",
        "SQLITE_MISMATCH",
    ],
)
def test_what_stays_is_damage(name: str) -> None:
    """A file that isn't what was written is set aside."""
    error = translated(_error(getattr(sqlite3, name), sqlite3.DatabaseError), _PATH)
    assert type(error) is OutboxDamagedError
    assert str(_PATH) in str(error)


def test_an_error_of_the_module_is_damage_or_a_mistake() -> None:
    """Bytes that are no text are damage; a call that makes no sense isn't."""
    damage = _error(None, sqlite3.OperationalError)
    assert type(translated(damage, _PATH)) is OutboxDamagedError
    mistake = _error(None, sqlite3.ProgrammingError)
    assert type(translated(mistake, _PATH)) is OutboxError
