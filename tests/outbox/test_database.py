"""What may be opened as an outbox, and what is said of all the rest."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - looks into the file
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import (
    ExitCode,
    OutboxDamagedError,
    OutboxDirectoryError,
    OutboxError,
    OutboxFormatError,
    OutboxFullError,
)
from bridge.outbox.database import FORMAT_VERSION, Database, translated, wal_bytes
from tests.outbox.making import PLENTY_BYTES, append, numbered, opened, read_all


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file is."""
    return tmp_path / "outbox.sqlite3"


def _alter(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_it_survives_the_death_of_the_process(path: Path) -> None:
    """WAL with NORMAL, emptied when it has half of its share of the size."""
    with closing(Database(path, PLENTY_BYTES).connection) as connection:
        values = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "page_size")
        }
        (pages,) = connection.execute("PRAGMA wal_autocheckpoint").fetchone()
    assert values == {"journal_mode": "wal", "synchronous": 1, "page_size": 8192}
    assert pages * 8192 == wal_bytes(PLENTY_BYTES) // 2


def test_a_newer_format_is_refused(path: Path) -> None:
    """After a rollback of the bridge, the file is left alone and it is said so."""
    with opened(path.parent):
        pass
    _alter(path, f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    before = path.read_bytes()
    with (
        pytest.raises(OutboxFormatError, match=f"has format {FORMAT_VERSION + 1}, th"),
        opened(path.parent),
    ):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, FORMAT_VERSION, 99])
def test_a_foreign_database_is_refused(path: Path, version: int) -> None:
    """Another program's database is not touched, whatever version it calls itself."""
    _alter(path, "CREATE TABLE theirs (x)", f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with (
        pytest.raises(OutboxFormatError, match="is a database, but no outbox"),
        opened(path.parent),
    ):
        pass
    assert path.read_bytes() == before


def test_a_directory_in_its_place_is_refused(path: Path) -> None:
    """What can't be opened at all is the directory's fault."""
    path.mkdir()
    with pytest.raises(OutboxDirectoryError, match="can't be opened") as caught:
        Database(path, PLENTY_BYTES)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    "change",
    [
        "value = x'00'",
        "value = 'a text'",
        "key = x'00'",
        "key = NULL",
        "extra = x'00'",
        "envelope = 99",
        "checksum = checksum + 1",
    ],
)
def test_a_changed_row_is_damage(path: Path, change: str) -> None:
    """It is named, and rows before it can still be read."""
    with opened(path.parent) as outbox:
        append(outbox, numbered(0, 5))
    _alter(path, f"UPDATE rows SET {change} WHERE position & 15 = 3")  # noqa: S608
    with opened(path.parent) as outbox:
        assert len(outbox.read("jobs", 0, 0, 2, 99)) == 2
        with pytest.raises(OutboxDamagedError):
            outbox.read("jobs", 0, 0, 9, 10**6)


def test_a_single_byte_is_enough(path: Path) -> None:
    """One bit of one value, changed behind SQLite's back, is noticed."""
    with opened(path.parent) as outbox:
        append(outbox, numbered(0, 1, size=60))
    whole = path.read_bytes()
    assert whole.count(b"0:" + 58 * b"x") == 1
    path.write_bytes(whole.replace(b"xxxx" * 2, b"xxxy" + b"xxxx", 1))
    with pytest.raises(OutboxDamagedError, match="changed"), opened(path.parent) as it:
        read_all(it)


# -- Errors --------------------------------------------------------------------------


def _error(code: int | None, kind: type[sqlite3.Error]) -> sqlite3.Error:
    error = kind("what SQLite says")
    if code is not None:
        error.sqlite_errorcode = code
    return error


# No room, no lock, no memory, a disk that is away: the file is as it was. What isn't as
# it was written is replaced by the next start.
_KINDS: dict[type[OutboxError], tuple[str, ...]] = {
    OutboxFullError: (
        *("FULL", "IOERR_WRITE", "IOERR_FSYNC", "IOERR_NOMEM", "READONLY", "CANTOPEN"),
        *("BUSY_RECOVERY", "LOCKED", "PROTOCOL", "NOMEM"),
    ),
    OutboxDamagedError: (
        *("CORRUPT", "CORRUPT_INDEX", "NOTADB", "IOERR_SHORT_READ", "IOERR_CORRUPTFS"),
        *("IOERR_DATA", "READONLY_DBMOVED", "CONSTRAINT_PRIMARYKEY", "ERROR"),
    ),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in _KINDS.items() for name in names]
)
@pytest.mark.parametrize("of", [sqlite3.OperationalError, sqlite3.DatabaseError])
def test_what_may_go_away_is_waited_for_and_what_stays_is_damage(
    kind: type[OutboxError], name: str, of: type[sqlite3.Error]
) -> None:
    """SQLite's code decides, whatever class its module gives the error."""
    error = _error(getattr(sqlite3, f"SQLITE_{name}"), of)
    assert type(translated(error, Path("f"))) is kind


def test_an_error_of_the_module_is_damage_or_a_mistake() -> None:
    """Bytes that aren't text are damage; a call that makes no sense isn't."""
    damage = _error(None, sqlite3.OperationalError)
    assert type(translated(damage, Path("f"))) is OutboxDamagedError
    mistake = _error(None, sqlite3.ProgrammingError)
    assert type(translated(mistake, Path("f"))) is OutboxError
