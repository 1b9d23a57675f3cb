"""
The outbox at work: one thread that owns the file, and the doors to it.

Everything that reaches the disk goes through `Outbox.run`, a loop that makes
one transaction of whatever has gathered: records, acknowledgements, requests.
So a firehose shares its commits and a lone event doesn't wait.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import msgspec
import structlog

from bridge.errors import OutboxDamagedError
from bridge.outbox import schema
from bridge.outbox.buffer import Buffer
from bridge.outbox.directory import OutboxDirectory
from bridge.outbox.lane import Run
from bridge.outbox.store import Placed, Store
from bridge.record import LaneState, Record, StoredRecord
from bridge.settings import OutboxSettings


__all__ = ["Outbox", "OutboxStatistics"]

_log = structlog.get_logger("bridge.outbox")
_T = TypeVar("_T")

# One transaction takes at most this, so that acknowledgements and requests wait
# no longer than some 10 ms behind a full buffer.
_ROWS_A_COMMIT = 2000
_BYTES_A_COMMIT = 4 * 2**20

# Rows claimed or trimmed in one transaction: about 5 ms of work.
_CLAIMED_A_COMMIT = 1000
_TRIMMED_A_COMMIT = 4000

# The loop comes by at least so often: its heartbeat, and the pace of trimming
# and of tries on a full disk.
_IDLE_SECONDS = 1.0


class OutboxStatistics(msgspec.Struct):
    """
    What the outbox counts; its thread writes, anybody reads.

    Attributes:
        rows: Rows that wait for their acknowledgement.
        rows_at_start: Rows that waited when this process opened the file.
        bytes: Size of the database and its log on disk.
        oldest_received_at_us: When the oldest waiting row was read.
        accepted: Records that the buffer took.
        committed: Records that were committed.
        acknowledged: Rows that Kafka acknowledged.
        dropped: Records that found no room, by cause.
        full: Whether the disk or the limit refuses rows just now.
        last_beat: `time.monotonic` of the loop's last round.
    """

    rows: int = 0
    rows_at_start: int = 0
    bytes: int = 0
    oldest_received_at_us: int | None = None
    accepted: int = 0
    committed: int = 0
    acknowledged: int = 0
    dropped: dict[str, int] = msgspec.field(default_factory=lambda: {"overflow": 0})
    full: bool = False
    last_beat: float = 0.0


class Outbox:
    """
    The outbox of one process, from the opened file to its closing.

    `offer` belongs to the reader's thread, `run` to a thread of its own; all
    other methods may be called from any.

    Args:
        directory: The locked directory.
        settings: The limits.

    Raises:
        OutboxDamagedError: The file is no outbox of this version.
        OutboxDirectoryError: The file can't be opened.
    """

    def __init__(self, directory: OutboxDirectory, settings: OutboxSettings) -> None:
        self._path = directory.database
        self._settings = settings
        connection = schema.open_database(self._path, max_bytes=settings.max_bytes)
        self.id = schema.outbox_id(connection)
        self._store = Store(connection, schema.new_incarnation())
        self._buffer = Buffer(settings.buffer_bytes)
        self._wake = threading.Event()
        self._acknowledged: deque[tuple[str, int, Run]] = deque()
        self._requests: deque[tuple[Callable[[Store], Any], Future[Any]]] = deque()
        self._on_committed: Callable[[list[Placed]], None] | None = None
        self._on_claimed: Callable[[list[tuple[str, int, int]]], None] | None = None
        self._stopping = False
        self._dropping = False
        self.statistics = OutboxStatistics(last_beat=time.monotonic())
        self._measure()
        self.statistics.rows_at_start = self.statistics.rows

    # -- The reader's door ----------------------------------------------------

    def offer(self, records: Sequence[Record]) -> None:
        """Take records for the next commit; never waits, drops what has no room."""
        dropped = self._buffer.put(records)
        self.statistics.accepted += len(records) - dropped
        if dropped:
            self._note_drop(dropped)
        elif self._dropping:
            self._dropping = False
            _log.info("buffer.has_room", dropped=self.statistics.dropped["overflow"])
        if not self._wake.is_set():
            self._wake.set()

    # -- The relay's doors ----------------------------------------------------

    def subscribe(
        self,
        on_committed: Callable[[list[Placed]], None],
        on_claimed: Callable[[list[tuple[str, int, int]]], None],
    ) -> None:
        """
        Name who is told of new rows; both are called on the outbox's thread.

        Args:
            on_committed: Gets the rows of each lane right after their commit.
            on_claimed: Gets (topic, partition, last sequence) of lanes that
                were given rows which waited without one.
        """
        self._on_committed, self._on_claimed = on_committed, on_claimed

    def acknowledge(  # noqa: PLR0913, PLR0917 - one call a batch, no object
        self,
        topic: str,
        partition: int,
        first_sequence: int,
        last_sequence: int,
        base_offset: int,
        size_bytes: int,
    ) -> None:
        """
        Note in the next commit that rows stand in the log side by side.

        Args:
            topic: The lane's topic.
            partition: The lane's partition.
            first_sequence: The row after the last acknowledged one.
            last_sequence: The last row of the run.
            base_offset: The offset of the first row.
            size_bytes: Bytes of the rows' keys and values.
        """
        now_us = time.time_ns() // 1000
        run = Run(first_sequence, last_sequence, base_offset, now_us, size_bytes)
        self._acknowledged.append((topic, partition, run))
        if not self._wake.is_set():
            self._wake.set()

    def read(
        self, topic: str, partition: int, after: int, max_rows: int, max_bytes: int
    ) -> Future[list[StoredRecord]]:
        """Read a lane's rows after a sequence: see `Store.read`."""
        return self.request(
            lambda store: store.read(topic, partition, after, max_rows, max_bytes)
        )

    def lane_states(self) -> Future[list[LaneState]]:
        """Read the state of every lane."""
        return self.request(lambda store: store.lane_states())

    def open_topic(
        self,
        topic: str,
        partition_of: Callable[[bytes | None], int],
        opened: dict[int, tuple[int, int]],
    ) -> Future[None]:
        """Let a topic's rows go to lanes from now on: see `Store.open_topic`."""
        return self.request(lambda store: store.open_topic(topic, partition_of, opened))

    def waiting_topics(self) -> Future[set[str]]:
        """Read for which topics rows wait."""
        return self.request(lambda store: store.waiting_topics())

    def request(self, work: Callable[[Store], _T]) -> Future[_T]:
        """Have work done on the outbox's thread, inside its next transaction."""
        future: Future[_T] = Future()
        self._requests.append((work, future))
        self._wake.set()
        return future

    # -- The thread -----------------------------------------------------------

    def stop(self) -> None:
        """Let `run` commit what has gathered, close the file and return."""
        self._stopping = True
        self._wake.set()

    @property
    def drained(self) -> bool:
        """Whether the buffer is empty and everything in it committed."""
        return self._buffer.size_bytes == 0

    def run(self) -> None:
        """
        Work until `stop`; belongs to a thread of its own.

        Raises:
            OutboxDamagedError: The file can't be read or written any more.
        """
        try:
            while True:
                self._wake.wait(0.0 if self._buffer else _IDLE_SECONDS)
                self._wake.clear()
                stopping = self._stopping
                fits = self._round()
                if stopping and (not fits or not self._buffer):
                    break
        except sqlite3.DatabaseError as error:
            raise OutboxDamagedError(
                f"outbox.dir: {self._path} failed ({error}); what Kafka has not got"
                " stays in the file"
            ) from error
        finally:
            self._store.close()
            for _, future in self._requests:
                future.cancel()

    def _round(self) -> bool:
        """Do one transaction; False if the disk or the limit refuses it."""
        records, weight = self._buffer.take(_ROWS_A_COMMIT, _BYTES_A_COMMIT)
        while not self._try_commit(records):
            # Acknowledgements and requests go on, and make room: rows that
            # Kafka has are the first to go.
            if not self._try_commit([]) or self._stopping:
                time.sleep(_IDLE_SECONDS)
            else:
                self._wake.wait(_IDLE_SECONDS)
                self._wake.clear()
            self._beat()
            if self._stopping:
                return False
        self._note_room()
        self._buffer.release(weight)
        self.statistics.committed += len(records)
        self._beat()
        return True

    def _try_commit(self, records: list[Record]) -> bool:
        try:
            self._commit(records)
        except sqlite3.OperationalError as error:
            if not _is_refusal(error):
                raise
            self._note_full(error)
            return False
        return True

    def _commit(self, records: list[Record]) -> None:
        store = self._store
        # The other threads only append to these: what is counted here stays.
        runs = list(self._acknowledged)
        requests = list(self._requests)
        with store.transaction():
            for topic, partition, run in runs:
                store.acknowledge(topic, partition, run)
            placed = store.append(records) if records else []
            results = [work(store) for work, _ in requests]
            claimed = store.claim(_CLAIMED_A_COMMIT)
            self._trim()
        for _ in runs:
            self._acknowledged.popleft()
        for result in results:
            self._requests.popleft()[1].set_result(result)
        self.statistics.acknowledged += sum(
            [run.last_sequence - run.first_sequence + 1 for _, _, run in runs]
        )
        if placed and self._on_committed is not None:
            self._on_committed(placed)
        if claimed:
            self._wake.set()
            if self._on_claimed is not None:
                self._on_claimed(claimed)

    def _trim(self) -> None:
        keep_us = int(self._settings.keep_acked_seconds * 1_000_000)
        self._store.trim(
            older_than_us=time.time_ns() // 1000 - keep_us,
            keep_bytes=0 if self.statistics.full else self._settings.keep_acked_bytes,
            max_rows=_TRIMMED_A_COMMIT,
        )

    # -- What it tells --------------------------------------------------------

    def _beat(self) -> None:
        now = time.monotonic()
        self.statistics.rows = self._store.pending
        if now - self._measured_at > _IDLE_SECONDS:
            self._measure()
        self.statistics.last_beat = now

    def _measure(self) -> None:
        self._measured_at = time.monotonic()
        statistics = self.statistics
        statistics.rows = self._store.pending
        statistics.oldest_received_at_us = self._store.oldest_pending_us()
        log = self._path.with_name(self._path.name + "-wal")
        try:
            log_bytes = log.stat().st_size
        except OSError:
            log_bytes = 0
        statistics.bytes = self._store.size_bytes + log_bytes

    def _note_drop(self, dropped: int) -> None:
        self.statistics.dropped["overflow"] += dropped
        if not self._dropping:
            self._dropping = True
            _log.error("buffer.overflow", outbox_full=self.statistics.full)

    def _note_full(self, error: sqlite3.OperationalError) -> None:
        if not self.statistics.full:
            self.statistics.full = True
            _log.error("outbox.full", path=str(self._path), reason=str(error))

    def _note_room(self) -> None:
        if self.statistics.full:
            self.statistics.full = False
            _log.info("outbox.has_room", path=str(self._path))


def _is_refusal(error: sqlite3.OperationalError) -> bool:
    """Whether the error may go away by itself: no room, no writing, no handles."""
    # https://sqlite.org/rescode.html: the low byte is the primary code.
    primary = error.sqlite_errorcode & 0xFF
    return primary in {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }
