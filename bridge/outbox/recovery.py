"""
Recovery at the start: what is readable of a damaged file is copied into a new one.

A running bridge that finds damage marks the file and exits. The next start quarantines
the file, and never writes to it again. It copies waiting rows, jobs, webhooks and gaps
into a file with another UUID. The mark is removed last: it has what another start needs
to continue an interrupted recovery.
"""

from __future__ import annotations

import os
import sqlite3  # noqa: TID251 - the outbox is SQLite
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from bridge.errors import OutboxDamagedError, OutboxDirectoryError, OutboxFullError
from bridge.events.record import Envelope
from bridge.outbox.database import SEQUENCE_BITS, Database
from bridge.outbox.directory import open_own
from bridge.outbox.partitions import Partitions
from bridge.outbox.rows import ROW_COLUMNS, Rows, stored
from bridge.outbox.webhooks import decode_held


__all__ = ["RECOVERED", "Recovered", "mark_damaged", "recover_if_damaged"]

_log = structlog.get_logger("bridge.outbox")

# Under this name the new file has what came of the damaged one.
RECOVERED: Final = "recovered"

# A file damaged by accident is damaged once. One that has to be replaced again so soon
# is on a disk that is dying, and new files would only fill it.
_DYING_SECONDS = 600.0

# The WAL of a database belongs to it. It is moved first: SQLite deletes one that has no
# database, and a database without its WAL would look whole.
_PARTS = ("-wal", "-shm", "")

_ROWS_A_STEP = 500

# After a row that can't be read the next ones are tried one by one: a page of 8 KiB
# holds some 20 rows. Where so many fail (0.2 s), a whole branch is gone.
_TRIES = 20_000

# What is copied beside rows. What has another type by now isn't believed.
_TABLES = (
    *("topics", "accounts", "jobs", "ended", "deliveries", "held", "gaps"),
    "replayed",
)

# All that a start reads, beside the highest row of each partition.
_READ_AT_START = (
    *("meta", "envelopes", "topics", "partitions", "acknowledged"),
    *("accounts", "jobs", "gaps"),
)


class Recovered(msgspec.Struct, frozen=True):
    """What came of a damaged file; in the new one's `meta` until its gap is written."""

    # How many rows and held webhooks could not be read, as far as that is known.
    rows: int
    # Since when events may be missing, if that is known, until the new file was made.
    since_us: int | None
    until_us: int


def mark_damaged(path: Path, error: OutboxDamagedError) -> None:
    """Have the next start replace a file."""
    # A disk that takes not even this fails the next start as well.
    with suppress(OSError, OutboxDirectoryError):
        descriptor = open_own(_mark(path), os.O_TRUNC)
        os.write(descriptor, str(error).encode())
        os.close(descriptor)


def recover_if_damaged(path: Path, max_bytes: int) -> None:
    """
    Replace a file that is damaged, or that was marked.

    Raises:
        OutboxDamagedError: Another one was replaced only just now.
        OutboxDirectoryError: The new file can't be written, or the old one not moved.
        OutboxFormatError: It is whole, but no outbox of this version.
    """
    mark = _mark(path)
    if not mark.exists():
        if not path.exists():
            return
        try:
            _read_all(path, max_bytes)
        except OutboxDamagedError as damage:
            mark_damaged(path, damage)
        else:
            return
    try:
        reason = mark.read_text(errors="replace")
        moment = datetime.fromtimestamp(mark.stat().st_mtime, UTC)
        aside = path.with_name(f"{path.name}.damaged-{moment:%Y%m%dT%H%M%S.%fZ}")
        if path.exists() and not aside.exists():
            _move(path, aside, reason)
        if aside.exists() and not path.exists():
            _copy(aside, max_bytes, reason).rename(path)
            directory = os.open(path.parent, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
        mark.unlink()
    except OSError as error:
        raise OutboxDirectoryError(
            f"outbox.dir: {path} is damaged and can't be moved ({error.strerror})",
            hint="Move it and its -wal away, or choose another directory"
            " (BRIDGE_OUTBOX_DIR, --outbox-dir)",
        ) from error


def _read_all(path: Path, max_bytes: int) -> None:
    """Read all that a start reads."""
    database = Database(path, max_bytes)
    with closing(database.connection), database.errors():
        for table in _READ_AT_START:
            check = database.connection.execute(f"PRAGMA quick_check({table})")
            (found,) = check.fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        Partitions(database.connection).load()


def _move(path: Path, aside: Path, reason: str) -> None:
    """Move a damaged file aside; `OutboxDamagedError` if that was done just now."""
    for other in path.parent.glob(f"{path.name}.damaged-*"):
        # A directory entry is as old as its move.
        age_seconds = time.time() - other.stat().st_ctime
        if age_seconds < _DYING_SECONDS and not other.name.startswith(aside.name):
            raise OutboxDamagedError(
                f"outbox.dir: {path} is damaged ({reason}), and so was the file before"
                " it",
                hint=f"See whether the disk fails; keep both, in {path.parent}",
            )
    for part in _PARTS:
        if (source := path.with_name(path.name + part)).exists():
            source.rename(aside.with_name(aside.name + part))


def _copy(aside: Path, max_bytes: int, reason: str) -> Path:
    """Copy what can be read of a file; gives the copy."""
    fresh = aside.with_name(f"{aside.name.partition('.damaged-')[0]}.new")
    for part in _PARTS:
        fresh.with_name(fresh.name + part).unlink(missing_ok=True)
    try:
        target = Database(fresh, max_bytes)
        with closing(target.connection):
            copy = _Copy(aside, target)
            copy.run()
            target.checkpoint()
    except OutboxFullError as full:
        raise OutboxDirectoryError(
            f"outbox.dir: {aside} is damaged ({reason}), and a copy of what can be read"
            f" can't be written ({full})",
            hint="Check that the disk has space",
        ) from full
    _log.error(
        "outbox.damaged",
        reason=reason,
        set_aside=str(aside),
        rows=copy.rows,
        lost=copy.lost,
        stopped_by=copy.reason,
        advice="a new file is used; keep the old one until you know why",
    )
    return fresh


class _Copy:
    """Copies what can be read."""

    def __init__(self, path: Path, target: Database) -> None:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        self._source = sqlite3.connect(uri, uri=True, isolation_level=None)
        self._target = target
        # How many rows and held webhooks were copied, and how many are lost for sure.
        self.rows = self.lost = 0
        # What ended a table before its end, and when the oldest waiting row was read.
        self.reason: str | None = None
        self.oldest_us: int | None = None

    def run(self) -> None:
        """Copy in steps: all of a transaction's pages are in memory until its end."""
        target = self._target
        with closing(self._source):
            with self._reads():
                # Then a file that is too short is read as far as it goes.
                self._source.execute("PRAGMA writable_schema = ON")
            for table in _TABLES:
                with target.transaction():
                    self._copy_table(table)
            with target.transaction():
                target.connection.execute(
                    "DELETE FROM jobs WHERE account NOT IN (SELECT id FROM accounts)"
                )
            with self._reads():
                self._copy_rows()
        # Where not all was read, the age of the rest is unknown.
        since_us = None if self.reason else self.oldest_us
        recovered = Recovered(self.lost, since_us, time.time_ns() // 1000)
        value = msgspec.json.encode(recovered).decode()
        with target.transaction():
            target.connection.execute(
                "INSERT INTO meta VALUES (?, ?)", (RECOVERED, value)
            )

    def _copy_table(self, table: str) -> None:
        is_held = table == "held"
        for values in self._all_of(table):
            places = ", ".join("?" * len(values))
            statement = f"INSERT OR IGNORE INTO {table} VALUES ({places})"  # noqa: S608
            try:
                if is_held:
                    decode_held(values)
                copied = self._target.connection.execute(statement, values).rowcount
            except sqlite3.DatabaseError as error:
                self.lost += is_held
                self.reason = str(error)
            else:
                self.rows += copied if is_held else 0

    def _all_of(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Give a table's rows; at a damage also those from the other end up to it."""
        for order in ("", " ORDER BY 1 DESC"):
            try:
                yield from self._source.execute(f"SELECT * FROM {table}{order}")  # noqa: S608
            except sqlite3.Error as error:
                self.reason = str(error)
            else:
                break

    def _copy_rows(self) -> None:
        partitions = Partitions(self._target.connection)
        partitions.load()
        rows = Rows(self._target.connection, partitions)
        with self._target.transaction():
            # The next process may commit before it reaches Kafka.
            for topic, entry in partitions.topics.items():
                partitions.open_topic(topic, entry.count, None)
        envelopes = {
            number: Envelope(*values)
            for number, *values in self._source.execute("SELECT * FROM envelopes")
        }
        acknowledged: dict[int, int] = {}
        # Without this table Kafka gets once more what it has, rather than nothing.
        with self._reads():
            acknowledged.update(
                self._source.execute(
                    "SELECT partition, max(last_sequence) FROM acknowledged"
                    " GROUP BY partition"
                )
            )
        for number, topic, partition, known in self._source.execute(
            "SELECT id, topic, partition, acknowledged_sequence FROM partitions"
            " ORDER BY id"
        ).fetchall():
            for found in self._waiting(number, max(known, acknowledged.get(number, 0))):
                records = []
                for values in found:
                    try:
                        records.append(stored(values, 0, envelopes))
                    except sqlite3.DatabaseError as error:
                        self.lost += 1
                        self.reason = str(error)
                with self._target.transaction():
                    if partition >= partitions.count(topic):
                        partitions.open_topic(topic, partition + 1, None)
                    rows.restore(topic, partition, records)
                self.rows += len(records)
                ages = [record.received_at_us for record in records]
                if self.oldest_us is not None:
                    ages.append(self.oldest_us)
                self.oldest_us = min(ages, default=None)

    def _waiting(self, number: int, after: int) -> Iterator[list[tuple[Any, ...]]]:
        """Give a partition's waiting rows in steps, past those that can't be read."""
        position, end = (number << SEQUENCE_BITS) + after, (number + 1) << SEQUENCE_BITS
        count, failed = _ROWS_A_STEP, 0
        while failed < _TRIES:
            try:
                found = self._source.execute(
                    f"SELECT {ROW_COLUMNS} FROM rows"  # noqa: S608 - names of ours
                    " WHERE position > ? AND position < ? ORDER BY position LIMIT ?",
                    (position, end, count),
                ).fetchall()
            except sqlite3.Error as error:
                if count == 1:
                    position, failed = position + 1, failed + 1
                count, self.reason = 1, str(error)
                continue
            if not found:
                break
            self.lost += failed
            position, count, failed = found[-1][0], _ROWS_A_STEP, 0
            yield found
        # How many there were behind the last one that was read, nothing says.
        self.lost += failed if failed < _TRIES else 0

    @contextmanager
    def _reads(self) -> Iterator[None]:
        """Go on where the damaged file can't be read."""
        try:
            yield
        except sqlite3.Error as error:
            self.reason = str(error)


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.is-damaged")
