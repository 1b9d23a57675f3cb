"""
Reads an outbox's file from another process, while a bridge runs or not.

It writes nothing and locks nothing.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - the outbox is SQLite
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from bridge.errors import OutboxDirectoryError
from bridge.events.record import Origin
from bridge.outbox.database import SEQUENCE_BITS, check_format, translated
from bridge.outbox.directory import OutboxDirectory


__all__ = [
    "SurveyedOutbox",
    "SurveyedPartition",
    "is_for_replays",
    "look",
    "replayed_in",
    "survey",
]

# A writer commits within milliseconds, and readers don't wait for it.
_BUSY_SECONDS = 5.0

# SQLite's steps between two looks at the clock: some milliseconds.
_STEPS = 100_000

# What the broker refused was passed without an offset, and stayed.
_UNSENDABLE = """
SELECT position - ?1 FROM rows WHERE position BETWEEN ?1 AND ?2
AND NOT EXISTS (SELECT 1 FROM acknowledged WHERE partition = ?3
    AND position - ?1 BETWEEN first_sequence AND last_sequence)
ORDER BY position
"""


class SurveyedPartition(msgspec.Struct, frozen=True):
    """A partition, as the file has it."""

    topic: str
    partition: int
    # The last sequence that counts as delivered, and how many rows wait.
    acknowledged_sequence: int
    waiting: int
    # Sequences that neither the topic nor the dead letters took.
    unsendable: list[int]


class SurveyedOutbox(msgspec.Struct, frozen=True):
    """An outbox, as its file has it; the id is its UUID."""

    id: str
    partitions: list[SurveyedPartition]
    # The size of database and WAL.
    size_bytes: int
    # Whether all of it was read: `survey` does, unless it is large or in use.
    is_read: bool = False


def look(directory: Path) -> SurveyedOutbox:
    """
    Read how far an outbox has come, at one moment; a running bridge goes on meanwhile.

    Raises:
        OutboxDirectoryError: There is no outbox, or it can't be read.
    """
    path = _file(directory)
    with _reading(directory) as connection:
        if connection is None:
            raise OutboxDirectoryError(
                f"--outbox-dir: {directory} holds no outbox ({path.name} is missing)",
                hint="Give the directory that the bridge has as outbox.dir",
            )
        return _look(connection, path)


def is_for_replays(directory: Path) -> bool:
    """
    Return whether only replayed records went through a directory's outbox.

    One without an outbox may become one. Raises as `replayed_in` does.
    """
    others = "SELECT 1 FROM envelopes WHERE origin <> ? LIMIT 1"
    with _reading(directory) as connection:
        # Another process may be making it just now.
        if connection is None or not check_format(connection, _file(directory)):
            return True
        return connection.execute(others, (Origin.REPLAY,)).fetchone() is None


def replayed_in(directory: Path, ce_ids: Sequence[str]) -> set[str]:
    """
    Return those of some dead letters that were replayed through a directory's outbox.

    Raises:
        OutboxDirectoryError: It can't be read.
        OutboxFormatError: It is one of another version.
    """
    known = "SELECT 1 FROM replayed WHERE ce_id = ?"
    with _reading(directory) as connection:
        if connection is None or not check_format(connection, _file(directory)):
            return set()
        return {one for one in ce_ids if connection.execute(known, (one,)).fetchone()}


def survey(directory: Path, seconds: float, *, is_held: bool) -> SurveyedOutbox | None:
    """
    Read an outbox's file for so long at most, and whether it is whole; None: no file.

    One that a bridge holds open is read and written all the time, and isn't read whole
    a second time, which would keep its WAL from being emptied.

    Raises:
        OutboxDamagedError: It can't be read as what it should be.
        OutboxFormatError: It is one of another version.
        OutboxDirectoryError: This user may not read it.
    """
    path = _file(directory)
    with _reading(directory, is_own=True) as connection:
        # Who was killed first may have left an empty one.
        if connection is None or not check_format(connection, path):
            return None
        is_read = not is_held and _is_whole(connection, seconds)
        return msgspec.structs.replace(_look(connection, path), is_read=is_read)


def _file(directory: Path) -> Path:
    return OutboxDirectory(directory).database


@contextmanager
def _reading(
    directory: Path, *, is_own: bool = False
) -> Iterator[sqlite3.Connection | None]:
    """Open a file for one moment's look; None if there is none."""
    path = _file(directory)
    if not path.is_file():
        yield None
        return
    # Without a WAL no process has it open, and it can be read without making files
    # beside it, which would be this user's. With one, SQLite reads both.
    mode = "mode=ro" if _wal(path).exists() else "mode=ro&immutable=1"
    uri = f"{path.absolute().as_uri()}?{mode}"
    try:
        with closing(
            sqlite3.connect(uri, _BUSY_SECONDS, uri=True, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        # The bridge's own file may be damaged; any other was the wrong one to give.
        if is_own and code != sqlite3.SQLITE_CANTOPEN:
            raise translated(error, path) from error
        option = "outbox.dir" if is_own else "--outbox-dir"
        raise OutboxDirectoryError(
            f"{option}: {path} can't be opened as an outbox ({error})",
            hint="See that this user may read it and the files beside it",
        ) from error


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _look(connection: sqlite3.Connection, path: Path) -> SurveyedOutbox:
    execute = connection.execute
    row = execute("SELECT value FROM meta WHERE name = 'outbox'").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("its UUID is missing")
    partitions = []
    for number, topic, partition, acknowledged in execute(
        "SELECT id, topic, partition, max(acknowledged_sequence, coalesce("
        " (SELECT max(last_sequence) FROM acknowledged"
        "  WHERE acknowledged.partition = id), 0))"
        " FROM partitions ORDER BY topic, partition"
    ).fetchall():
        base = number << SEQUENCE_BITS
        (waiting,) = execute(
            "SELECT count(*) FROM rows WHERE position > ? AND position < ?",
            (base + acknowledged, base + (1 << SEQUENCE_BITS)),
        ).fetchone()
        found = execute(_UNSENDABLE, (base, base + acknowledged, number))
        unsendable = [sequence for (sequence,) in found]
        partitions.append(
            SurveyedPartition(topic, partition, acknowledged, waiting, unsendable)
        )
    sizes = [one.stat().st_size for one in (path, _wal(path)) if one.exists()]
    return SurveyedOutbox(str(row[0]), partitions, sum(sizes))


def _is_whole(connection: sqlite3.Connection, seconds: float) -> bool:
    """Read every page; False if there was no time for all of them."""
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return False
        raise
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise sqlite3.DatabaseError(" ".join(str(found).split()))
    return True
