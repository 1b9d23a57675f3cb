"""
What SQLite's errors mean for the bridge.

The one place that reads its result codes (https://sqlite.org/rescode.html).
What is done about an error is the caller's business.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from pathlib import Path

from bridge.errors import OutboxDamagedError, OutboxError, OutboxFullError


__all__ = ["damaged", "translated"]

# No room, no writing, no memory, no handles, or a person's shell that holds a lock:
# the file is as it was, and the error may go away by itself.
_REFUSALS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOLFS,
    }
)

# Among those, by their extended code: a page that isn't there any more, a file system
# or a checksum of it that says so itself, and a file that is no longer where it was.
# Other errors of reading may be a disk that is away for a moment.
_DAMAGES = frozenset(
    {
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
        sqlite3.SQLITE_IOERR_DATA,
        sqlite3.SQLITE_READONLY_DBMOVED,
    }
)


def translated(error: sqlite3.Error, path: Path) -> OutboxError:
    """
    Say in the bridge's terms what an error of the open file means.

    Args:
        error: From SQLite.
        path: The database file.

    Returns:
        `OutboxFullError` if the same may succeed later, `OutboxDamagedError` if
        not, and just an `OutboxError` where SQLite was asked for nonsense.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Of the module itself: a text that is no text any more, or a mistake here.
        if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            return OutboxError(f"outbox.dir: {path}: {error}")
        return damaged(path, error)
    # The low byte is the primary code.
    if code & 0xFF in _REFUSALS and code not in _DAMAGES:
        return OutboxFullError(str(error))
    return damaged(path, error)


def damaged(path: Path, reason: object) -> OutboxDamagedError:
    """Say that a file can't be used."""
    return OutboxDamagedError(f"{path} is not a readable outbox ({reason})")
