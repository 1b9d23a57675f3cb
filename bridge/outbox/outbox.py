"""
The outbox: records in, one transaction for all that has gathered, rows out.

Two threads use it. The trio thread offers and asks; the Kafka thread commits, reads and
acknowledges. `Queue` is what they share.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import groupby, islice
from typing import TypeVar

import structlog

from bridge.errors import OutboxDamagedError, OutboxFullError
from bridge.events.record import Record, StoredRecord
from bridge.outbox.buffer import Buffer, Item, Request, total_weight, weigh
from bridge.outbox.database import Database
from bridge.outbox.directory import OutboxDirectory
from bridge.outbox.jobs import Jobs
from bridge.outbox.partitions import Run
from bridge.outbox.quota import Quota
from bridge.outbox.recovery import mark_damaged, recover_if_damaged
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.store import Kept, Store
from bridge.outbox.values import (
    RETENTION,
    Delivered,
    Delivery,
    Healing,
    Held,
    Loss,
    Memory,
    PartitionState,
    Placed,
    Retention,
    Spent,
)
from bridge.outbox.webhooks import DELIVERY_BYTES
from bridge.settings import OutboxSettings


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

# Gap records of one transaction: they are written even without space.
_KEPT_A_COMMIT = 100

# The disk is measured, and what is old is forgotten, so often.
_LOOK_SECONDS = 1.0

# With little space, what is counted in between is too much.
_SHORT_LOOK_SECONDS = 0.1


class Outbox:
    """
    The outbox of one process, from the opened file to its closing.

    Args:
        directory: The locked directory.
        settings: The limits.
        strip_preview: Gives a record without its preview; None if it has none.
        refuse_late: Gives the dead letter of a record that comes after its job's last
            one. None publishes such a record.
        retention: For how long it keeps what it no longer needs to send.

    Raises:
        OutboxFormatError: The file isn't an outbox of this version.
        OutboxDirectoryError: The file can't be opened.
        OutboxDamagedError: The file is damaged, and so was the one before.
    """

    def __init__(
        self,
        directory: OutboxDirectory,
        settings: OutboxSettings,
        *,
        strip_preview: Callable[[Record], Record | None] = lambda _: None,
        refuse_late: Callable[[Record], Record] | None = None,
        retention: Retention = RETENTION,
    ) -> None:
        self._max_bytes = settings.max_bytes
        self._retention = retention
        self.statistics = OutboxStatistics()
        # Called on the trio thread when an interval begins in which records are
        # dropped, and when it is over. It must not wait nor offer; it may `keep`.
        self.on_loss: Callable[[Loss], None] = lambda _: None
        # Called by any thread when there is something to commit.
        self.wake: Callable[[], None] = lambda: None
        recover_if_damaged(directory.database, settings.max_bytes)
        self._database = Database(directory.database, settings.max_bytes)
        self.id = self._database.outbox_id
        self._store = Store(self._database, retention, self.statistics, refuse_late)
        with self._database.errors():
            self.memory: Memory = self._store.memory()
        self._quota = Quota(self._database, settings.max_bytes)
        self._buffer = Buffer(
            settings.buffer_bytes,
            self.statistics,
            self._quota,
            strip_preview,
            lambda loss: self.on_loss(loss),  # noqa: PLW0108 - it is set later
        )
        # Gap records pass the bounds of buffer and disk.
        self._kept: deque[Kept] = deque()
        self._looked_at = self._acknowledged_at = self._trimmed_at = 0.0
        self._looks = True
        # Whether nothing at all could be written lately, no acknowledgement either.
        self.is_stuck = False
        self._look()
        if self.memory.damage is not None:
            self.statistics.lost_rows = self.memory.damage.records

    @property
    def jobs(self) -> Jobs:
        """The jobs in flight; any thread may read them."""
        return self._store.jobs

    # -- The trio thread ------------------------------------------------------

    def offer(self, records: Sequence[Record]) -> None:
        """Take records for the next commit; never waits, drops what has no space."""
        self.statistics.accepted += len(records)
        self._buffer.offer(records)
        self.wake()

    @property
    def is_crowded(self) -> bool:
        """Whether it would help if the session stopped reading for a moment."""
        return self._buffer.is_crowded

    def report_losses(self, *, at_end: bool = False) -> None:
        """Report losses that are over; to be called several times a second."""
        self._buffer.report_losses(at_end=at_end)

    def keep(
        self, record: Record, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        """
        Take a gap record for the next commit, past the bounds of buffer and disk.

        With it the gap that it `opens` is remembered, and the one that it `closes`
        forgotten. What the process can't write until its end is logged.
        """
        self._kept.append(Kept(record, opens, closes))
        self.wake()

    def prove(self, covered_us: Mapping[str, int]) -> None:
        """Store up to when all of accounts has arrived, as of what was offered."""
        self._ask(lambda store: store.prove(covered_us))

    def spend(self, spent: Mapping[str, Spent]) -> None:
        """Store what accounts have asked of the status endpoint, by `ce_source`."""
        self._ask(lambda store: store.spend(spent))

    def heal(self, healing: Healing) -> Future[bool]:
        """Write what dryAPI answered; False if the job had an event since."""
        return self._ask(
            lambda store: store.heal(healing),
            weight=weigh(healing.record),
            is_synced=True,
        )

    def take(self, delivery: Delivery) -> Future[bool]:
        """
        Hold a webhook, which no power loss takes from then on; gives whether it is new.

        It fails with `OutboxFullError` without space.
        """
        weight = weigh(delivery.record) + DELIVERY_BYTES
        if not self._buffer.has_space(weight):
            refused: Future[bool] = Future()
            refused.set_exception(OutboxFullError(self._quota.reason))
            return refused
        return self._ask(
            lambda store: store.take(delivery),
            weight=weight,
            is_synced=True,
            is_impatient=True,
        )

    def held(self, max_rows: int) -> Future[list[Held]]:
        """Read webhooks that are held, those first that are due first."""
        return self._ask(lambda store: store.webhooks.read(max_rows))

    def release(self, place: int, gap_ids: Sequence[str]) -> Future[bool]:
        """
        Write a webhook that is held; False if it reports nothing new, or isn't held.

        Its job's last record heals gaps.
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
        return all(self._store.partitions.count(topic) for topic in topics)

    @property
    def is_drained(self) -> bool:
        """Whether everything that came in, gap records too, is committed."""
        return not (self._buffer or self._buffer.size_bytes or self._kept)

    def _ask(
        self,
        work: Callable[[Store], _T],
        *,
        weight: int = 0,
        is_synced: bool = False,
        is_impatient: bool = False,
    ) -> Future[_T]:
        future: Future[_T] = Future()
        # What has a weight brings a record.
        self.statistics.accepted += weight > 0
        request = Request(work, future, is_synced, is_impatient)
        self._buffer.put(Item(weight, request=request))
        self.wake()
        return future

    # -- The Kafka thread -----------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether a commit would write something other than acknowledgements."""
        return bool(self._buffer or self._kept)

    @property
    def has_acknowledgements(self) -> bool:
        """Whether acknowledgements wait for a commit."""
        return bool(self._store.acknowledged)

    def commit(self) -> list[Placed]:
        """
        Make one transaction of what has gathered, as far as there is space.

        Acknowledgements, old rows that are deleted and gap records always take part:
        they free space, or have some reserved. Gives the new rows of each partition.
        """
        pause = _SHORT_LOOK_SECONDS if self._quota.use > 1 / 2 else _LOOK_SECONDS
        if time.monotonic() - self._looked_at > pause:
            self._look()
        items = self._buffer.take(_ROWS_A_COMMIT, self._quota.step_bytes)
        weight = sum([item.weight for item in items])
        if weight and not self._quota.has_space(weight):
            self._refuse(items, self._quota.reason)
            items = []
        kept = list(islice(self._kept, _KEPT_A_COMMIT))
        if kept and not self.knows({one.record.topic for one in kept}):
            kept = []
        tries = [(items, kept)]
        if items:
            tries.append(([], kept))
        if kept:
            tries.append(([], []))
        for part, also in tries:
            try:
                self._commit(part, also)
            except OutboxFullError as error:
                self._refuse(part, str(error))
            else:
                self.is_stuck = False
                return self._store.placed
        self.is_stuck = True
        return []

    def _refuse(self, items: list[Item], reason: str) -> None:
        """Put items back, but those that are impatient, which fail."""
        self._quota.refuse(reason)
        self.statistics.full = True
        left = []
        for item in items:
            if item.request is None or not item.request.is_impatient:
                left.append(item)
                continue
            self._buffer.release([item], is_progress=False)
            self._answer(item, OutboxFullError(reason))
        self._buffer.put_back(left)

    def _commit(self, items: list[Item], kept: list[Kept]) -> None:
        store = self._store
        results: list[tuple[Item, object]] = []
        now = time.monotonic()
        acknowledges = now - self._acknowledged_at > _ACKNOWLEDGE_SECONDS
        is_synced = any(one.request and one.request.is_synced for one in items)
        with store.transaction(is_synced=is_synced, acknowledges=acknowledges):
            if acknowledges:
                self._acknowledged_at = now
            # With little space, what Kafka has is deleted first.
            is_short = self._quota.is_full or self._quota.use > 1 / 2
            if is_short or now - self._trimmed_at > _TRIM_SECONDS:
                self._trimmed_at = now
                self._trim(is_short=is_short)
            if kept:
                store.keep(kept)
            # The records between two requests are written as one.
            for request, group in groupby(items, lambda item: item.request):
                if request is None:
                    records = [record for item in group for record in item.records]
                    store.append(records)
                    store.news["committed"] += len(records)
                else:
                    results.append((next(group), request.done(store)))
        for _ in kept:
            self._kept.popleft()
        self.statistics.kept += len(kept)
        weight = sum([item.weight for item in items])
        self._quota.spend(weight + total_weight([one.record for one in kept]))
        for item, result in results:
            self._answer(item, result)
        # Last: who sees the queue drained finds everything else done.
        if items:
            self._buffer.release(items)

    def _answer(self, item: Item, result: object) -> None:
        assert item.request is not None
        is_done = item.request.answer(result)
        self.statistics.withdrawn += item.weight > 0 and not is_done

    def _trim(self, *, is_short: bool) -> None:
        keep = self._retention
        now_us = time.time_ns() // 1000
        self._store.partitions.trim(
            older_than_us=now_us - int(keep.acknowledged_seconds * 1_000_000),
            keep_bytes=0 if is_short else keep.acknowledged_bytes,
            max_rows=_TRIMMED_A_COMMIT,
            max_bytes=self._quota.step_bytes,
        )
        if self._looks:
            self._looks = False
            self._store.jobs.expire(now_us)
            self._store.webhooks.forget(keep, self._max_bytes)

    def _look(self) -> None:
        """Measure what changes slowly."""
        self._looked_at = time.monotonic()
        self._looks = True
        self._quota.measure()
        statistics = self.statistics
        statistics.bytes = self._quota.used_bytes
        # What can't be read now is read the next time.
        with suppress(OutboxFullError), self._database.errors():
            statistics.oldest_received_at_us = self._store.rows.oldest_waiting_us()
        statistics.full = self._quota.is_full

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
        """Note in the next commit that a partition's next rows are in its log."""
        now_us = time.time_ns() // 1000
        run = Run(first_sequence, last_sequence, base_offset, now_us, size_bytes)
        self._store.acknowledged.append((topic, partition, run))

    def waiting(self) -> dict[str, int]:
        """Return how many rows of each topic wait, as of the last commit."""
        return self._store.partitions.waiting

    def states(self, topic: str) -> list[PartitionState]:
        """Return what is known of a topic's partitions, acknowledgements included."""
        with self._store.transaction():
            pass
        return self._store.partitions.states(topic)

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
        Set how many partitions a topic has: see `Partitions.open_topic`.

        This and what follows raise `OutboxFullError` where nothing can be changed.
        """
        # Synced: a partition that a power loss takes would begin again at 1, beside
        # what the log has of it.
        with self._store.transaction(is_synced=True):
            self._store.partitions.open_topic(topic, count, topic_id)

    def continue_behind(
        self, topic: str, shown: Mapping[int, tuple[int, int, Collection[str]]]
    ) -> None:
        """Continue above what logs have: see `Partitions.open_partition`."""
        with self._store.transaction():
            for number, (last, end_offset, found) in shown.items():
                one = self._store.partitions.find(topic, number)
                self._store.partitions.open_partition(one, last, end_offset, found)

    def rewind(
        self, topic: str, partition: int, sequence: int, offset: int, resent: int
    ) -> int:
        """Let rows wait again that the log lost: see `Partitions.rewind`."""
        with self._store.transaction():
            one = self._store.partitions.find(topic, partition)
            return self._store.partitions.rewind(one, sequence, offset, resent)

    def refuse(
        self, topic: str, partition: int, sequence: int, dead_letter: Record | None
    ) -> list[Placed]:
        """Replace the first waiting row by a dead letter; with none it stays unsent."""
        stays = dead_letter is None
        with self._store.transaction():
            one = self._store.partitions.find(topic, partition)
            self._store.partitions.drop(one, sequence, stays=stays)
            self._store.news["unsendable"] += stays
            if dead_letter is not None:
                self._store.append([dead_letter])
        return self._store.placed

    def mark_damaged(self, error: OutboxDamagedError) -> None:
        """Have the next start replace the file."""
        mark_damaged(self._database.path, error)

    def close(self) -> None:
        """Commit what is left, note that the process stops in order, close the file."""
        try:
            before: tuple[int, ...] | None = None
            while (left := self._left()) != before and any(left):
                before, self._acknowledged_at = left, 0.0
                self.commit()
            if not (self._buffer or self._kept):
                with suppress(OutboxFullError), self._store.transaction():
                    self._store.note_stop()
        finally:
            # The next start reports it in its gap: nothing proved behind it is stored.
            dropped = self._buffer.close()
            self.statistics.dropped["outbox_full"] += dropped
            if dropped or self._kept:
                gaps = len(self._kept)
                _log.error("outbox.events_dropped", events=dropped, gap_records=gaps)
            self._database.connection.close()

    def _left(self) -> tuple[int, ...]:
        gap_records, runs = len(self._kept), len(self._store.acknowledged)
        return self._buffer.size_bytes, len(self._buffer), gap_records, runs
