"""
The tables of one outbox, and its transactions.

Only `Store.transaction` writes. After a rollback, what memory mirrors is read from the
file again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import msgspec

from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Record
from bridge.outbox.database import Database
from bridge.outbox.jobs import Jobs
from bridge.outbox.partitions import Partitions, Run
from bridge.outbox.recovery import RECOVERED, Recovered
from bridge.outbox.rows import Rows, checksum
from bridge.outbox.statistics import OutboxStatistics, TopicCounts
from bridge.outbox.values import (
    Delivery,
    Healing,
    LeftGap,
    Loss,
    Memory,
    Placed,
    Retention,
    Spent,
)
from bridge.outbox.webhooks import Webhooks, is_awaited, is_needed


__all__ = ["Store"]

# Under this name a process that stops in order says so.
_STOPPED = "stopped"


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
        self.jobs = Jobs(
            connection, retention, self.news, self._account_number, refuse_late
        )
        self.webhooks = Webhooks(connection)
        # Of rows that are in the log; noted by the next transaction.
        self.acknowledged: deque[tuple[str, int, Run]] = deque()
        # The new rows of the last transaction.
        self.placed: list[Placed] = []
        self._is_stopped = False
        # What a damaged file has lost, until its gap records are committed.
        self.recovered: Recovered | None = None
        self._accounts: dict[str, int] = {}
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
        self.jobs.load()
        self.webhooks.load()
        self._accounts = dict(self._execute("SELECT ce_source, id FROM accounts"))
        meta = dict(self._execute("SELECT name, value FROM meta"))
        self._is_stopped = _STOPPED in meta
        value = meta.get(RECOVERED)
        self.recovered = value and msgspec.json.decode(value, type=Recovered)

    def memory(self) -> Memory:
        """Return what the process before has left."""
        proved, spent = {}, {}
        for ce_source, covered_us, since_us, used in self._execute(
            "SELECT ce_source, covered_us, quota_since_us, quota_used FROM accounts"
        ):
            if covered_us is not None:
                proved[ce_source] = covered_us
            if since_us is not None:
                spent[ce_source] = Spent(since_us, used)
        gaps = self._execute(
            "SELECT value, healed_by_status_endpoint, healed_by_webhook"
            " FROM gaps ORDER BY id"
        )
        left_gaps = tuple(LeftGap(*values) for values in gaps)
        damage = None
        if (lost := self.recovered) is not None:
            times = lost.since_us, lost.until_us
            damage = Loss(0, "outbox_damaged", None, *times, lost.rows)
        return Memory(proved, self._is_stopped, left_gaps, spent, damage)

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
            if self._is_stopped:
                self._execute("DELETE FROM meta WHERE name = ?", (_STOPPED,))
                self._is_stopped = False
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
                # How much of a known one was healed is kept.
                self._execute(
                    "INSERT INTO gaps (gap_id, value) VALUES (?, ?)"
                    " ON CONFLICT (gap_id) DO UPDATE SET value = excluded.value",
                    (one.opens, one.record.value),
                )
            self._execute("DELETE FROM gaps WHERE gap_id = ?", (one.closes,))
        if self.recovered is not None:
            self._execute("DELETE FROM meta WHERE name = ?", (RECOVERED,))
            self.recovered = None

    def prove(self, covered_us: Mapping[str, int]) -> None:
        """Write up to when everything of accounts has arrived; it may be earlier."""
        for ce_source, us in covered_us.items():
            self._execute(
                "UPDATE accounts SET covered_us = ? WHERE id = ?",
                (us, self._account_number(ce_source)),
            )

    def spend(self, spent: Mapping[str, Spent]) -> None:
        """Write what accounts have asked, in place of what they had before."""
        for ce_source, asked in spent.items():
            self._execute(
                "UPDATE accounts SET quota_since_us = ?, quota_used = ? WHERE id = ?",
                (asked.since_us, asked.calls, self._account_number(ce_source)),
            )

    def note_stop(self) -> None:
        """Write that the process stops in order."""
        self._execute("INSERT OR REPLACE INTO meta VALUES (?, '')", (_STOPPED,))
        self._is_stopped = True

    def heal(self, healing: Healing) -> bool:
        """Write what dryAPI answered; False if its job had events since."""
        if not is_needed(self.jobs, healing):
            self.news["superseded"] += 1
            return False
        self.append([healing.record])
        self.news["committed"] += 1
        self._heal_gaps(healing.gap_ids, "healed_by_status_endpoint")
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
            self._heal_gaps(gap_ids, "healed_by_webhook")
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

    def _heal_gaps(
        self,
        gap_ids: Sequence[str],
        by: Literal["healed_by_status_endpoint", "healed_by_webhook"],
    ) -> None:
        """Count that a job of gaps is healed; unknown gaps are ignored."""
        for gap_id in gap_ids:
            self._execute(
                f"UPDATE gaps SET {by} = {by} + 1 WHERE gap_id = ?",  # noqa: S608
                (gap_id,),
            )

    def _account_number(self, ce_source: str) -> int:
        """Return an account's number, adding the account if it is new."""
        number = self._accounts.get(ce_source)
        if number is None:
            number = max(self._accounts.values(), default=0) + 1
            self._execute(
                "INSERT INTO accounts (id, ce_source) VALUES (?, ?)",
                (number, ce_source),
            )
            self._accounts[ce_source] = number
        return number
