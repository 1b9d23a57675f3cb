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

# No room, no writing, no handles, or a person's shell that holds a lock: the
# file is as it was, and the error may go away by itself.
_REFUSALS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }
)


def translated(error: sqlite3.Error, path: Path) -> OutboxError:
    """
    Say in the bridge's terms what an error of the open file means.

    Args:
        error: From SQLite.
        path: The database file.

    Returns:
        `OutboxFullError` if the same may succeed later, else
        `OutboxDamagedError`.
    """
    # Errors of the module itself carry no code. The low byte is the primary one.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code & 0xFF in _REFUSALS:
        return OutboxFullError(str(error))
    return damaged(path, error)


def damaged(path: Path, reason: object) -> OutboxDamagedError:
    """Say that a file can't be used and what may be done with it."""
    return OutboxDamagedError(
        f"outbox.dir: {path} is not a readable outbox ({reason}); move it away and"
        " start again: the events in it that Kafka has not got are lost to the"
        " bridge, but stay in the file"
    )
