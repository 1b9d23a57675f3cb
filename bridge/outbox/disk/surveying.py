"""
Whether an outbox's file is whole, found out without writing to it or locking it.

Owns the question alone. What is read of a whole one stands in `looking`, what is done
with a damaged one in `damage`.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
import time
from contextlib import closing
from pathlib import Path

import msgspec

from bridge.errors import OutboxDirectoryError, OutboxFormatError
from bridge.outbox.disk.directory import OutboxDirectory
from bridge.outbox.disk.failures import damaged, translated
from bridge.outbox.disk.looking import LookedAt, look
from bridge.outbox.disk.schema import FORMAT_VERSION


__all__ = ["Survey", "survey"]

# SQLite's steps between two looks at the clock: some milliseconds.
_STEPS = 100_000

# A writer commits within milliseconds.
_BUSY_SECONDS = 1.0


class Survey(msgspec.Struct, frozen=True):
    """
    What is known of an outbox's file.

    Attributes:
        outbox: What it says of its lanes.
        is_read: Whether all of it was read; a large one takes too long, and one that a
            bridge has open is left alone.
        size_bytes: The size of database and log.
    """

    outbox: LookedAt
    is_read: bool
    size_bytes: int


def survey(directory: Path, seconds: float, *, is_held: bool) -> Survey | None:
    """
    Read an outbox's file.

    Args:
        directory: The outbox directory.
        seconds: For how long it is read at most.
        is_held: Whether a bridge has it open: what that reads and writes all the time
            is not read a second time, which would keep its log from being emptied.

    Returns:
        What is known of it; None where there is none yet.

    Raises:
        OutboxDamagedError: It can't be read as what it should be.
        OutboxFormatError: It is one of a newer version.
        OutboxDirectoryError: This user may not read it.
    """
    path = OutboxDirectory(directory).database
    if not path.is_file():
        return None
    log = path.with_name(f"{path.name}-wal")
    # As in `looking`: without a log nobody has it open.
    mode = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    uri = f"{path.absolute().as_uri()}?{mode}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as opened:
            if not _has_format(opened, path):
                return None
            is_read = not is_held and _is_whole(opened, path, seconds)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CANTOPEN:
            raise OutboxDirectoryError(
                f"outbox.dir: {path} can't be opened ({error}); see that this user may"
                " read it and the files beside it"
            ) from error
        raise translated(error, path) from error
    sizes = [one.stat().st_size for one in (path, log) if one.exists()]
    return Survey(look(directory), is_read, sum(sizes))


def _has_format(opened: sqlite3.Connection, path: Path) -> bool:
    """Tell whether anything stands in a file; whoever was killed first left none."""
    (version,) = opened.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_schema")}
    if tables and "meta" not in tables:
        raise OutboxFormatError(
            f"outbox.dir: {path} is a database, but no outbox; give the bridge a"
            " directory of its own (BRIDGE_OUTBOX_DIR, --outbox-dir)"
        )
    if version > FORMAT_VERSION:
        raise OutboxFormatError(
            f"outbox.dir: {path} has format {version}, this bridge knows formats up"
            f" to {FORMAT_VERSION}; run the version that wrote it, or give this one"
            " a directory of its own (BRIDGE_OUTBOX_DIR, --outbox-dir)"
        )
    return bool(version or tables)


def _is_whole(opened: sqlite3.Connection, path: Path, seconds: float) -> bool:
    """Read every page; False if there was no time for all of them."""
    end = time.monotonic() + seconds
    opened.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        (found,) = opened.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return False
        raise
    if found != "ok":
        raise damaged(path, " ".join(str(found).split()))
    return True
