"""
The outbox's file: its tables, its format version, how it is opened.

A row's primary key is its place: the lane's number in the high bits, the lane
sequence in the low ones. So a lane's rows lie side by side, are read and
deleted as one range, and need no second index.
"""

from __future__ import annotations

import secrets
import sqlite3  # noqa: TID251 - this room speaks to SQLite
import uuid
from pathlib import Path

import msgspec

from bridge.errors import OutboxDirectoryError, OutboxFormatError, OutboxFullError
from bridge.outbox.disk.failures import damaged, translated
from bridge.outbox.disk.migrations import migrate


__all__ = [
    "FORMAT_VERSION",
    "MAX_INTEGER",
    "MAX_SEQUENCE",
    "SEQUENCE_BITS",
    "UNASSIGNED",
    "Pages",
    "log_bytes",
    "new_incarnation",
    "open_database",
    "outbox_id",
    "pages",
]

FORMAT_VERSION = 6

# 2**40 records a lane: 30 years at 1,000 a second on one partition; 23 bits
# stay for lanes.
SEQUENCE_BITS = 40
MAX_SEQUENCE = (1 << SEQUENCE_BITS) - 1

# What a column can hold.
MAX_INTEGER = (1 << 63) - 1

# The partition of the lane that keeps a topic's records until their partition
# can be computed.
UNASSIGNED = -1

# "brdg": `file` and other tools can tell whose database this is.
_APPLICATION_ID = 0x62726467

# Rows are a few hundred bytes to 100 KB. Pages of 8 KiB cost small events what
# 4 KiB ones do (5.2 us each, written, acknowledged and deleted) and previews of
# 20 KB a quarter less (87 us against 117); 16 KiB ones cost small events 10 % more.
_PAGE_BYTES = 8192

# What the log (SQLite's WAL) gets of the outbox's size. It is emptied into the
# database when it has half of this; a commit of 4 MiB, with pages that are half
# empty, or a single large record finds room in the other half. A checkpoint syncs
# the disk, some 15 ms in which events wait. A trickle writes the same few pages
# again and again, 20 MB/s at 1,000 events/s, of which each goes into the database
# once: at 16 MiB more than one event in a hundred met a checkpoint (p99 14 ms), at
# 64 MiB it is one in two hundred (p99 6 ms). At 5,000 events/s they take 40 ms.
_LOG_BYTES = 128 * 2**20
_LOG_SHARE = 4

# How long SQLite waits for a lock. Only a person with a shell can hold one.
_BUSY_SECONDS = 5.0

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE envelopes (
    id INTEGER PRIMARY KEY,
    ce_source TEXT NOT NULL,
    ce_type TEXT NOT NULL,
    origin TEXT NOT NULL,
    content_type TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT 'event'
);
-- acknowledged_sequence: rows up to it are in Kafka (or, without a partition yet,
-- in other lanes), as far as `acknowledged` doesn't say more.
-- floor_sequence: no sequence at or below it may be given to a new row.
-- skipped: how many sequences after the acknowledged ones have no row here.
-- floor_offset: nothing of this lane that isn't known lies in the log before it.
-- resent_sequence: rows up to it were acknowledged once by a log that lost them.
-- topic_id: the topic's id in Kafka, if that was told.
-- noted_sequence: rows up to it are told in `jobs`, later ones aren't.
CREATE TABLE lanes (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    acknowledged_sequence INTEGER NOT NULL DEFAULT 0,
    floor_sequence INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    floor_offset INTEGER,
    resent_sequence INTEGER NOT NULL DEFAULT 0,
    topic_id TEXT,
    noted_sequence INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
);
CREATE TABLE rows (
    position INTEGER PRIMARY KEY,
    ce_id TEXT NOT NULL,
    envelope INTEGER NOT NULL,
    received_at_us INTEGER NOT NULL,
    key BLOB,
    value BLOB NOT NULL,
    extra BLOB,
    checksum INTEGER
);
-- One row for each run of acknowledged records: sequence first..last stand at
-- offset base_offset and the ones after it; below 0: in a log that is gone.
CREATE TABLE acknowledged (
    lane INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    base_offset INTEGER NOT NULL,
    acknowledged_at_us INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (lane, first_sequence)
) WITHOUT ROWID;
-- Rows that neither their topic nor the dead letters' took; never deleted here.
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
);
-- Jobs whose end was not seen, as far as rows are noted. At most
-- `outbox.max_jobs_in_flight` of some 150 bytes: 8 MB of the usual 50,000.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    ce_source TEXT NOT NULL,
    key BLOB NOT NULL,
    status TEXT NOT NULL,
    progress TEXT,
    last_seen_us INTEGER NOT NULL,
    fingerprint INTEGER
);
-- Jobs that have ended, as far as rows are noted: digests of 8 bytes, some of them
-- together as they were written, and when the last of them ended.
CREATE TABLE ended (
    id INTEGER PRIMARY KEY,
    ended_at_us INTEGER NOT NULL,
    digests BLOB NOT NULL
);
-- Jobs in flight whose topic has got more partitions: they stay where they began.
CREATE TABLE pinned (
    topic TEXT NOT NULL,
    key BLOB NOT NULL,
    partition INTEGER NOT NULL,
    PRIMARY KEY (topic, key)
) WITHOUT ROWID;
-- Dead letters whose events became rows here: some 30 bytes each, kept for good.
CREATE TABLE replayed (ce_id TEXT PRIMARY KEY) WITHOUT ROWID;
-- What was sent to an account before proved_us had arrived and was written.
CREATE TABLE accounts (
    ce_source TEXT PRIMARY KEY,
    proved_us INTEGER NOT NULL
) WITHOUT ROWID;
-- Gaps that were opened and not closed, or of which not all is known yet: the values
-- of their records, and how many of their jobs were healed by what.
CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    gap_id TEXT NOT NULL UNIQUE,
    value BLOB NOT NULL,
    healed_by_status_endpoint INTEGER NOT NULL DEFAULT 0,
    healed_by_webhook INTEGER NOT NULL DEFAULT 0
);
-- Webhooks that are held for the socket's own event; `record` is all of a `Record`.
CREATE TABLE held (
    place INTEGER PRIMARY KEY,
    due_us INTEGER NOT NULL,
    ended_us INTEGER,
    record BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE INDEX held_by_due ON held (due_us);
-- Webhooks that were taken, lately: digests of 16 bytes, numbered without a hole.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    taken_at_us INTEGER NOT NULL
);
-- How often an account has asked the status endpoint since its day began.
CREATE TABLE spent (
    ce_source TEXT PRIMARY KEY,
    since_us INTEGER NOT NULL,
    calls INTEGER NOT NULL
) WITHOUT ROWID;
"""


class Pages(msgspec.Struct, frozen=True):
    """
    What the database takes, once its log is emptied into it.

    Attributes:
        total_bytes: All pages.
        free_bytes: Those of them that hold nothing.
    """

    total_bytes: int
    free_bytes: int


def new_incarnation() -> str:
    """
    Name this process: 64 random bits as hex.

    A million starts of one outbox collide with a probability of 3 in 10^8.
    """
    return secrets.token_hex(8)


def log_bytes(max_bytes: int) -> int:
    """Return how much of an outbox's size is its log's, in bytes."""
    return min(_LOG_BYTES, max_bytes // _LOG_SHARE)


def open_database(path: Path, *, max_bytes: int) -> sqlite3.Connection:
    """
    Open the outbox's file, making it if it doesn't exist.

    Args:
        path: The database file.
        max_bytes: What database and log may take together; decides how often the
            log is emptied. What may still be written `room` decides.

    Returns:
        A connection in autocommit mode, in WAL mode with `synchronous=NORMAL`.

    Raises:
        OutboxDamagedError: The file can't be read.
        OutboxFormatError: It is no outbox, or one of a newer version.
        OutboxDirectoryError: The disk has no room, or refuses the file.
    """
    try:
        connection = sqlite3.connect(
            path,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            # It is opened by one thread and then used by another one alone.
            check_same_thread=False,
            # Every insert of `store` has one shape for each power of two.
            cached_statements=64,
        )
        try:
            _prepare(connection, path, max_bytes)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        meaning = translated(error, path)
        if isinstance(meaning, OutboxFullError):
            raise OutboxDirectoryError(
                f"outbox.dir: {path} can't be opened ({error}); see that the disk has"
                " room and that this user may write to the file"
            ) from error
        raise meaning from error
    return connection


def outbox_id(connection: sqlite3.Connection) -> str:
    """Return the UUID that this outbox got when its file was made."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'outbox'").fetchone()
    return str(row[0])


def pages(connection: sqlite3.Connection) -> Pages:
    """Tell how many bytes a database's pages take."""
    size, total, free = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count")
    )
    return Pages(total * size, free * size)


def _prepare(connection: sqlite3.Connection, path: Path, max_bytes: int) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    is_new = version == application == tables == 0
    if not is_new and application != _APPLICATION_ID:
        raise OutboxFormatError(
            f"outbox.dir: {path} is a database, but no outbox; give the bridge a"
            " directory of its own (BRIDGE_OUTBOX_DIR, --outbox-dir)"
        )
    if not is_new and version < 1:
        raise damaged(path, f"its format is {version}")
    if version > FORMAT_VERSION:
        raise OutboxFormatError(
            f"outbox.dir: {path} has format {version}, this bridge knows formats up"
            f" to {FORMAT_VERSION}; run the version that wrote it, or give this one"
            " a directory of its own (BRIDGE_OUTBOX_DIR, --outbox-dir)"
        )
    if is_new:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode = WAL")
    # NORMAL survives the death of the process; a power loss may take the last
    # commits, which resume on ce_id allows for. https://sqlite.org/pragma.html
    connection.execute("PRAGMA synchronous = NORMAL")
    # Debian builds SQLite so that deleted pages are written with zeros. Then
    # trimming sent all that it frees through the log: a disk of 64 MB that was
    # short never got its room back.
    connection.execute("PRAGMA secure_delete = OFF")
    emptied_at = log_bytes(max_bytes) // 2
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    pages = max(emptied_at // page_bytes, 1)
    connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
    # One huge record may make the log longer for a while, not for good.
    connection.execute(f"PRAGMA journal_size_limit = {emptied_at}")
    connection.execute("BEGIN IMMEDIATE")
    if is_new:
        _create(connection)
    elif version < FORMAT_VERSION:
        migrate(connection, version, FORMAT_VERSION)
    # Writing may be refused where reading isn't: better known now than later.
    connection.execute("UPDATE meta SET value = value WHERE name = ''")
    connection.execute("COMMIT")
    # From here on a transaction writes little more than the 4 MiB that `room` lets it,
    # and all its pages may stay in memory till its end. SQLite would keep 2 MB of them,
    # and write a page that a lane isn't done with twice or thrice: with previews of
    # 20 KB a tenth of what the outbox's thread takes.
    connection.execute("PRAGMA cache_spill = OFF")
    if connection.execute("SELECT count(*) FROM meta").fetchone() == (0,):
        raise damaged(path, "its name is missing")


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";\n"):
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('outbox', ?)", (str(uuid.uuid4()),))
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
