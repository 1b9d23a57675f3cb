"""
A look into an outbox's file from outside, beside a running bridge or without one.

Nothing is written and nothing locked. It asks for what every format of the file
has; the file's owner reads it through `store`.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from bridge.errors import OutboxDirectoryError
from bridge.events.record import Origin
from bridge.outbox.disk.directory import OutboxDirectory
from bridge.outbox.disk.replayed import Replayed
from bridge.outbox.disk.schema import SEQUENCE_BITS, UNASSIGNED


__all__ = ["LookedAt", "LookedAtLane", "is_for_replays", "look", "replayed_in"]

# A writer commits within milliseconds, and readers don't wait for it.
_BUSY_SECONDS = 5.0


class LookedAtLane(msgspec.Struct, frozen=True):
    """
    A lane, as the file has it.

    Attributes:
        topic: The lane's topic.
        partition: The lane's partition.
        acknowledged_sequence: The last sequence that counts as delivered.
        waiting: How many rows wait.
        quarantined: Sequences that neither the topic nor the dead letters took.
    """

    topic: str
    partition: int
    acknowledged_sequence: int
    waiting: int
    quarantined: list[int]


class LookedAt(msgspec.Struct, frozen=True):
    """
    An outbox, as its file has it.

    Attributes:
        id: The outbox's UUID.
        lanes: Lanes with a partition.
    """

    id: str
    lanes: list[LookedAtLane]


def look(directory: Path) -> LookedAt:
    """
    Read how far an outbox has come.

    Args:
        directory: The outbox directory.

    Returns:
        One moment's state; a running bridge goes on meanwhile.

    Raises:
        OutboxDirectoryError: There is no outbox, or it can't be read.
    """
    path = OutboxDirectory(directory).database
    if not path.is_file():
        raise OutboxDirectoryError(
            f"--outbox-dir: {directory} holds no outbox ({path.name} is missing);"
            " give the directory that the bridge has as outbox.dir"
        )
    with _opened(path) as connection:
        return _look(connection)


def is_for_replays(directory: Path) -> bool:
    """
    Tell whether nothing but replayed records went through a directory's outbox.

    Args:
        directory: The outbox directory; one without an outbox may become one.

    Raises:
        OutboxDirectoryError: It can't be read.
    """
    path = OutboxDirectory(directory).database
    if not path.is_file():
        return True
    with _opened(path) as connection:
        # Another process may be making it just now.
        if not _has_table(connection, "envelopes"):
            return True
        others = connection.execute(
            "SELECT 1 FROM envelopes WHERE origin <> ? LIMIT 1", (Origin.REPLAY,)
        )
        return others.fetchone() is None


def replayed_in(directory: Path, ce_ids: Sequence[str]) -> set[str]:
    """
    Give those of some dead letters that were replayed through a directory's outbox.

    Args:
        directory: The outbox directory; without an outbox none was.
        ce_ids: The letters.

    Raises:
        OutboxDirectoryError: It can't be read.
    """
    path = OutboxDirectory(directory).database
    if not path.is_file():
        return set()
    with _opened(path) as connection:
        has_table = _has_table(connection, "replayed")
        return Replayed(connection).known(ce_ids) if has_table else set()


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file for one moment's look."""
    # Without a log nobody has it open, and it can be read without making files
    # beside it, which would be this user's. With one, SQLite reads both.
    log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    try:
        with closing(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?{mode}",
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
            )
        ) as connection:
            connection.execute("BEGIN")
            yield connection
    except (sqlite3.Error, TypeError) as error:
        raise OutboxDirectoryError(
            f"--outbox-dir: {path} can't be read as an outbox ({error}); see that this"
            " user may read it and the files beside it"
        ) from error


def _look(connection: sqlite3.Connection) -> LookedAt:
    (outbox_id,) = connection.execute(
        "SELECT value FROM meta WHERE name = 'outbox'"
    ).fetchone()
    lanes = [
        LookedAtLane(
            topic=topic,
            partition=partition,
            acknowledged_sequence=acknowledged,
            waiting=_waiting(connection, number, acknowledged),
            quarantined=_quarantined(connection, topic, partition),
        )
        for number, topic, partition, acknowledged in connection.execute(
            "SELECT id, topic, partition, max(acknowledged_sequence, coalesce("
            " (SELECT max(last_sequence) FROM acknowledged WHERE lane = id), 0))"
            " FROM lanes WHERE partition <> ? ORDER BY topic, partition",
            (UNASSIGNED,),
        ).fetchall()
    ]
    return LookedAt(outbox_id, lanes)


def _waiting(connection: sqlite3.Connection, lane: int, acknowledged: int) -> int:
    base = lane << SEQUENCE_BITS
    (count,) = connection.execute(
        "SELECT count(*) FROM rows WHERE position > ? AND position < ?",
        (base + acknowledged, base + (1 << SEQUENCE_BITS)),
    ).fetchone()
    return int(count)


def _quarantined(
    connection: sqlite3.Connection, topic: str, partition: int
) -> list[int]:
    """Read what lies in quarantine, which files of format 1 don't have."""
    if not _has_table(connection, "quarantine"):
        return []
    return [
        sequence
        for (sequence,) in connection.execute(
            "SELECT sequence FROM quarantine WHERE topic = ? AND partition = ?"
            " ORDER BY sequence",
            (topic, partition),
        )
    ]


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,))
    return found.fetchone() is not None
