"""
The tables of one outbox, and what is done with them inside a transaction.

`Store.transaction` is the only way to write. After a rollback everything that memory
mirrors is read from the file again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Record
from bridge.outbox.database import Database
from bridge.outbox.jobs import Jobs
from bridge.outbox.memory import Remembered
from bridge.outbox.rows import Rows, checksum
from bridge.outbox.statistics import OutboxStatistics, TopicCounts
from bridge.outbox.values import Delivery, Healing, Held, Placed
from bridge.outbox.webhooks import Webhooks, is_awaited, is_needed
from bridge.settings import OutboxSettings


__all__ = ["Store"]


class Store:
    """
    One outbox's tables.

    Args:
        database: The file.
        settings: How long what is kept.
        statistics: What is counted.
        refuse_late: Gives the dead letter of a record that comes after its job's last
            one; None publishes such a record.

    Attributes:
        rows: Rows and partitions.
        jobs: Jobs in flight, and those that have ended.
        remembered: What the next process needs.
        webhooks: What is held.
        placed: The rows of the transaction that runs.
        committed: How many records it wrote or holds.
        superseded: How many records weren't needed.
        discarded: How many that were held weren't.
        unsendable: How many rows stay in the file for good.
    """

    def __init__(
        self,
        database: Database,
        settings: OutboxSettings,
        statistics: OutboxStatistics,
        refuse_late: Callable[[Record], Record] | None = None,
    ) -> None:
        connection = database.connection
        self._database = database
        self._execute = connection.execute
        self._statistics = statistics
        self.rows = Rows(connection)
        self.remembered = Remembered(connection)
        self.jobs = Jobs(
            connection,
            settings,
            statistics,
            self.remembered.account_number,
            refuse_late,
        )
        self.webhooks = Webhooks(connection)
        self.placed: list[Placed] = []
        self.committed = self.superseded = 0
        self.discarded = self.unsendable = 0
        database.reload = self._load
        with database.errors():
            self._load()
        for topic, waiting in self.rows.waiting.items():
            statistics.topics[topic] = TopicCounts(found=waiting, waiting=waiting)
        statistics.rows = sum(self.rows.waiting.values())
        statistics.held = statistics.held_at_start = self.webhooks.count

    def _load(self) -> None:
        for mirror in (self.rows, self.remembered, self.jobs, self.webhooks):
            mirror.load()

    @contextmanager
    def transaction(self, *, is_synced: bool = False) -> Iterator[None]:
        """
        Commit what is done inside as one, or nothing of it: see `Database`.

        Raises:
            OutboxFullError: The same may succeed later; all is undone.
            OutboxDamagedError: It will not; all is undone.
        """
        self.placed = []
        self.committed = self.superseded = 0
        self.discarded = self.unsendable = 0
        self.rows.counts = {}
        self.jobs.begin()
        with self._database.transaction(is_synced=is_synced):
            self.remembered.note_start()
            yield
            self.jobs.write()
        self.jobs.committed()
        with self._statistics.lock:
            self._count()

    def _count(self) -> None:
        statistics = self._statistics
        statistics.committed += self.committed
        statistics.superseded += self.superseded
        statistics.discarded += self.discarded
        statistics.unsendable += self.unsendable
        for topic, news in self.rows.counts.items():
            counts = statistics.topics.setdefault(topic, TopicCounts())
            counts.committed += news.committed
            counts.resent += news.resent
            counts.acknowledged += news.acknowledged
            counts.refused += news.refused
        waiting = self.rows.waiting
        for topic, rows in waiting.items():
            statistics.topics.setdefault(topic, TopicCounts()).waiting = rows
        statistics.rows = sum(waiting.values())
        statistics.held = self.webhooks.count

    # -- In a transaction -----------------------------------------------------

    def append(self, records: Sequence[Record]) -> None:
        """Write records in their order, each judged by the state of its job."""
        sums = [checksum(record.key, record.value, None) for record in records]
        written, jobs, replaced = self.jobs.judge(records, sums)
        for index in replaced:
            sums[index] = checksum(written[index].key, written[index].value, None)
        self.placed += self.rows.append(written, sums, jobs)

    def heal(self, healing: Healing) -> bool:
        """Write what dryAPI answered; False if its job was heard of since."""
        if not is_needed(self.jobs, healing):
            self.superseded += 1
            return False
        self.append([healing.record])
        self.committed += 1
        self.remembered.heal(healing.gap_ids, "healed_by_status_endpoint")
        return True

    def take(self, delivery: Delivery) -> bool:
        """Hold a webhook; False if it was taken before."""
        is_new = self.webhooks.take(delivery)
        self.committed += is_new
        self.superseded += not is_new
        return is_new

    def release(self, place: int, gap_ids: Sequence[str]) -> bool:
        """Write a webhook that is held; False if it isn't needed, or held no more."""
        record = self.webhooks.release(place)
        if record is None:
            return False
        if not is_awaited(self.jobs, record):
            self.discarded += 1
            return False
        self.append([record])
        if record.status in TERMINAL_STATUSES:
            self.remembered.heal(gap_ids, "healed_by_webhook")
        return True

    def held(self, max_rows: int) -> list[Held]:
        """Return the webhooks that are held, in the order in which they are due."""
        return self.webhooks.read(max_rows)

    def replay(self, letters: Mapping[str, Sequence[Record]]) -> set[str]:
        """
        Write the records of dead letters; none is written twice.

        Returns:
            The letters, by their `ce_id`, that were not replayed before.
        """
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
