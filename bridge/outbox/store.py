"""
The tables of one outbox, and what is done with them inside a transaction.

`Store.transaction` is the only way to write. After a rollback everything that memory
mirrors is read from the file again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Record
from bridge.outbox.database import Database
from bridge.outbox.jobs import Jobs
from bridge.outbox.memory import Remembered
from bridge.outbox.partitions import Partitions, Run
from bridge.outbox.rows import Rows, checksum
from bridge.outbox.statistics import OutboxStatistics, TopicCounts
from bridge.outbox.values import Delivery, Healing, Placed, Retention
from bridge.outbox.webhooks import Webhooks, is_awaited, is_needed


__all__ = ["Store"]


class Kept(msgspec.Struct, frozen=True):
    """A gap record, and the gaps that are remembered or forgotten with it."""

    record: Record
    opens: str | None
    closes: str | None


class Store:
    """One outbox's tables, and what the transaction that runs has done."""

    def __init__(
        self,
        database: Database,
        retention: Retention,
        statistics: OutboxStatistics,
        refuse_late: Callable[[Record], Record] | None = None,
    ) -> None:
        connection = database.connection
        self._database = database
        self._execute = connection.execute
        self._statistics = statistics
        # What the running transaction has to be counted for, by statistic.
        self.news: Counter[str] = Counter()
        self.partitions = Partitions(connection)
        self.rows = Rows(connection, self.partitions)
        self.remembered = Remembered(connection)
        self.jobs = Jobs(
            connection,
            retention,
            self.news,
            self.remembered.account_number,
            refuse_late,
        )
        self.webhooks = Webhooks(connection)
        # Of rows that are in the log; noted by the next transaction.
        self.acknowledged: deque[tuple[str, int, Run]] = deque()
        # The new rows of the last transaction.
        self.placed: list[Placed] = []
        database.reload = self._load
        with database.errors():
            self._load()
        for topic, waiting in self.partitions.waiting.items():
            statistics.topics[topic] = TopicCounts(found=waiting, waiting=waiting)
        statistics.rows = sum(self.partitions.waiting.values())
        statistics.held = statistics.held_at_start = self.webhooks.count

    def _load(self) -> None:
        self.partitions.load()
        self.rows.load()
        self.remembered.load()
        self.jobs.load()
        self.webhooks.load()

    @contextmanager
    def transaction(
        self, *, is_synced: bool = False, acknowledges: bool = True
    ) -> Iterator[None]:
        """Commit what is done inside, behind acknowledgements: see `Database`."""
        runs = list(self.acknowledged) if acknowledges else []
        self.placed = []
        self.news.clear()
        self.partitions.counts.clear()
        self.jobs.begin()
        with self._database.transaction(is_synced=is_synced):
            self.remembered.note_start()
            for topic, partition, run in runs:
                self.partitions.acknowledge(topic, partition, run)
            yield
            self.jobs.write()
        for _ in runs:
            self.acknowledged.popleft()
        self.jobs.committed()
        with self._statistics.lock:
            self._count()

    def _count(self) -> None:
        statistics = self._statistics
        for name, count in self.news.items():
            if name in statistics.anomalies:
                statistics.anomalies[name] += count
            else:
                setattr(statistics, name, getattr(statistics, name) + count)
        for topic, news in self.partitions.counts.items():
            counts = statistics.topics.setdefault(topic, TopicCounts())
            counts.committed += news.committed
            counts.resent += news.resent
            counts.acknowledged += news.acknowledged
            counts.refused += news.refused
        waiting = self.partitions.waiting
        for topic, rows in waiting.items():
            statistics.topics.setdefault(topic, TopicCounts()).waiting = rows
        statistics.rows = sum(waiting.values())
        statistics.held = self.webhooks.count
        statistics.ended_jobs = self.jobs.ended_count

    # -- In a transaction -----------------------------------------------------

    def append(self, records: Sequence[Record]) -> None:
        """Write records in their order, each judged by the state of its job."""
        sums = [checksum(record.key, record.value, None) for record in records]
        written, jobs, replaced = self.jobs.judge(records, sums)
        for index in replaced:
            sums[index] = checksum(written[index].key, written[index].value, None)
        self.placed += self.rows.append(written, sums, jobs)

    def keep(self, kept: Sequence[Kept]) -> None:
        """Write gap records, and remember or forget their gaps."""
        self.append([one.record for one in kept])
        for one in kept:
            if one.opens is not None:
                self.remembered.open_gap(one.opens, one.record.value)
            if one.closes is not None:
                self.remembered.close_gap(one.closes)
        self.remembered.forget_recovery()

    def heal(self, healing: Healing) -> bool:
        """Write what dryAPI answered; False if its job had events since."""
        if not is_needed(self.jobs, healing):
            self.news["superseded"] += 1
            return False
        self.append([healing.record])
        self.news["committed"] += 1
        self.remembered.heal(healing.gap_ids, "healed_by_status_endpoint")
        return True

    def take(self, delivery: Delivery) -> bool:
        """Hold a webhook; False if it was taken before."""
        is_new = self.webhooks.take(delivery)
        self.news["committed" if is_new else "superseded"] += 1
        return is_new

    def release(self, place: int, gap_ids: Sequence[str]) -> bool:
        """Write a webhook that is held; False if it isn't needed, or held no more."""
        record = self.webhooks.release(place)
        if record is None:
            return False
        if not is_awaited(self.jobs, record):
            self.news["discarded"] += 1
            return False
        self.append([record])
        if record.status in TERMINAL_STATUSES:
            self.remembered.heal(gap_ids, "healed_by_webhook")
        return True

    def replay(self, letters: Mapping[str, Sequence[Record]]) -> set[str]:
        """Write the records of dead letters that weren't replayed yet; gives those."""
        new = letters.keys() - self.replayed(letters)
        self.append(
            [one for ce_id in letters if ce_id in new for one in letters[ce_id]]
        )
        for ce_id in new:
            self._execute("INSERT INTO replayed VALUES (?)", (ce_id,))
        return new

    def replayed(self, ce_ids: Collection[str]) -> set[str]:
        """Return those of the dead letters that were replayed."""
        known = "SELECT 1 FROM replayed WHERE ce_id = ?"
        return {one for one in ce_ids if self._execute(known, (one,)).fetchone()}
