"""What may be opened as an outbox, and what is said of all the rest."""

from __future__ import annotations

import os
import sqlite3  # noqa: TID251 - looks into the file
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from bridge.outbox.disk.schema import (
    FORMAT_VERSION,
    log_bytes,
    new_incarnation,
    open_database,
    outbox_id,
)

from bridge.errors import (
    ExitCode,
    OutboxDamagedError,
    OutboxDirectoryError,
    OutboxFormatError,
)
from tests.outbox.making import PLENTY_BYTES, append, numbered, stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


@contextmanager
def _opened(path: Path, max_bytes: int = PLENTY_BYTES) -> Iterator[sqlite3.Connection]:
    with closing(open_database(path, max_bytes=max_bytes)) as connection:
        yield connection


def _alter(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_keeps_its_identity(path: Path) -> None:
    """An outbox has one UUID for life; each process has a name of its own."""
    with _opened(path) as connection:
        first = outbox_id(connection)
    with _opened(path) as connection:
        assert outbox_id(connection) == first
    with _opened(path.with_name("other")) as connection:
        assert outbox_id(connection) != first
    assert new_incarnation() != new_incarnation()


def test_survives_the_death_of_the_process(path: Path) -> None:
    """WAL with NORMAL, emptied when it has half of the log's share."""
    with _opened(path) as connection:
        values = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "page_size")
        }
        assert values == {"journal_mode": "wal", "synchronous": 1, "page_size": 8192}
        (pages,) = connection.execute("PRAGMA wal_autocheckpoint").fetchone()
        assert pages * 8192 == log_bytes(PLENTY_BYTES) // 2


@pytest.mark.parametrize("max_bytes", [1, 10_000, 2**20, 2**40])
def test_the_log_gets_a_share_of_any_size(path: Path, max_bytes: int) -> None:
    """However small the limit, the log is emptied in time; it never gets much."""
    assert log_bytes(max_bytes) <= min(max_bytes // 4, 128 * 2**20)
    with _opened(path, max_bytes) as connection:
        assert connection.execute("PRAGMA wal_autocheckpoint").fetchone()[0] >= 1


def test_a_newer_format_is_refused(path: Path) -> None:
    """After a rollback of the bridge, the file is left alone and it is said so."""
    with stored(path) as store:
        append(store, numbered(0, 1))
    _alter(path, f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(
        OutboxFormatError, match=f"has format {FORMAT_VERSION + 1}, this"
    ):
        open_database(path, max_bytes=PLENTY_BYTES)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, FORMAT_VERSION, 99])
def test_a_foreign_database_is_refused(path: Path, version: int) -> None:
    """Another program's database is not touched, whatever version it calls itself."""
    _alter(path, "CREATE TABLE theirs (x)", f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(OutboxFormatError, match="is a database, but no outbox"):
        open_database(path, max_bytes=PLENTY_BYTES)
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(path: Path) -> None:
    """A text file in its place is not overwritten."""
    path.write_text("dear diary, " * 1000)
    with pytest.raises(OutboxDamagedError, match="not a readable outbox") as caught:
        open_database(path, max_bytes=PLENTY_BYTES)
    assert caught.value.exit_code is ExitCode.FAILED
    assert path.read_text().startswith("dear diary")


def test_a_file_without_its_tables_is_refused(path: Path) -> None:
    """What lacks a table is damaged, not new."""
    with _opened(path):
        pass
    _alter(path, "DROP TABLE meta")
    with pytest.raises(OutboxDamagedError, match="no such table"):
        open_database(path, max_bytes=PLENTY_BYTES)


def test_a_file_without_its_name_is_refused(path: Path) -> None:
    """Without its UUID nothing could be resumed."""
    with _opened(path):
        pass
    _alter(path, "DELETE FROM meta")
    with pytest.raises(OutboxDamagedError, match="its name is missing"):
        open_database(path, max_bytes=PLENTY_BYTES)


def test_a_directory_in_its_place_is_refused(path: Path) -> None:
    """What can't be opened at all is the directory's fault."""
    path.mkdir()
    with pytest.raises(OutboxDirectoryError, match="can't be opened"):
        open_database(path, max_bytes=PLENTY_BYTES)


def test_a_file_that_may_not_be_written_is_refused() -> None:
    """Reading alone isn't enough, and it is known before the first event."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "outbox.sqlite3"
        with _opened(path):
            pass
        path.chmod(0o444)
        folder.chmod(0o777)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            with pytest.raises(OutboxDirectoryError, match="can't be opened") as caught:
                open_database(path, max_bytes=PLENTY_BYTES)
        finally:
            if is_root:
                os.seteuid(0)
    assert "this user may write" in str(caught.value)
