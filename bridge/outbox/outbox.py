"""
The outbox at work: one thread that owns the file, and the doors to it.

Everything that reaches the disk goes through `Outbox.run`, a loop that makes
one transaction of whatever has gathered: records, acknowledgements, requests.
So a firehose shares its commits and a lone event doesn't wait.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

import structlog

from bridge.errors import OutboxFullError
from bridge.outbox import schema
from bridge.outbox.buffer import Buffer, weigh
from bridge.outbox.directory import OutboxDirectory
from bridge.outbox.lane import Run
from bridge.outbox.lanes import PartitionOf
from bridge.outbox.requests import Requests
from bridge.outbox.room import Room
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.store import Placed, Store
from bridge.record import LaneState, Record, StoredRecord
from bridge.settings import OutboxSettings


__all__ = ["Outbox"]

_log = structlog.get_logger("bridge.outbox")
_T = TypeVar("_T")

# Rows of one transaction, about 5 ms of work each; how many bytes it takes
# `room` says.
_ROWS_A_COMMIT = 2000
_CLAIMED_A_COMMIT = 1000
_TRIMMED_A_COMMIT = 4000

# The loop comes by at least so often: its heartbeat, and the pace of trimming
# and of tries on a full disk.
_IDLE_SECONDS = 1.0

# A full outbox at which rows come and go is told of once: it is full no more
# when it has refused nothing for so long.
_CALM_SECONDS = 3.0


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
        self._buffer = Buffer(settings.buffer_bytes)
        # Taken from the buffer, not yet on disk: (records, their weight).
        self._held: tuple[list[Record], int] = ([], 0)
        self._wake = threading.Event()
        self._acknowledged: deque[tuple[str, int, Run]] = deque()
        self._changes = Requests()
        self._questions = Requests()
        self._on_committed: Callable[[list[Placed]], None] | None = None
        self._on_claimed: Callable[[list[tuple[str, int, int]]], None] | None = None
        self._stopping = False
        self._awaits_room = False
        self._dropping = False
        self._is_short = False
        self._refused_at = 0.0
        self._measured_at = 0.0
        self.statistics = OutboxStatistics()
        connection = schema.open_database(self._path, max_bytes=settings.max_bytes)
        try:
            self.id = schema.outbox_id(connection)
            self._store = Store(connection, schema.new_incarnation())
            self._room = Room(self._path, settings.max_bytes, self._store)
            self._measure()
        except BaseException:
            connection.close()
            raise
        self.statistics.rows_at_start = self.statistics.rows

    # -- The reader's door ----------------------------------------------------

    def offer(self, records: Sequence[Record]) -> None:
        """
        Take records for the next commit; never waits, drops what has no room.

        Args:
            records: In order; not changed by anybody from now on.
        """
        dropped = self._buffer.put(records)
        self.statistics.accepted += len(records) - dropped
        if dropped or self._dropping:
            self._note_drops(dropped)
        # While the thread waits for room, more records are no reason to look.
        if not (self._awaits_room or self._wake.is_set()):
            self._wake.set()

    def is_crowded(self) -> bool:
        """
        Whether it would help if the reader stood back for some milliseconds.

        The buffer is more than half full, and its thread is emptying it. A thread
        that waits for room on disk is not helped: that takes longer.
        """
        return not (self._buffer.is_relaxed or self._awaits_room)

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
        return self._ask(
            lambda store: store.read(topic, partition, after, max_rows, max_bytes)
        )

    def lane_states(self) -> Future[list[LaneState]]:
        """Read the state of every lane."""
        return self._ask(lambda store: store.lane_states())

    def open_topic(
        self,
        topic: str,
        partition_of: PartitionOf,
        opened: dict[int, tuple[int, int]],
    ) -> Future[None]:
        """Let a topic's rows go to lanes from now on: see `Store.open_topic`."""
        future = self._changes.put(
            lambda store: store.open_topic(topic, partition_of, opened)
        )
        self._wake.set()
        return future

    def waiting_topics(self) -> Future[set[str]]:
        """Read for which topics rows wait."""
        return self._ask(lambda store: store.waiting_topics())

    def _ask(self, question: Callable[[Store], _T]) -> Future[_T]:
        future = self._questions.put(question)
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

        What a full disk refuses is kept and tried again; at `stop` it is tried
        once more and then given up, counted.

        Raises:
            OutboxDamagedError: The file can't be read or written any more.
        """
        try:
            while True:
                self._wait()
                stopping = self._stopping
                is_moving = self._round()
                if stopping and not (is_moving and self._buffer.size_bytes):
                    break
        finally:
            self._store.close()
            self._changes.close()
            self._questions.close()
            self._give_up_rest()
            self.statistics.last_beat = 0.0

    def _wait(self) -> None:
        if self._held[0]:
            self._awaits_room = True
            self._wake.wait(_IDLE_SECONDS)
            self._awaits_room = False
        elif not self._buffer:
            self._wake.wait(_IDLE_SECONDS)
        self._wake.clear()

    def _round(self) -> bool:
        """Do one transaction; False if it brought nothing that waits any further."""
        if not self._held[0]:
            self._held = self._buffer.take(_ROWS_A_COMMIT, self._room.step_bytes)
        records, weight = self._held
        fitting = self._room.fit(records, weight) if records else 0
        self._is_short = bool(records) and not fitting
        moved = self._commit_what_fits(records[:fitting])
        # Rows that Kafka has are the first to go; without any it is full.
        if self._is_short and not moved:
            self._note_full(self._room.reason)
        self._answer()
        self._beat()
        left = bool(self._held[0])
        if left and moved:
            self._wake.set()
        return bool(moved) or not left

    def _commit_what_fits(self, records: list[Record]) -> int:
        """Return how many rows came, moved or went."""
        # Where rows are refused, the rest goes on and makes room; where a claim
        # is refused as well, acknowledgements alone do.
        plans = [(records, True)] if records else []
        for part, claims in [*plans, ([], True), ([], False)]:
            try:
                return self._commit(part, claims=claims)
            except OutboxFullError as error:
                self._note_full(str(error))
                # This empties the log, as far as the disk lets it.
                self._room.measure()
        return 0

    def _commit(self, records: list[Record], *, claims: bool) -> int:
        store = self._store
        # The other threads only append to this: what is counted here stays.
        runs = list(self._acknowledged)
        with store.transaction():
            for topic, partition, run in runs:
                store.acknowledge(topic, partition, run)
            placed = store.append(records) if records else []
            results = self._changes.work(store)
            claimed = (
                store.claim(_CLAIMED_A_COMMIT, self._room.step_bytes) if claims else []
            )
            trimmed = self._trim()
        statistics = self.statistics
        for _, _, run in runs:
            self._acknowledged.popleft()
            statistics.acknowledged += run.count
        self._changes.answer(results)
        statistics.rows = store.pending
        statistics.committed += len(records)
        if placed and self._on_committed is not None:
            self._on_committed(placed)
        if claimed:
            self._wake.set()
            if self._on_claimed is not None:
                self._on_claimed(claimed)
        # Last: whoever sees the buffer drained finds everything else done.
        self._release(records)
        return len(records) + len(claimed) + trimmed

    def _trim(self) -> int:
        is_short = self._is_short or self.statistics.full
        keep_us = int(self._settings.keep_acked_seconds * 1_000_000)
        return self._store.trim(
            older_than_us=time.time_ns() // 1000 - keep_us,
            keep_bytes=0 if is_short else self._settings.keep_acked_bytes,
            max_rows=_TRIMMED_A_COMMIT,
            max_bytes=self._room.step_bytes,
        )

    def _release(self, committed: list[Record]) -> None:
        records, weight = self._held
        if len(committed) == len(records):
            self._held = ([], 0)
        else:
            part = sum([weigh(record) for record in committed])
            self._held = (records[len(committed) :], weight - part)
            weight = part
        self._buffer.release(weight)

    def _answer(self) -> None:
        if not self._questions:
            return
        try:
            with self._store.reading():
                results = self._questions.work(self._store)
        except OutboxFullError as error:
            self._note_full(str(error))
        else:
            self._questions.answer(results)

    # -- What it tells --------------------------------------------------------

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._measured_at > _IDLE_SECONDS:
            self._measure()
        statistics = self.statistics
        if not statistics.rows:
            statistics.oldest_received_at_us = None
        if statistics.full and now - self._refused_at > _CALM_SECONDS:
            statistics.full = False
            _log.info("outbox.has_room", path=str(self._path))
        statistics.last_beat = now

    def _measure(self) -> None:
        self._measured_at = time.monotonic()
        self._room.measure()
        statistics = self.statistics
        statistics.rows = self._store.pending
        statistics.bytes = self._room.used_bytes
        # What can't be read now is read the next time.
        with suppress(OutboxFullError), self._store.reading():
            statistics.oldest_received_at_us = self._store.oldest_pending_us()

    def _note_drops(self, dropped: int) -> None:
        statistics = self.statistics
        if dropped:
            cause = "outbox_full" if statistics.full else "overflow"
            statistics.dropped[cause] += dropped
            if not self._dropping:
                self._dropping = True
                _log.error("buffer.overflow", cause=cause)
        elif self._buffer.is_relaxed:
            self._dropping = False
            _log.info("buffer.has_room", dropped=sum(statistics.dropped.values()))

    def _note_full(self, reason: str) -> None:
        self._refused_at = time.monotonic()
        if not self.statistics.full:
            self.statistics.full = True
            _log.error("outbox.full", path=str(self._path), reason=reason)

    def _give_up_rest(self) -> None:
        """Count what was read and will not be written by this process."""
        rest, _ = self._buffer.take(sys.maxsize, sys.maxsize)
        left = len(self._held[0]) + len(rest)
        if left:
            cause = "outbox_full" if self.statistics.full else "outbox_damaged"
            self.statistics.dropped[cause] += left
            _log.error("outbox.gave_up", records=left, cause=cause)
