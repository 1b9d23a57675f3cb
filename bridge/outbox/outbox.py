"""
The outbox: records in, one transaction for all that has gathered, rows out.

Two threads use it. The trio thread offers and asks; the Kafka thread commits, reads and
acknowledges. `Queue` is what they share.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TypeVar

import msgspec
import structlog

from bridge.errors import OutboxDamagedError, OutboxFullError
from bridge.events.record import Record, StoredRecord
from bridge.outbox.database import Database
from bridge.outbox.directory import OutboxDirectory
from bridge.outbox.jobs import Jobs
from bridge.outbox.pressure import EVENTS_UP_TO, Pressure
from bridge.outbox.queue import Item, Queue, Request, total_weight, weigh
from bridge.outbox.quota import Quota
from bridge.outbox.recovery import (
    RECOVERED,
    Recovered,
    mark_damaged,
    recover_if_damaged,
)
from bridge.outbox.rows import Run
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.store import Store
from bridge.outbox.values import (
    Delivered,
    Delivery,
    Healing,
    Held,
    Loss,
    Memory,
    PartitionState,
    Placed,
    Spent,
)
from bridge.outbox.webhooks import DELIVERY_BYTES
from bridge.settings import OutboxSettings, WebhookSettings


__all__ = ["Outbox"]

_log = structlog.get_logger("bridge.outbox")

_T = TypeVar("_T")

# Rows of one transaction, about 5 ms of work; how many bytes it takes, the quota says.
_ROWS_A_COMMIT = 2000
_TRIMMED_A_COMMIT = 4000

# Acknowledgements are written, and old rows deleted, so often: each touches a page or
# two of every partition. What a crash forgets of them is read from the log again.
_ACKNOWLEDGE_SECONDS = 0.025
_TRIM_SECONDS = 0.1

# Gap records of one transaction: they are written whether there is room or not.
_KEPT_A_COMMIT = 100

# The disk is measured, and what is old is forgotten, so often.
_LOOK_SECONDS = 1.0

# Where there is little room, what is counted in between is too much.
_SHORT_LOOK_SECONDS = 0.1

# A full outbox at which rows come and go is reported once: it is full no more when it
# has refused nothing for so long.
_CALM_SECONDS = 3.0

# The answer of a request that was cancelled before its transaction.
_WITHDRAWN = object()

# Webhooks that were taken, and of which nothing is left but that: 1 GiB of the usual
# 8 GiB. They are there for a day, and must not push events out of a small one.
_DELIVERIES_SHARE = 8


class _Kept(msgspec.Struct, frozen=True):
    """A gap record, and the gaps that are remembered or forgotten with it."""

    record: Record
    opens: str | None
    closes: str | None


class Outbox:
    """
    The outbox of one process, from the opened file to its closing.

    Args:
        directory: The locked directory.
        settings: The limits.
        strip_preview: Gives a record without its preview; None if it has none.
        on_loss: Is told, on the trio thread, of each interval in which records were
            dropped: when it begins and when it is over. It must not wait and must not
            offer; it may `keep`.
        refuse_late: Gives the dead letter of a record that comes after its job's last
            one. None publishes such a record.
        webhook: For how long webhooks are remembered that were taken.

    Attributes:
        id: The UUID that the outbox got when its file was made.
        memory: What the process before left.
        statistics: What is counted.
        wake: Called by any thread when there is something to commit.

    Raises:
        OutboxFormatError: The file is no outbox of this version.
        OutboxDirectoryError: The file can't be opened.
        OutboxDamagedError: The file is damaged, and so was the one before.
    """

    def __init__(  # noqa: PLR0913 - what others do for it, each another thing
        self,
        directory: OutboxDirectory,
        settings: OutboxSettings,
        *,
        strip_preview: Callable[[Record], Record | None] = lambda _: None,
        on_loss: Callable[[Loss], None] = lambda _: None,
        refuse_late: Callable[[Record], Record] | None = None,
        webhook: WebhookSettings | None = None,
    ) -> None:
        self._settings = settings
        self._webhook = webhook or WebhookSettings()
        self.statistics = OutboxStatistics()
        self.wake: Callable[[], None] = lambda: None
        recover_if_damaged(directory.database, settings.max_bytes)
        self._database = Database(directory.database, settings.max_bytes)
        self.id = self._database.outbox_id
        self._store = Store(self._database, settings, self.statistics, refuse_late)
        with self._database.errors():
            self.memory: Memory = self._store.remembered.read()
        self._quota = Quota(self._database, settings.max_bytes)
        self._queue = Queue()
        self._pressure = Pressure(
            self._queue,
            settings.buffer_bytes,
            self.statistics,
            disk_use=lambda: self._quota.use,
            strip_preview=strip_preview,
            on_loss=on_loss,
        )
        # Gap records pass the bounds of buffer and disk.
        self._kept: deque[_Kept] = deque()
        self._acknowledged: deque[tuple[str, int, Run]] = deque()
        self._refused_at = self._looked_at = 0.0
        self._acknowledged_at = self._trimmed_at = 0.0
        self._looks = True
        # Whether nothing at all could be written lately, no acknowledgement either.
        self.is_stuck = False
        self._look()
        self._is_recovered = False
        self._report_recovery(on_loss)

    def _report_recovery(self, on_loss: Callable[[Loss], None]) -> None:
        """Report what a damaged file has lost, until its gap records are committed."""
        with self._database.errors():
            row = self._database.connection.execute(
                "SELECT value FROM meta WHERE name = ?", (RECOVERED,)
            ).fetchone()
        if row is not None:
            found = msgspec.json.decode(row[0], type=Recovered)
            self._is_recovered = True
            self.statistics.lost_rows = found.lost
            cause = "outbox_damaged"
            on_loss(Loss(0, cause, None, found.since_us, found.until_us, found.lost))

    @property
    def jobs(self) -> Jobs:
        """The jobs in flight; any thread may read them."""
        return self._store.jobs

    # -- The trio thread ------------------------------------------------------

    def offer(self, records: Sequence[Record]) -> None:
        """
        Take records for the next commit; never waits, drops what has no room.

        Args:
            records: In order; not changed by their owner from now on.
        """
        self.statistics.accepted += len(records)
        self._pressure.offer(records)
        self.wake()

    @property
    def is_crowded(self) -> bool:
        """Whether it would help if the session stopped reading for a moment."""
        return self._pressure.is_crowded

    def settle(self, *, at_end: bool = False) -> None:
        """Report losses that are over; to be called several times a second."""
        self._pressure.settle(at_end=at_end)

    def keep(
        self, record: Record, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        """
        Take a gap record for the next commit, past the bounds of buffer and disk.

        What the process can't write until its end is logged.

        Args:
            record: Not changed by its owner from now on.
            opens: A gap whose value is remembered from this record on.
            closes: A gap that is forgotten with this record.
        """
        self._kept.append(_Kept(record, opens, closes))
        self.wake()

    def prove(self, covered_us: Mapping[str, int]) -> None:
        """
        Store up to when everything of accounts has arrived, behind what was offered.

        Args:
            covered_us: By `ce_source`, microseconds since the epoch. It may be earlier
                than before: clocks are set back.
        """
        self._ask(lambda store: store.remembered.prove(covered_us))

    def spend(self, spent: Mapping[str, Spent]) -> None:
        """Store what accounts have asked of the status endpoint, by `ce_source`."""
        self._ask(lambda store: store.remembered.spend(spent))

    def heal(self, healing: Healing) -> Future[bool]:
        """
        Write what dryAPI answered about a job, behind all that was offered before.

        Returns:
            Whether it was written: not if an event of its job was received since.
        """
        return self._ask(
            lambda store: store.heal(healing),
            weight=weigh(healing.record),
            is_synced=True,
            is_record=True,
        )

    def take(self, delivery: Delivery) -> Future[bool]:
        """
        Hold a webhook; a power loss doesn't take it from then on.

        Returns:
            Whether it is new. It fails with `OutboxFullError` where there is no room.
        """
        weight = weigh(delivery.record) + DELIVERY_BYTES
        if not self._pressure.has_room(weight):
            refused: Future[bool] = Future()
            refused.set_exception(OutboxFullError(self._quota.reason))
            return refused
        return self._ask(
            lambda store: store.take(delivery),
            weight=weight,
            is_synced=True,
            is_record=True,
            is_impatient=True,
        )

    def held(self, max_rows: int) -> Future[list[Held]]:
        """Read webhooks that are held, those first that are due first."""
        return self._ask(lambda store: store.held(max_rows))

    def release(self, place: int, gap_ids: Sequence[str]) -> Future[bool]:
        """
        Release a webhook that is held, behind all that was offered before.

        Args:
            place: Where it is held.
            gap_ids: Gaps that are healed of its job if it is its last record.

        Returns:
            Whether it was written: not if it reports nothing new, or isn't held.
        """
        return self._ask(lambda store: store.release(place, gap_ids), is_synced=True)

    def replay(self, letters: Mapping[str, Sequence[Record]]) -> Future[set[str]]:
        """Write the records of dead letters, none twice: see `Store.replay`."""
        return self._ask(lambda store: store.replay(letters))

    def replayed(self, ce_ids: Sequence[str]) -> Future[set[str]]:
        """Read which dead letters were replayed: see `Store.replayed`."""
        return self._ask(lambda store: store.replayed(ce_ids))

    def knows(self, topics: Collection[str]) -> bool:
        """Whether records of topics can be committed: Kafka was reached for each."""
        return all(self._store.rows.partition_count(topic) for topic in topics)

    @property
    def is_drained(self) -> bool:
        """Whether everything that came in, gap records too, is committed."""
        return not (self._queue or self._queue.size_bytes or self._kept)

    def _ask(
        self,
        work: Callable[[Store], _T],
        *,
        weight: int = 0,
        is_synced: bool = False,
        is_record: bool = False,
        is_impatient: bool = False,
    ) -> Future[_T]:
        future: Future[_T] = Future()
        if is_record:
            self.statistics.accepted += 1
        self._queue.ask(
            Request(work, future, weight, is_synced, is_record, is_impatient)
        )
        self.wake()
        return future

    # -- The Kafka thread -----------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether a commit would write something other than acknowledgements."""
        return bool(self._queue or self._kept)

    @property
    def has_acknowledgements(self) -> bool:
        """Whether acknowledgements wait for a commit."""
        return bool(self._acknowledged)

    def commit(self) -> list[Placed]:
        """
        Make one transaction of what has gathered, as far as there is room.

        Acknowledgements, old rows that are deleted and gap records always take part:
        they make room, or have some reserved.

        Returns:
            The new rows of each partition.

        Raises:
            OutboxDamagedError: The file can't be read or written any more.
        """
        pause = _SHORT_LOOK_SECONDS if self._quota.use > 1 / 2 else _LOOK_SECONDS
        if time.monotonic() - self._looked_at > pause:
            self._look()
        items = self._queue.take(_ROWS_A_COMMIT, self._quota.step_bytes)
        items = self._admit(items)
        kept = list(islice(self._kept, _KEPT_A_COMMIT))
        if kept and not self.knows({one.record.topic for one in kept}):
            kept = []
        for number, (part, also) in enumerate(((items, kept), ([], kept), ([], []))):
            if number and (part, also) == (items, kept):
                continue
            try:
                self._commit(part, also)
            except OutboxFullError as error:
                self._note_full(str(error))
                if number == 0:
                    self._refuse(items, error)
            else:
                self.is_stuck = False
                return self._store.placed
        self.is_stuck = True
        return []

    def _admit(self, items: list[Item]) -> list[Item]:
        """Keep back what the quota has no room for; what is impatient fails now."""
        weight = sum(
            item.weight if isinstance(item, Request) else item[1] for item in items
        )
        if not weight or self._quota.has_room(weight):
            return items
        self._note_full(self._quota.reason)
        self._refuse(items, OutboxFullError(self._quota.reason))
        return []

    def _refuse(self, items: list[Item], error: OutboxFullError) -> None:
        """Put items back; those that are impatient fail."""
        failed = [
            item for item in items if isinstance(item, Request) and item.is_impatient
        ]
        self._queue.put_back([item for item in items if item not in failed])
        self._queue.release(failed)
        for item in failed:
            self._withdraw(item)
            if item.future.set_running_or_notify_cancel():
                item.future.set_exception(error)

    def _commit(self, items: list[Item], kept: list[_Kept]) -> None:
        store = self._store
        requests = [item for item in items if isinstance(item, Request)]
        results: list[object] = []
        now = time.monotonic()
        acknowledges = now - self._acknowledged_at > _ACKNOWLEDGE_SECONDS
        is_synced = any(one.is_synced for one in requests)
        with self._changing(is_synced=is_synced, acknowledges=acknowledges):
            if acknowledges:
                self._acknowledged_at = now
            if now - self._trimmed_at > _TRIM_SECONDS or self.statistics.full:
                self._trimmed_at = now
                self._trim()
            if kept:
                self._write_gaps(kept)
            for records in self._runs_of(items):
                if isinstance(records, Request):
                    results.append(self._done(records))
                else:
                    store.append(records)
                    store.committed += len(records)
        for _ in kept:
            self._kept.popleft()
        self._is_recovered = self._is_recovered and not kept
        self.statistics.kept += len(kept)
        self._quota.spend(total_weight([one.record for one in kept]))
        self._quota.spend(
            sum(item.weight if isinstance(item, Request) else item[1] for item in items)
        )
        if items:
            self.statistics.committed_at = time.monotonic()
        for request, result in zip(requests, results, strict=True):
            self._answer(request, result)
        # Last: who sees the queue drained finds everything else done.
        self._queue.release(items)

    def _write_gaps(self, kept: Sequence[_Kept]) -> None:
        """Write gap records, and remember or forget their gaps."""
        store = self._store
        store.append([one.record for one in kept])
        for one in kept:
            if one.opens is not None:
                store.remembered.open_gap(one.opens, one.record.value)
            if one.closes is not None:
                store.remembered.close_gap(one.closes)
        if self._is_recovered:
            forget = "DELETE FROM meta WHERE name = ?"
            self._database.connection.execute(forget, (RECOVERED,))

    @staticmethod
    def _runs_of(items: Sequence[Item]) -> Iterator[list[Record] | Request]:
        """Give the records between requests together: they are written as one."""
        gathered: list[Record] = []
        for item in items:
            if not isinstance(item, Request):
                gathered += item[0]
                continue
            if gathered:
                yield gathered
                gathered = []
            yield item
        if gathered:
            yield gathered

    def _done(self, request: Request) -> object:
        """Do what is asked; what can't be done is the answer."""
        if request.future.cancelled():
            return _WITHDRAWN
        try:
            return request.work(self._store)
        except ValueError as error:
            return error

    def _answer(self, request: Request, result: object) -> None:
        if result is _WITHDRAWN or isinstance(result, ValueError):
            self._withdraw(request)
        # Who asked may have stopped waiting meanwhile, also behind what was done.
        if not request.future.set_running_or_notify_cancel():
            return
        if isinstance(result, ValueError):
            request.future.set_exception(result)
        else:
            request.future.set_result(result)

    def _withdraw(self, request: Request) -> None:
        self.statistics.withdrawn += request.is_record

    def _trim(self) -> None:
        settings = self._settings
        # Where there is little room, what Kafka has is deleted first.
        is_short = self.statistics.full or self._quota.use > 1 / 2
        now_us = time.time_ns() // 1000
        self._store.rows.trim(
            older_than_us=now_us - int(settings.keep_acked_seconds * 1_000_000),
            keep_bytes=0 if is_short else settings.keep_acked_bytes,
            max_rows=_TRIMMED_A_COMMIT,
            max_bytes=self._quota.step_bytes,
        )
        if self._looks:
            self._looks = False
            self._store.jobs.expire(now_us)
            kept_us = int(self._webhook.keep_deliveries_seconds * 1_000_000)
            share = self._settings.max_bytes // _DELIVERIES_SHARE // DELIVERY_BYTES
            self._store.webhooks.deliveries.forget(
                now_us - kept_us, min(self._webhook.max_deliveries, share)
            )

    def _look(self) -> None:
        """Measure what changes slowly."""
        now = self._looked_at = time.monotonic()
        self._looks = True
        self._quota.measure()
        statistics = self.statistics
        statistics.bytes = self._quota.used_bytes
        # What can't be read now is read the next time.
        with suppress(OutboxFullError), self._database.errors():
            statistics.oldest_received_at_us = self._store.rows.oldest_waiting_us()
        # Events have no room by then: see `Pressure`.
        if self._quota.use > EVENTS_UP_TO:
            self._note_full(self._quota.reason)
        if statistics.full and now - self._refused_at > _CALM_SECONDS:
            statistics.full = False
            _log.info("outbox.has_room", path=str(self._database.path))

    def _note_full(self, reason: str) -> None:
        self._refused_at = time.monotonic()
        if not self.statistics.full:
            self.statistics.full = True
            path = str(self._database.path)
            _log.error("outbox.full", path=path, reason=reason)

    # -- The Kafka thread: partitions -----------------------------------------

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
        Note in the next commit that rows are in the log side by side.

        Args:
            topic: The topic.
            partition: The partition.
            first_sequence: The row after the last acknowledged one.
            last_sequence: The last row of the run.
            base_offset: The offset of the first row.
            size_bytes: Bytes of the rows' keys and values.
        """
        now_us = time.time_ns() // 1000
        run = Run(first_sequence, last_sequence, base_offset, now_us, size_bytes)
        self._acknowledged.append((topic, partition, run))

    def waiting(self) -> dict[str, int]:
        """Return how many rows of each topic wait, as of the last commit."""
        return self._store.rows.waiting

    def partition_count(self, topic: str) -> int:
        """Return how many partitions a topic had when it was opened last; 0: never."""
        return self._store.rows.partition_count(topic)

    def states(self, topic: str) -> list[PartitionState]:
        """Return what is known of a topic's partitions, acknowledgements included."""
        with self._changing():
            pass
        return self._store.rows.states(topic)

    def read(
        self, topic: str, partition: int, after: int, max_rows: int, max_bytes: int
    ) -> list[StoredRecord]:
        """Read a partition's rows: see `Rows.read`."""
        with self._database.errors():
            return self._store.rows.read(topic, partition, after, max_rows, max_bytes)

    def delivered(
        self, topic: str, partition: int, after: int, max_rows: int
    ) -> list[Delivered]:
        """Read acknowledged rows that are kept: see `Rows.delivered`."""
        with self._database.errors():
            return self._store.rows.delivered(topic, partition, after, max_rows)

    def open_topic(self, topic: str, count: int, topic_id: str | None) -> None:
        """
        Let a topic's records go to so many partitions: see `Rows.open_topic`.

        Raises:
            OutboxFullError: Not now; nothing was changed.
        """
        # Synced: a partition that a power loss takes would begin again at 1, beside
        # what the log has of it.
        with self._changing(is_synced=True):
            self._store.rows.open_topic(topic, count, topic_id)

    def continue_behind(
        self,
        topic: str,
        shown: Mapping[int, tuple[int, int, Collection[str]]],
    ) -> None:
        """
        Continue above what partitions' logs have: see `Rows.open_partition`.

        Args:
            topic: The topic, which is open.
            shown: By partition, the last sequence of this outbox in its log, where the
                log ends, and the ce_ids that weren't known to be there.

        Raises:
            OutboxFullError: Not now; nothing was changed.
        """
        with self._changing():
            for number, (last, end_offset, found) in shown.items():
                self._store.rows.open_partition(topic, number, last, end_offset, found)

    def rewind(
        self, topic: str, partition: int, sequence: int, offset: int, resent: int
    ) -> int:
        """Let rows wait again that the log lost: see `Rows.rewind`."""
        with self._changing():
            return self._store.rows.rewind(topic, partition, sequence, offset, resent)

    def refuse(
        self, topic: str, partition: int, sequence: int, dead_letter: Record | None
    ) -> list[Placed]:
        """
        Replace a partition's first waiting row by a dead letter.

        Args:
            topic: The topic.
            partition: The partition.
            sequence: The row.
            dead_letter: None keeps the row in the file for good, unsent.

        Returns:
            The row of the dead letter.

        Raises:
            OutboxFullError: Not now; nothing was changed.
        """
        stays = dead_letter is None
        with self._changing():
            self._store.rows.drop(topic, partition, sequence, stays=stays)
            self._store.unsendable += stays
            if dead_letter is not None:
                self._store.append([dead_letter])
        return self._store.placed

    @contextmanager
    def _changing(
        self, *, is_synced: bool = False, acknowledges: bool = True
    ) -> Iterator[None]:
        """Do something in a transaction, behind all acknowledgements so far."""
        runs = list(self._acknowledged) if acknowledges else []
        with self._store.transaction(is_synced=is_synced):
            for topic, partition, run in runs:
                self._store.rows.acknowledge(topic, partition, run)
            yield
        for _ in runs:
            self._acknowledged.popleft()

    def mark_damaged(self, error: OutboxDamagedError) -> None:
        """Have the next start replace the file."""
        mark_damaged(self._database.path, error)

    def close(self) -> None:
        """
        Commit what is left, note that the process stops in order, close the file.

        What can't be written is logged: the next start reports it as part of its gap,
        since nothing that was proved behind it is stored.
        """
        self._acknowledged_at = 0.0
        try:
            left = -1
            while self.has_work or self.has_acknowledgements:
                before, left = left, self._queue.size_bytes + len(self._kept)
                if left == before and not self.has_acknowledgements:
                    break
                self.commit()
                if self.is_stuck:
                    break
            if not (self._queue or self._kept):
                with suppress(OutboxFullError), self._store.transaction():
                    self._store.remembered.note_stop()
        finally:
            dropped = len(self._queue.close())
            self.statistics.dropped["outbox_full"] += dropped
            if dropped or self._kept:
                _log.error(
                    "outbox.events_dropped",
                    events=dropped,
                    gap_records=len(self._kept),
                )
            self._database.connection.close()
