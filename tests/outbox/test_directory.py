"""The directory is one process's own, on a disk that can be trusted."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.errors import (
    OutboxDamagedError,
    OutboxDirectoryError,
    OutboxLockedError,
)
from bridge.outbox import OutboxDirectory
from tests.outbox.making import append, numbered, opened


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
