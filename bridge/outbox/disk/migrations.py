"""
How a file of an older format becomes one of this version.

Each step is what one format has that the one before had not. Statements that
were published are never changed: files in the field were made by them. What a
new file looks like stands in `schema`.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite


__all__ = ["migrate"]

# Adding a column writes no row, so a file of any size is migrated at once; rows
# that are there already have no checksum.
_STEPS = {
    1: (
        "ALTER TABLE lanes ADD COLUMN resent_sequence INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE lanes ADD COLUMN topic_id TEXT",
        "ALTER TABLE rows ADD COLUMN checksum INTEGER",
        """
        CREATE TABLE quarantine (
            id INTEGER PRIMARY KEY,
            topic TEXT NOT NULL,
            partition INTEGER NOT NULL,
            sequence INTEGER NOT NULL,
            ce_id TEXT NOT NULL,
            envelope INTEGER NOT NULL,
            received_at_us INTEGER NOT NULL,
            key BLOB,
            value BLOB NOT NULL,
            extra BLOB,
            checksum INTEGER,
            reason TEXT NOT NULL,
            put_at_us INTEGER NOT NULL
        )
        """,
    ),
    # No row is noted: the next opening reads them all once, for the jobs in them.
    2: (
        "ALTER TABLE lanes ADD COLUMN noted_sequence INTEGER NOT NULL DEFAULT 0",
        """
        CREATE TABLE jobs (
            id INTEGER PRIMARY KEY,
            ce_source TEXT NOT NULL,
            key BLOB NOT NULL,
            status TEXT NOT NULL,
            progress TEXT,
            last_seen_us INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE accounts (
            ce_source TEXT PRIMARY KEY,
            proved_us INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE gaps (
            id INTEGER PRIMARY KEY,
            gap_id TEXT NOT NULL UNIQUE,
            value BLOB NOT NULL
        )
        """,
    ),
    # No row is noted once more: those that are left tell which jobs have ended.
    3: (
        "UPDATE lanes SET noted_sequence = 0",
        "ALTER TABLE jobs ADD COLUMN fingerprint INTEGER",
        """
        CREATE TABLE ended (
            id INTEGER PRIMARY KEY,
            ended_at_us INTEGER NOT NULL,
            digests BLOB NOT NULL
        )
        """,
        """
        CREATE TABLE pinned (
            topic TEXT NOT NULL,
            key BLOB NOT NULL,
            partition INTEGER NOT NULL,
            PRIMARY KEY (topic, key)
        ) WITHOUT ROWID
        """,
        "CREATE TABLE replayed (ce_id TEXT PRIMARY KEY) WITHOUT ROWID",
    ),
    # Dead letters of previews and of gaps that wait count as events.
    4: (
        "ALTER TABLE envelopes ADD COLUMN kind TEXT NOT NULL DEFAULT 'event'",
        "UPDATE envelopes SET kind = 'gap' WHERE ce_type = 'dev.dryapi.bridge.gap'",
        """
        UPDATE envelopes SET kind = 'preview'
        WHERE ce_type = 'dev.dryapi.request.preview'
        """,
    ),
    # Nothing was held, and nobody was asked.
    5: (
        """
        ALTER TABLE gaps
        ADD COLUMN healed_by_status_endpoint INTEGER NOT NULL DEFAULT 0
        """,
        "ALTER TABLE gaps ADD COLUMN healed_by_webhook INTEGER NOT NULL DEFAULT 0",
        """
        CREATE TABLE held (
            place INTEGER PRIMARY KEY,
            due_us INTEGER NOT NULL,
            ended_us INTEGER,
            record BLOB NOT NULL,
            checksum INTEGER NOT NULL
        )
        """,
        "CREATE INDEX held_by_due ON held (due_us)",
        """
        CREATE TABLE deliveries (
            id INTEGER PRIMARY KEY,
            digest BLOB NOT NULL UNIQUE,
            taken_at_us INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE spent (
            ce_source TEXT PRIMARY KEY,
            since_us INTEGER NOT NULL,
            calls INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
    ),
}


def migrate(connection: sqlite3.Connection, version: int, wanted: int) -> None:
    """
    Bring a file to the wanted format; belongs into a transaction.

    Args:
        connection: The file.
        version: Its format.
        wanted: The format that it is to have.
    """
    for step in range(version, wanted):
        for statement in _STEPS[step]:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {wanted}")
