"""
The outbox at work: one thread that owns the file.

Everything that reaches the disk goes through `Writer.run`, a loop that makes
one transaction of whatever has gathered: records, acknowledgements, requests.
So a firehose shares its commits and a lone event doesn't wait.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from bridge.errors import OutboxFullError
from bridge.outbox import schema
from bridge.outbox.buffer import weigh
from bridge.outbox.inbox import Inbox
from bridge.outbox.room import Room
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.store import Placed, Store
from bridge.record import Record
from bridge.settings import OutboxSettings


__all__ = ["Writer"]

_log = structlog.get_logger("bridge.outbox")

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


class Writer:
    """
    The loop of the outbox's thread, with the file that it writes.

    Args:
        path: The database file.
        settings: The limits.
        inbox: What it works off.
        statistics: What it counts.

    Attributes:
        id: The file's UUID.
        on_committed: Gets the rows of each lane right after their commit.
        on_claimed: Gets (topic, partition, last sequence) of claimed lanes.
        on_replaced: Told when another file is in the damaged one's place.

    Raises:
        OutboxDamagedError: The file is no outbox of this version.
        OutboxDirectoryError: The file can't be opened.
    """

    def __init__(
        self,
        path: Path,
        settings: OutboxSettings,
        inbox: Inbox,
        statistics: OutboxStatistics,
    ) -> None:
        self._path = path
        self._settings = settings
        self._inbox = inbox
        self._statistics = statistics
        # Taken from the buffer, not yet on disk: (records, their weight).
        self._held: tuple[list[Record], int] = ([], 0)
        self.on_committed: Callable[[list[Placed]], None] | None = None
        self.on_claimed: Callable[[list[tuple[str, int, int]]], None] | None = None
        self.on_replaced: Callable[[], None] | None = None
        self._is_short = False
        self._refused_at = 0.0
        self._measured_at = 0.0
        connection = schema.open_database(path, max_bytes=settings.max_bytes)
        try:
            self.id = schema.outbox_id(connection)
            self._store = Store(connection, schema.new_incarnation())
            self._room = Room(path, settings.max_bytes, self._store)
            self._measure()
        except BaseException:
            connection.close()
            raise
        statistics.rows_at_start = statistics.rows

    def run(self) -> None:
        """Work until the inbox says to stop: see `Outbox.run`."""
        try:
            while True:
                self._wait()
                stopping = self._inbox.is_stopping
                is_moving = self._round()
                if stopping and not (is_moving and self._inbox.buffer.size_bytes):
                    break
        finally:
            self._store.close()
            self._inbox.close()
            self._give_up_rest()
            self._statistics.last_beat = 0.0

    # -- One round ------------------------------------------------------------

    def _wait(self) -> None:
        inbox = self._inbox
        if self._held[0]:
            inbox.awaits_room = True
            inbox.wait(_IDLE_SECONDS)
            inbox.awaits_room = False
        elif not inbox.buffer:
            inbox.wait(_IDLE_SECONDS)
        inbox.listen()

    def _round(self) -> bool:
        """Do one transaction; False if it brought nothing that waits any further."""
        if not self._held[0]:
            self._held = self._inbox.buffer.take(_ROWS_A_COMMIT, self._room.step_bytes)
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
            self._inbox.ring()
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
        store, inbox = self._store, self._inbox
        # The other threads only append to these: what is counted here stays. A
        # change comes after all acknowledgements that were there before it.
        changes = len(inbox.changes)
        runs = list(inbox.acknowledged)
        with store.transaction():
            for topic, partition, run in runs:
                store.acknowledge(topic, partition, run)
            placed = store.append(records) if records else []
            results = inbox.changes.work(store, changes)
            placed += store.dead_letters
            claimed = (
                store.claim(_CLAIMED_A_COMMIT, self._room.step_bytes) if claims else []
            )
            trimmed = self._trim()
        statistics = self._statistics
        for _, _, run in runs:
            inbox.acknowledged.popleft()
            statistics.acknowledged += run.count
        inbox.changes.answer(results)
        statistics.rows = store.pending
        statistics.quarantined = store.quarantined
        statistics.committed += len(records)
        if placed and self.on_committed is not None:
            self.on_committed(placed)
        if claimed:
            inbox.ring()
            if self.on_claimed is not None:
                self.on_claimed(claimed)
        # Last: whoever sees the buffer drained finds everything else done.
        self._release(records)
        return len(records) + len(claimed) + trimmed

    def _trim(self) -> int:
        is_short = self._is_short or self._statistics.full
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
        self._inbox.buffer.release(weight)

    def _answer(self) -> None:
        questions = self._inbox.questions
        if not questions:
            return
        try:
            with self._store.reading():
                results = questions.work(self._store)
        except OutboxFullError as error:
            self._note_full(str(error))
        else:
            questions.answer(results)

    # -- What it tells --------------------------------------------------------

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._measured_at > _IDLE_SECONDS:
            self._measure()
        statistics = self._statistics
        if not statistics.rows:
            statistics.oldest_received_at_us = None
        if statistics.full and now - self._refused_at > _CALM_SECONDS:
            statistics.full = False
            _log.info("outbox.has_room", path=str(self._path))
        statistics.last_beat = now

    def _measure(self) -> None:
        self._measured_at = time.monotonic()
        self._room.measure()
        statistics = self._statistics
        statistics.rows = self._store.pending
        statistics.quarantined = self._store.quarantined
        statistics.bytes = self._room.used_bytes
        # What can't be read now is read the next time.
        with suppress(OutboxFullError), self._store.reading():
            statistics.oldest_received_at_us = self._store.oldest_pending_us()

    def _note_full(self, reason: str) -> None:
        self._refused_at = time.monotonic()
        if not self._statistics.full:
            self._statistics.full = True
            _log.error("outbox.full", path=str(self._path), reason=reason)

    def _give_up_rest(self) -> None:
        """Count what was read and will not be written by this process."""
        rest, _ = self._inbox.buffer.take(sys.maxsize, sys.maxsize)
        left = len(self._held[0]) + len(rest)
        if left:
            cause = "outbox_full" if self._statistics.full else "outbox_damaged"
            self._statistics.dropped[cause] += left
            _log.error("outbox.gave_up", records=left, cause=cause)
