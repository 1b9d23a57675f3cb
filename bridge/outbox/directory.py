"""
The outbox's directory: made, checked and locked for one process.

The file inside it belongs to `database`. `look_at` reports what would happen, and
changes nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import structlog

from bridge.errors import OutboxDirectoryError, OutboxLockedError


__all__ = ["DirectoryState", "OutboxDirectory", "look_at", "open_own"]

_log = structlog.get_logger("bridge.outbox")

# SQLite's WAL needs shared memory and working locks: https://sqlite.org/wal.html
# says that it doesn't work over a network file system.
_NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "smb3", "smbfs", "fuse.glusterfs", "fuse.s3fs", "webdav"}
)

_MOUNTS = Path("/proc/self/mounts")

_OPTIONS = "(BRIDGE_OUTBOX_DIR, --outbox-dir)"

# Whether access(2) can ask for the user as which this process acts.
_EFFECTIVE = os.access in os.supports_effective_ids

# proc(5): space, tab, newline and backslash are written as octal numbers there.
_ESCAPED = re.compile(r"\\([0-7]{3})")


class OutboxDirectory:
    """
    A directory that this process alone may use, from entry to exit.

    It is made with mode 0700 if it doesn't exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_file: int | None = None

    @property
    def database(self) -> Path:
        """The path of the database file."""
        return self.path / "outbox.sqlite3"

    def __enter__(self) -> Self:
        """
        Make, check and lock the directory.

        Raises:
            OutboxDirectoryError: It can't be made or written, or lies on a
                network file system.
            OutboxLockedError: Another process holds it; names its pid.
        """
        with _usable(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Volumes of Kubernetes often are, so that it can't be an error.
            if self.path.stat().st_mode & stat.S_IWOTH:
                _log.warning(
                    "outbox.directory_open",
                    path=str(self.path),
                    advice="any user may put files there: chmod o-w, or use a"
                    " subdirectory",
                )
            _local_file_system(self.path)
            self._lock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the directory back; the kernel does the same for a dead process."""
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def _lock(self) -> None:
        descriptor = open_own(self.path / "lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = _pid_in(descriptor)
            os.close(descriptor)
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            who = f"process {pid}" if pid else "another process"
            raise OutboxLockedError(
                f"outbox.dir: {self.path} is in use by {who}",
                hint=f"Stop it, or give this bridge a directory of its own {_OPTIONS}",
                pid=pid,
            ) from error
        # A full disk can't take the pid; the lock holds all the same.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock_file = descriptor


def open_own(path: Path, flags: int = 0) -> int:
    """
    Open a file of the outbox for writing; only this user can access it.

    Raises:
        OutboxDirectoryError: It is a link, which another user may have put there to
            have its target overwritten, or it can't be opened.
    """
    flags |= os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OutboxDirectoryError(
                f"outbox.dir: {path} is a symbolic link",
                hint="Remove it, and see who may write to that directory",
            ) from error
        raise OutboxDirectoryError(
            f"outbox.dir: {path} can't be opened ({error.strerror})",
            hint="Check that the disk has space and that this user may write to the"
            f" file {_OPTIONS}",
        ) from error


class DirectoryState(msgspec.Struct, frozen=True):
    """What a directory is like."""

    # Whether it is there; if not, it can be made.
    exists: bool
    # The type of its file system, where that can be found out.
    file_system: str | None
    # Whether a process has it, and that process's id, if it could be read.
    is_held: bool
    holder: int | None
    # The size of the disk, and what this user may still write there.
    total_bytes: int
    free_bytes: int


def look_at(path: Path) -> DirectoryState:
    """
    Check whether a directory would do, without making or keeping anything.

    To see whether it is held, its lock is shared for some microseconds if it is free.
    Raises as `OutboxDirectory` does, but for one that is held.
    """
    # Also of a directory above, into which this user may not look.
    with _usable(path):
        exists = path.exists()
        nearest = path.absolute()
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        file_system = _local_file_system(path)
        # As the kernel judges: of root too, and of a file system mounted for reading.
        if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE):
            is_read_only = os.statvfs(nearest).f_flag & os.ST_RDONLY
            number = errno.EROFS if is_read_only else errno.EACCES
            raise OSError(number, os.strerror(number))
        is_held, holder = _holder(path / "lock")
        disk = os.statvfs(nearest)
        return DirectoryState(
            exists,
            file_system,
            is_held,
            holder,
            disk.f_blocks * disk.f_frsize,
            disk.f_bavail * disk.f_frsize,
        )


def _pid_in(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdecimal() else None


def _holder(lock: Path) -> tuple[bool, int | None]:
    """Return whether a lock is held, and by whom."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False, None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True, _pid_in(descriptor)
    finally:
        os.close(descriptor)
    return False, None


def _local_file_system(path: Path) -> str | None:
    """Name a path's file system; `OutboxDirectoryError` if it is one of a network."""
    file_system = _file_system_of(path)
    if file_system in _NETWORK_FILE_SYSTEMS:
        raise OutboxDirectoryError(
            f"outbox.dir: {path} is on {file_system}, a network file system, on which"
            " SQLite's log is not safe",
            hint=f"Choose a local disk {_OPTIONS}",
        )
    return file_system


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Say what the system says about a directory."""
    try:
        yield
    except OSError as error:
        raise OutboxDirectoryError(
            f"outbox.dir: {path} can't be used ({error.strerror or error})",
            hint=f"It must be a directory that this user may write to {_OPTIONS}",
        ) from error


def _file_system_of(path: Path) -> str | None:
    """Name the type of the file system of a path; None if it is unknown."""
    resolved = path.resolve()
    best, kind = -1, None
    try:
        # Only Linux has it. A mount's name may be any bytes.
        mounts = os.fsdecode(_MOUNTS.read_bytes())
    except OSError:
        return None
    for line in mounts.rstrip("\n").split("\n"):
        _, name, file_system, *_ = line.split(" ")
        point = Path(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), name))
        # A later mount on the same point hides the earlier one.
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), file_system
    return kind
