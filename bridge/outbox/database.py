"""
The outbox's file: its tables, how it is opened, its transactions and its errors.

A row's primary key has the partition's number in the high bits, and the sequence in the
low ones. So the rows of a partition are one range, and need no second index.
"""

from __future__ import annotations

import os
import sqlite3  # noqa: TID251 - the outbox is SQLite
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bridge.errors import (
    OutboxDamagedError,
    OutboxDirectoryError,
    OutboxError,
    OutboxFormatError,
    OutboxFullError,
)
from bridge.outbox.directory import open_own


__all__ = [
    "FORMAT_VERSION",
    "SEQUENCE_BITS",
    "Database",
    "ManyRows",
    "check_format",
    "translated",
    "wal_bytes",
]

FORMAT_VERSION = 9

# 2**40 records a partition: 30 years at 1,000 a second; 23 bits are left for
# partitions.
SEQUENCE_BITS = 40

# STRICT tables.
_LEAST_SQLITE = (3, 37)

# "brdg": `file` and other tools can show whose database this is.
_APPLICATION_ID = 0x62726467

# Rows are a few hundred bytes to 100 KB. Pages of 8 KiB cost small events what 4 KiB
# ones do, and previews of 20 KB a quarter less (87 us against 117, written,
# acknowledged and deleted); 16 KiB ones cost small events 10 % more.
_PAGE_BYTES = 8192

# The WAL's share of the outbox's size. It is emptied into the database when it has
# half of this. A checkpoint of 4 MiB takes 6 to 9 ms, of 64 MiB 50 to 65, in which
# nothing is sent: p99 at 1,000 events/s is 14 and 41 ms.
_WAL_BYTES = 8 * 2**20
_WAL_SHARE = 4

# How long SQLite waits for a lock. Only a person with a shell can hold one.
_BUSY_SECONDS = 5.0

# SQLite takes 32,766 parameters a statement. Each step of a statement releases the GIL
# and may wait a switch interval for it, so rows are written by the hundred.
_ROWS_A_STATEMENT = (512, 128, 32, 8, 1)

# Strict types where no checksum shows what a disk has changed.
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
-- What thousands of rows share.
CREATE TABLE envelopes (
    id INTEGER PRIMARY KEY,
    ce_source TEXT NOT NULL,
    ce_type TEXT NOT NULL,
    origin TEXT NOT NULL,
    content_type TEXT NOT NULL,
    kind TEXT NOT NULL
) STRICT;
-- How many partitions a topic had when Kafka was reached last, and its id there.
CREATE TABLE topics (
    name TEXT PRIMARY KEY,
    partitions INTEGER NOT NULL,
    topic_id TEXT
) WITHOUT ROWID, STRICT;
-- acknowledged_sequence: rows up to it are in Kafka, as far as `acknowledged` doesn't
-- say more.
-- last_sequence: no sequence at or below it may be given to a new row.
-- holes: how many sequences between those two have no row.
-- floor_offset: nothing that isn't known is in the log before it.
-- resent_sequence: rows up to it were acknowledged once by a log that lost them.
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    acknowledged_sequence INTEGER NOT NULL DEFAULT 0,
    last_sequence INTEGER NOT NULL DEFAULT 0,
    holes INTEGER NOT NULL DEFAULT 0,
    floor_offset INTEGER,
    resent_sequence INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE rows (
    position INTEGER PRIMARY KEY,
    ce_id TEXT NOT NULL,
    envelope INTEGER NOT NULL,
    received_at_us INTEGER NOT NULL,
    key BLOB,
    value BLOB NOT NULL,
    extra BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
-- One row for each run of acknowledged records: sequence first..last are at offset
-- base_offset and the ones after it; below 0: in a log that is gone.
CREATE TABLE acknowledged (
    partition INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    base_offset INTEGER NOT NULL,
    acknowledged_at_us INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (partition, first_sequence)
) WITHOUT ROWID, STRICT;
CREATE INDEX acknowledged_by_age ON acknowledged (acknowledged_at_us);
-- covered_us: what was sent to the account before it had arrived and was written.
-- The others: how often it has asked the status endpoint since its day began.
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    ce_source TEXT NOT NULL UNIQUE,
    covered_us INTEGER,
    quota_since_us INTEGER,
    quota_used INTEGER NOT NULL DEFAULT 0
) STRICT;
-- Jobs whose end was not received. `partition`: of the topic of its events, where it
-- stays though partitions are added.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    key BLOB NOT NULL,
    status TEXT NOT NULL,
    progress TEXT,
    last_seen_us INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    partition INTEGER NOT NULL
) STRICT;
-- Jobs that have ended, and webhooks that were taken: digests, numbered without a hole.
CREATE TABLE ended (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    at_us INTEGER NOT NULL
) STRICT;
-- Webhooks that are held for the socket's own event; `record` is all of a `Record`.
CREATE TABLE held (
    place INTEGER PRIMARY KEY,
    due_us INTEGER NOT NULL,
    ended_us INTEGER,
    record BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE INDEX held_by_due ON held (due_us);
-- Gaps that were opened and not closed, or of which not all is known yet: the values
-- of their records, and how many of their jobs were healed by what.
CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    gap_id TEXT NOT NULL UNIQUE,
    value BLOB NOT NULL,
    healed_by_status_endpoint INTEGER NOT NULL DEFAULT 0,
    healed_by_webhook INTEGER NOT NULL DEFAULT 0
) STRICT;
-- Dead letters whose events became rows here: some 30 bytes each, kept for good.
CREATE TABLE replayed (ce_id TEXT PRIMARY KEY) WITHOUT ROWID, STRICT;
"""

# No space, no writing, no memory, no handles, or a lock that another program holds: the
# file is unchanged, and the error may pass.
# https://sqlite.org/rescode.html
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

# Among those, by their extended code: a page that is gone, a file system or a checksum
# of it that says so itself, and a file that was moved.
_DAMAGES = frozenset(
    {
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
        sqlite3.SQLITE_IOERR_DATA,
        sqlite3.SQLITE_READONLY_DBMOVED,
    }
)


class ManyRows:
    """One INSERT for any number of rows, all their columns one after the other."""

    def __init__(self, head: str, columns: int) -> None:
        self._columns = columns
        places = f"({','.join('?' * columns)})"
        self._statements = {
            size: f"{head} {','.join([places] * size)}" for size in _ROWS_A_STATEMENT
        }

    def run(self, connection: sqlite3.Connection, parameters: Sequence[object]) -> None:
        """Write rows."""
        start, left = 0, len(parameters) // self._columns
        for size, statement in self._statements.items():
            while left >= size:
                end = start + size * self._columns
                connection.execute(statement, parameters[start:end])
                start, left = end, left - size


class Database:
    """
    One outbox's file, open.

    Memory mirrors parts of it, and a transaction changes both: `reload` reads the
    mirrors again where one was rolled back. `outbox_id` is the UUID that the outbox got
    when its file was made.

    Raises:
        OutboxDamagedError: The file can't be read.
        OutboxFormatError: It isn't an outbox, or one of another version.
        OutboxDirectoryError: The disk is full, or refuses the file.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        if sqlite3.sqlite_version_info < _LEAST_SQLITE:
            raise OutboxDirectoryError(
                f"outbox.dir: SQLite {sqlite3.sqlite_version} is too old",
                hint="Use a Python whose SQLite is 3.37 or later (November 2021)",
            )
        self.path = path
        self._is_synced = False
        self.reload: Callable[[], None] = lambda: None
        # SQLite would follow a link, and let everybody read the file.
        os.close(open_own(path))
        try:
            self.connection = sqlite3.connect(
                path,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                # It is opened by one thread and then used by another one only.
                check_same_thread=False,
                # Every insert has one shape for each number of rows.
                cached_statements=64,
            )
            try:
                self._prepare(max_bytes)
            except BaseException:
                self.connection.close()
                raise
        except sqlite3.Error as error:
            meaning = translated(error, path)
            if isinstance(meaning, OutboxFullError):
                raise OutboxDirectoryError(
                    f"outbox.dir: {path} can't be opened ({error})",
                    hint="Check that the disk has space and that this user may write to"
                    " the file",
                ) from error
            raise meaning from error

    def _prepare(self, max_bytes: int) -> None:
        execute = self.connection.execute
        is_new = not check_format(self.connection, self.path)
        if is_new:
            execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        execute("PRAGMA journal_mode = WAL")
        # NORMAL survives the death of the process; a power loss may take the last
        # commits, which resuming by ce_id allows for. https://sqlite.org/pragma.html
        execute("PRAGMA synchronous = NORMAL")
        # Debian builds SQLite so that deleted pages are overwritten with zeros. Then
        # trimming sent all that it frees through the WAL: a disk of 64 MB that was
        # short never got its space back.
        execute("PRAGMA secure_delete = OFF")
        emptied_at = wal_bytes(max_bytes) // 2
        (page_bytes,) = execute("PRAGMA page_size").fetchone()
        self._page_bytes = int(page_bytes)
        self.empty_wal_at(emptied_at)
        # One huge record may make the WAL longer for a while, not for good.
        execute(f"PRAGMA journal_size_limit = {emptied_at}")
        execute("BEGIN IMMEDIATE")
        if is_new:
            for statement in _TABLES.split(";\n"):
                execute(statement)
            execute("INSERT INTO meta VALUES ('outbox', ?)", (str(uuid.uuid4()),))
            execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        # Writing may be refused where reading isn't: better known now than later.
        execute("UPDATE meta SET value = value WHERE name = ''")
        execute("COMMIT")
        # A transaction writes little more than the 4 MiB that the quota grants it, and
        # all its pages may stay in memory until its end. SQLite would keep 2 MB of
        # them, and write a page twice: with previews of 20 KB a tenth of the time.
        execute("PRAGMA cache_spill = OFF")
        # If single statements can be undone, SQLite keeps a journal of each, else in
        # files of /var/tmp: a quarter of all writes at 1,000 events/s, and none where
        # the root is read-only.
        execute("PRAGMA temp_store = MEMORY")
        row = execute("SELECT value FROM meta WHERE name = 'outbox'").fetchone()
        if row is None:
            raise _damaged(self.path, "its UUID is missing")
        self.outbox_id = str(row[0])

    @contextmanager
    def transaction(self, *, is_synced: bool = False) -> Iterator[None]:
        """
        Commit what is done inside as one, or nothing of it.

        If it is synced, it is on the disk itself by its end: no power loss takes it.

        Raises:
            OutboxFullError: The same may succeed later; all is undone.
            OutboxDamagedError: It will not; all is undone.
        """
        execute = self.connection.execute
        try:
            with self.errors():
                if is_synced is not self._is_synced:
                    level = "FULL" if is_synced else "NORMAL"
                    execute(f"PRAGMA synchronous = {level}")
                    self._is_synced = is_synced
                execute("BEGIN IMMEDIATE")
                yield
                execute("COMMIT")
        except BaseException:
            # SQLite itself rolls back on a full disk and some I/O errors.
            with suppress(sqlite3.Error):
                if self.connection.in_transaction:
                    execute("ROLLBACK")
            self.reload()
            raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translate SQLite's errors: see `translated`."""
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    def checkpoint(self) -> None:
        """Empty the WAL into the database and make its file short."""
        with self.errors():
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def empty_wal_at(self, size_bytes: int) -> None:
        """Have each commit empty the WAL that has become so long."""
        pages = max(size_bytes // self._page_bytes, 1)
        self.connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")

    def size_bytes(self) -> tuple[int, int]:
        """Return what the pages take once the WAL is emptied, and the free of them."""
        with self.errors():
            total, free = (
                int(self.connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count")
            )
        return total * self._page_bytes, free * self._page_bytes


def wal_bytes(max_bytes: int) -> int:
    """Return how much of an outbox's size is its WAL's, in bytes."""
    return min(_WAL_BYTES, max_bytes // _WAL_SHARE)


def check_format(connection: sqlite3.Connection, path: Path) -> bool:
    """
    Check that a database is an outbox of this format; gives whether it holds anything.

    Raises:
        OutboxFormatError: It isn't one, and it is whole.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version == application == tables == 0:
        return False
    if application != _APPLICATION_ID:
        raise OutboxFormatError(
            f"outbox.dir: {path} is a database, but no outbox",
            hint="Give the bridge a directory of its own (BRIDGE_OUTBOX_DIR,"
            " --outbox-dir)",
        )
    if version != FORMAT_VERSION:
        raise OutboxFormatError(
            f"outbox.dir: {path} has format {version}, this bridge reads format"
            f" {FORMAT_VERSION}",
            hint="Run the version that wrote it, or give this one a directory of its"
            " own (BRIDGE_OUTBOX_DIR, --outbox-dir)",
        )
    return True


def translated(error: sqlite3.Error, path: Path) -> OutboxError:
    """
    Say in the bridge's terms what an error of the open file means.

    `OutboxFullError` if the same may succeed later, `OutboxDamagedError` if not, and
    just an `OutboxError` where SQLite was asked for nonsense.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Of the module itself: a text that isn't one any more, or a mistake here.
        if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            return OutboxError(f"outbox.dir: {path}: {error}")
        return _damaged(path, error)
    # The low byte is the primary code.
    if code & 0xFF in _REFUSALS and code not in _DAMAGES:
        return OutboxFullError(str(error))
    return _damaged(path, error)


def _damaged(path: Path, reason: object) -> OutboxDamagedError:
    return OutboxDamagedError(f"{path} is not a readable outbox ({reason})")
