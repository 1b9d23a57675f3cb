"""What may be opened as an outbox, and by whom."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3  # noqa: TID251 - looks into the file
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.errors import (
    ExitCode,
    OutboxDamagedError,
    OutboxDirectoryError,
    OutboxError,
    OutboxFormatError,
    OutboxFullError,
    OutboxLockedError,
)
from bridge.outbox import OutboxDirectory
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


def test_makes_a_private_directory(tmp_path: Path) -> None:
    """A directory that doesn't exist is made, with its parents, for this user."""
    path = tmp_path / "state" / "outbox"
    with OutboxDirectory(path) as directory:
        assert path.stat().st_mode & 0o777 == 0o700
        assert directory.database.parent == path


def test_a_lock_that_can_not_be_taken_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks can't hold an outbox."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutboxDirectoryError, match="No locks available"):
        OutboxDirectory(tmp_path).__enter__()


def test_a_disk_without_room_for_the_pid_still_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pid is a courtesy; the lock holds without it."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with OutboxDirectory(tmp_path), pytest.raises(OutboxLockedError):
        OutboxDirectory(tmp_path).__enter__()


def _list_mounts(monkeypatch: pytest.MonkeyPatch, mounts: bytes) -> None:
    """Let Linux's list of mounts say something else."""
    read_bytes = Path.read_bytes

    def read(path: Path) -> bytes:
        return mounts if path == Path("/proc/self/mounts") else read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)


def _refused(path: Path) -> str | None:
    try:
        with OutboxDirectory(path):
            return None
    except OutboxDirectoryError as error:
        return f"{error}"


def test_network_file_systems_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The innermost and latest mount decides; SQLite's log needs a local disk."""
    path = tmp_path / "häuser am meer"
    name = str(path).replace(" ", "\\040")
    wrong = []
    for mounts, kind in (
        (f"/dev/sda / ext4 rw 0 0\nserver:/home {name} nfs4 rw 0 0\n", "nfs4"),
        (f"server:/home {name} nfs4 rw 0 0\n/dev/sda {name} ext4 rw 0 0\n", None),
        (f"/dev/sda / ext4 rw 0 0\nserver:/x {name}er cifs rw 0 0\n", None),
        (f"host {name} fuse.sshfs rw 0 0\n/dev/sda / ext4 rw 0 0\n", "fuse.sshfs"),
    ):
        # Another mount may have a name that isn't UTF-8.
        with monkeypatch.context() as patch:
            _list_mounts(patch, b"tmpfs /mnt/\xff tmpfs rw 0 0\n" + mounts.encode())
            said = _refused(path)
        right = said is None if kind is None else f"is on {kind}, a net" in f"{said}"
        wrong += [] if right else [(mounts, said)]
    assert not wrong


# -- Where other users may write ---------------------------------------------------


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("name", ["lock", "", "-wal", "-shm", ".is-damaged"])
def test_a_planted_link_is_not_followed(
    tmp_path: Path, name: str, *, exists: bool
) -> None:
    """Neither does the pid overwrite its target, nor the database, nor its log."""
    path, target = tmp_path / "outbox", tmp_path / "target"
    path.mkdir()
    if name.startswith(("-", ".")):
        with opened(path) as outbox:
            append(outbox, numbered(0, 1))
    if exists:
        target.write_text("dear diary")
    name = name if name == "lock" else f"outbox.sqlite3{name}"
    (path / name).symlink_to(target)
    if name.endswith("damaged"):
        with opened(path) as outbox:
            outbox.mark_damaged(OutboxDamagedError("as the test wants it"))
    else:
        with pytest.raises(OutboxDirectoryError) as caught, opened(path):
            pytest.fail("it is used")
        assert str(path) in str(caught.value)
    assert target.exists() is exists
    assert not exists or target.read_text() == "dear diary"


def test_only_this_user_may_read_what_is_written(tmp_path: Path) -> None:
    """Whatever the umask is."""
    before = os.umask(0o022)
    try:
        with opened(tmp_path) as outbox:
            append(outbox, numbered(0, 1))
            modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes.keys() >= {"lock", "outbox.sqlite3", "outbox.sqlite3-wal"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o777, True), (0o1777, True), (0o770, False)]
)
def test_a_directory_that_all_may_write_to_is_warned_about(
    tmp_path: Path, mode: int, *, warns: bool
) -> None:
    """Kubernetes' volumes are such ones, so it isn't an error."""
    (tmp_path / "outbox").mkdir()
    (tmp_path / "outbox").chmod(mode)
    with capture_logs() as lines, OutboxDirectory(tmp_path / "outbox"):
        pass
    assert [line["event"] for line in lines] == ["outbox.directory_open"] * warns
