"""
A look into an outbox's file from outside, beside a running bridge or without one.

Nothing is written and nothing locked. It asks for what every format of the file
has; the file's owner reads it through `store`.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from contextlib import closing
from pathlib import Path

import msgspec

from bridge.errors import OutboxDirectoryError
from bridge.outbox.directory import OutboxDirectory
from bridge.outbox.schema import SEQUENCE_BITS, UNASSIGNED


__all__ = ["LookedAt", "LookedAtLane", "look"]

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
            return _look(connection)
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
    has_table = connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE name = 'quarantine'"
    ).fetchone()
    if has_table is None:
        return []
    return [
        sequence
        for (sequence,) in connection.execute(
            "SELECT sequence FROM quarantine WHERE topic = ? AND partition = ?"
            " ORDER BY sequence",
            (topic, partition),
        )
    ]
