"""
A damaged file is set aside: moved, whole, and never touched again.

Only names are dealt with here. What can be read of it `salvage` brings into the new
file; that this is still to be done is told by an empty file beside it, so that a
process that dies meanwhile leaves it to the next one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path


__all__ = ["finish_setting_aside", "is_salvaged", "set_aside", "unsalvaged"]

# The log of a database belongs to it. It is moved first: SQLite deletes one that has
# no database, and a database without its log would look whole.
_PARTS = ("-wal", "-shm", "")

_MARK = ".to-salvage"


def set_aside(path: Path) -> Path:
    """
    Move a damaged file and its log out of the way.

    Args:
        path: The database file.

    Returns:
        Where it lies now; nothing that was there before is overwritten.

    Raises:
        OSError: It can't be moved.
    """
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.damaged-{moment}")
    number = 1
    while any(_part(aside, part).exists() for part in (*_PARTS, _MARK)):
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{moment}-{number}")
    # A full disk may refuse even this. The rows are in the file all the same.
    with suppress(OSError):
        _part(aside, _MARK).touch(mode=0o600)
    _move(path, aside)
    return aside


def finish_setting_aside(path: Path) -> None:
    """
    Do what is left where a process died while it set a file aside.

    Raises:
        OSError: It can't be moved.
    """
    for aside in unsalvaged(path):
        if not aside.exists():
            _move(path, aside)


def unsalvaged(path: Path) -> list[Path]:
    """Give the files that were set aside and not yet read, oldest first."""
    marks = path.parent.glob(f"{path.name}.damaged-*{_MARK}")
    return sorted(mark.with_name(mark.name.removesuffix(_MARK)) for mark in marks)


def is_salvaged(aside: Path) -> None:
    """Say that there is nothing more to read in a file."""
    _part(aside, _MARK).unlink(missing_ok=True)


def _move(path: Path, aside: Path) -> None:
    for part in _PARTS:
        if _part(path, part).exists():
            _part(path, part).rename(_part(aside, part))
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _part(path: Path, part: str) -> Path:
    return path.with_name(f"{path.name}{part}")
