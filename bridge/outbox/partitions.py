"""
Partitions: how far the rows of each are known to be in its log.

Memory mirrors the tables `topics`, `partitions` and `acknowledged`. Call all methods
that write inside a transaction.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - the outbox is SQLite
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from itertools import count

import msgspec

from bridge.outbox.database import SEQUENCE_BITS
from bridge.outbox.partitioner import partitioner
from bridge.outbox.statistics import TopicCounts
from bridge.outbox.values import PartitionState


__all__ = ["Partition", "Partitions", "Run"]

_MAX_SEQUENCE = (1 << SEQUENCE_BITS) - 1

# Far enough below 0 for any run to end there.
_GONE_OFFSET = -_MAX_SEQUENCE - 1

# A run is trimmed by one statement: 1,000 small rows take about 1 ms.
_RUN_ROWS = 1000
_RUN_SPAN_US = 1_000_000

# Where each acknowledgement is a run of its own (offsets with holes between them), a
# run costs about 30 us to trim: no more than 5 ms at a time.
_RUNS_A_TRIM = 150

# What a row takes beside its key and value.
_ROW_BYTES = 100


class Run(msgspec.Struct, frozen=True, gc=False):
    """Records acknowledged side by side, since a moment: dense in both numbers."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    acknowledged_at_us: int
    size_bytes: int

    @property
    def count(self) -> int:
        """How many records."""
        return self.last_sequence - self.first_sequence + 1


class Partition(msgspec.Struct, eq=False):
    """What the outbox knows of one partition; the columns of its table, in order."""

    number: int
    topic: str
    partition: int
    acknowledged: int = 0
    last: int = 0
    holes: int = 0
    floor_offset: int | None = None
    resent: int = 0

    @property
    def base(self) -> int:
        """The position before its first row."""
        return self.number << SEQUENCE_BITS

    @property
    def end(self) -> int:
        """The last position that a row may have."""
        return self.base + _MAX_SEQUENCE

    @property
    def waiting(self) -> int:
        """How many rows wait for their acknowledgement."""
        return self.last - self.acknowledged - self.holes


class Topic(msgspec.Struct):
    """A topic as Kafka had it last, and how a key finds its partition."""

    partition_of: Callable[[bytes | None], int]
    count: int = 0
    topic_id: str | None = None
    partitions: dict[int, Partition] = msgspec.field(default_factory=dict)


class Partitions:
    """The tables `topics`, `partitions` and `acknowledged`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self.topics: dict[str, Topic] = {}
        self._kept_bytes = self._last_number = 0
        # What became of rows in the transaction that runs, by topic.
        self.counts: defaultdict[str, TopicCounts] = defaultdict(TopicCounts)

    def load(self) -> None:
        """Read what memory mirrors, at the start and after a rollback."""
        self.counts.clear()
        self.topics = {
            name: Topic(partitioner(count), count, topic_id)
            for name, count, topic_id in self._execute("SELECT * FROM topics")
        }
        by_number: dict[int, Partition] = {}
        for values in self._execute("SELECT * FROM partitions"):
            one = by_number[values[0]] = Partition(*values)
            self.topics[one.topic].partitions[one.partition] = one
        for number, last_sequence in self._execute(
            "SELECT partition, max(last_sequence) FROM acknowledged GROUP BY partition"
        ):
            one = by_number[number]
            one.acknowledged = max(one.acknowledged, last_sequence)
        self._last_number = max(by_number, default=0)
        self._measure()
        for one in self:
            (last,) = self._execute(
                "SELECT max(position) FROM rows WHERE position BETWEEN ? AND ?",
                (one.base, one.end),
            ).fetchone()
            one.last = max(one.last, one.acknowledged, (last or 0) - one.base)

    def __iter__(self) -> Iterator[Partition]:
        """Go through all partitions of all topics."""
        for topic in self.topics.values():
            yield from topic.partitions.values()

    def find(self, topic: str, number: int) -> Partition:
        """Return a partition of a topic that was opened."""
        return self.topics[topic].partitions[number]

    @property
    def waiting(self) -> dict[str, int]:
        """How many rows of each topic wait for their acknowledgement."""
        waiting: Counter[str] = Counter()
        for partition in self:
            waiting[partition.topic] += partition.waiting
        return waiting

    def count(self, topic: str) -> int:
        """Return how many partitions a topic had when it was opened last; 0: never."""
        return self.topics[topic].count if topic in self.topics else 0

    def states(self, topic: str) -> list[PartitionState]:
        """Return what is known of a topic's partitions."""
        if topic not in self.topics:
            return []
        topic_id = self.topics[topic].topic_id
        states = []
        for one in self.topics[topic].partitions.values():
            resume_offset, resume_ce_id = self._resume_point(one)
            states.append(
                PartitionState(
                    topic=topic,
                    partition=one.partition,
                    acknowledged_sequence=one.acknowledged,
                    last_sequence=one.last,
                    waiting=one.waiting,
                    resume_offset=resume_offset,
                    resume_ce_id=resume_ce_id,
                    resent_sequence=one.resent,
                    topic_id=topic_id,
                )
            )
        return states

    def _resume_point(self, partition: Partition) -> tuple[int | None, str | None]:
        """Return where reading the log resumes, and whose record is there."""
        found = self._execute(
            "SELECT base_offset + last_sequence - first_sequence,"
            " (SELECT ce_id FROM rows WHERE position = ? + last_sequence)"
            " FROM acknowledged WHERE partition = ?"
            " ORDER BY first_sequence DESC LIMIT 1",
            (partition.base, partition.number),
        ).fetchone()
        floor = partition.floor_offset
        # The floor is higher where the log lost what had been acknowledged after that
        # row: what is between was written before the loss was noticed.
        if found is None or found[0] < 0 or (floor is not None and floor > found[0]):
            return floor, None
        return found[0], found[1]

    # -- Topics as Kafka has them ---------------------------------------------

    def open_topic(self, topic: str, count: int, topic_id: str | None) -> None:
        """
        Let a topic's records go to so many partitions from now on.

        Where its id in Kafka is another one than before, what was acknowledged counts
        as delivered, and offsets begin at 0 again. None: it isn't known.
        """
        partition_of = partitioner(count)
        entry = self.topics.setdefault(topic, Topic(partition_of))
        if topic_id is not None and entry.topic_id not in {None, topic_id}:
            for partition in entry.partitions.values():
                self._forget_log(partition)
        entry.topic_id = topic_id or entry.topic_id
        entry.count, entry.partition_of = count, partition_of
        self._execute(
            "INSERT OR REPLACE INTO topics VALUES (?, ?, ?)",
            (topic, count, entry.topic_id),
        )
        for number in range(count):
            if number not in entry.partitions:
                self._last_number += 1
                partition = Partition(self._last_number, topic, number)
                entry.partitions[number] = partition
                self._execute(
                    "INSERT INTO partitions (id, topic, partition) VALUES (?, ?, ?)",
                    (partition.number, topic, number),
                )

    def open_partition(
        self,
        partition: Partition,
        last_sequence: int,
        end_offset: int,
        found: Collection[str],
    ) -> None:
        """
        Continue above what a partition's log has of this outbox.

        A file that a power loss or an old copy has put back gave sequences again that
        the log has already. Those of its rows that the log doesn't have get new ones,
        behind those that it has: what was refused or deleted in the meantime, too.

        `last_sequence` is the last of this outbox in the log, 0 for none; `found` has
        the ce_ids of its records that weren't known to be there.
        """
        if self._resume_point(partition)[0] is None:
            partition.floor_offset = end_offset
        if last_sequence > partition.acknowledged:
            waiting, base = partition.waiting, partition.base
            moved = [
                position
                for position, ce_id in self._execute(
                    "SELECT position, ce_id FROM rows"
                    " WHERE position BETWEEN ? AND ? ORDER BY position",
                    (base + partition.acknowledged + 1, base + last_sequence),
                )
                if ce_id not in found
            ]
            last = max(last_sequence, partition.last)
            if moved:
                by = last + len(moved) - last_sequence
                self._execute(
                    "UPDATE rows SET position = position + ?"
                    " WHERE position BETWEEN ? AND ?",
                    (by, base + last_sequence + 1, partition.end),
                )
                self._executemany(
                    "UPDATE rows SET position = ? WHERE position = ?",
                    zip(count(base + last + 1), moved),
                )
                last += by
            partition.last = last
            partition.holes = last - partition.acknowledged - waiting
            self._settle(partition)
        self._save(partition)

    # -- What Kafka has -------------------------------------------------------

    def acknowledge(self, topic: str, number: int, run: Run) -> None:
        """Note that a partition's next rows are in the log."""
        partition = self.find(topic, number)
        self._advance(partition, run.first_sequence, run.last_sequence)
        self.counts[topic].acknowledged += run.count
        self._kept_bytes += run.size_bytes
        if (
            partition.floor_offset is not None
            and run.base_offset < partition.floor_offset
        ):
            # The log was truncated below the end that it had at the opening.
            partition.floor_offset = run.base_offset
            self._save(partition)
        is_longer = self._execute(
            "UPDATE acknowledged SET last_sequence = ?, size_bytes = size_bytes + ?"
            " WHERE partition = ? AND last_sequence = ?"
            " AND first_sequence = (SELECT max(first_sequence) FROM acknowledged"
            "  WHERE partition = ?)"
            " AND base_offset - first_sequence = ?"
            " AND first_sequence > ? AND acknowledged_at_us > ?",
            (
                *(run.last_sequence, run.size_bytes, partition.number),
                *(run.first_sequence - 1, partition.number),
                run.base_offset - run.first_sequence,
                run.last_sequence - _RUN_ROWS,
                run.acknowledged_at_us - _RUN_SPAN_US,
            ),
        ).rowcount
        if not is_longer:
            self._execute(
                "INSERT INTO acknowledged VALUES (?, ?, ?, ?, ?, ?)",
                (partition.number, *msgspec.structs.astuple(run)),
            )

    def drop(self, partition: Partition, sequence: int, *, stays: bool) -> None:
        """
        Let a partition's first waiting row wait no more: the broker refuses it.

        It may stay in the file for a person to look at. `ValueError` if another row is
        the first that waits.
        """
        (first,) = self._execute(
            "SELECT min(position) FROM rows WHERE position > ? AND position <= ?",
            (partition.base + partition.acknowledged, partition.end),
        ).fetchone()
        if first != partition.base + sequence:
            name = f"{partition.topic}-{partition.partition}"
            raise ValueError(f"row {sequence} of {name} isn't the first")
        if not stays:
            self._execute("DELETE FROM rows WHERE position = ?", (first,))
        self._advance(partition, sequence, sequence)
        self.counts[partition.topic].refused += 1
        # No run says how far this partition has come now.
        self._save(partition)

    def rewind(
        self, partition: Partition, sequence: int, offset: int, resent: int
    ) -> int:
        """
        Let rows wait again that the log lost; those trimmed don't.

        `sequence` is the last row that the log still has. What is sent again is behind
        `offset`, where the log ended when its loss was noticed. Rows up to `resent`
        were in the log, acknowledged or not: they are marked when they are sent again.
        Gives how many rows that were acknowledged wait now.
        """
        until, number = partition.acknowledged, partition.number
        self._execute(
            "DELETE FROM acknowledged"
            " WHERE partition = ? AND first_sequence > ? AND base_offset >= 0",
            (number, sequence),
        )
        self._execute(
            "UPDATE acknowledged SET last_sequence = ?1, size_bytes = size_bytes"
            "  * (?1 - first_sequence + 1) / (last_sequence - first_sequence + 1)"
            " WHERE partition = ?2 AND last_sequence > ?1 AND base_offset >= 0",
            (sequence, number),
        )
        self._measure()
        (last,) = self._execute(
            "SELECT max(last_sequence) FROM acknowledged WHERE partition = ?",
            (number,),
        ).fetchone()
        # What was in a log that is gone counts as delivered for good.
        sequence = max(sequence, last or 0)
        (waiting,) = self._execute(
            "SELECT count(*) FROM rows WHERE position > ? AND position <= ?",
            (partition.base + sequence, partition.base + until),
        ).fetchone()
        partition.acknowledged = sequence
        partition.holes += until - sequence - waiting
        partition.floor_offset = offset
        partition.resent = max(partition.resent, until, resent)
        self._settle(partition)
        self._save(partition)
        self.counts[partition.topic].resent += waiting
        return int(waiting)

    def trim(
        self, *, older_than_us: int, keep_bytes: int, max_rows: int, max_bytes: int
    ) -> None:
        """
        Delete acknowledged rows that are old or above `keep_bytes`, oldest first.

        At most so many rows, and about so many bytes, but one row at least: SQLite
        writes into its WAL most of the pages that it frees.
        """
        rows = size = 0
        by_number = {one.number: one for one in self}
        for number, *values in self._execute(
            "SELECT * FROM acknowledged"
            " ORDER BY acknowledged_at_us, partition, first_sequence LIMIT ?",
            (_RUNS_A_TRIM,),
        ).fetchall():
            run = Run(*values)
            is_young = run.acknowledged_at_us >= older_than_us
            if is_young and self._kept_bytes <= keep_bytes:
                break
            row_bytes = run.size_bytes // run.count + _ROW_BYTES
            count = min(run.count, max_rows - rows, (max_bytes - size) // row_bytes)
            if count <= 0 < rows:
                break
            count = max(count, 1)
            self._delete_oldest(by_number[number], run, count)
            rows += count
            size += count * row_bytes

    # -- Inside ---------------------------------------------------------------

    def _advance(self, partition: Partition, first: int, last: int) -> None:
        passed = first - partition.acknowledged - 1
        if not 0 <= passed <= partition.holes:
            raise sqlite3.DatabaseError(
                f"rows before {first} of {partition.topic}-{partition.partition} are"
                " gone"
            )
        partition.holes -= passed
        partition.acknowledged = last
        if partition.holes or passed or partition.resent:
            self._settle(partition)
            self._save(partition)

    @staticmethod
    def _settle(partition: Partition) -> None:
        """Leave behind what was skipped or resent, once no row of it waits."""
        if partition.holes and not partition.waiting:
            partition.acknowledged = partition.last
            partition.holes = 0
        if partition.acknowledged >= partition.resent:
            partition.resent = 0

    def _delete_oldest(self, partition: Partition, run: Run, count: int) -> None:
        last = run.first_sequence + count - 1
        self._execute(
            "DELETE FROM rows WHERE position BETWEEN ? AND ?",
            (partition.base + run.first_sequence, partition.base + last),
        )
        key = partition.number, run.first_sequence
        size_bytes = run.size_bytes * count // run.count
        if count == run.count:
            self._execute(
                "DELETE FROM acknowledged WHERE partition = ? AND first_sequence = ?",
                key,
            )
        else:
            self._execute(
                "UPDATE acknowledged SET first_sequence = first_sequence + ?1,"
                " base_offset = base_offset + ?1, size_bytes = size_bytes - ?2"
                " WHERE partition = ?3 AND first_sequence = ?4",
                (count, size_bytes, *key),
            )
        self._kept_bytes -= size_bytes
        if run.base_offset >= 0:
            offset = run.base_offset + count - 1
            partition.floor_offset = max(partition.floor_offset or 0, offset)
        # Without this run the table of partitions says how far this one has come.
        self._save(partition)

    def _forget_log(self, partition: Partition) -> None:
        """Count all in a partition's log as delivered: the topic was deleted."""
        self._execute(
            "UPDATE acknowledged SET base_offset = ?, acknowledged_at_us = 0"
            " WHERE partition = ?",
            (_GONE_OFFSET, partition.number),
        )
        partition.floor_offset = 0
        self._save(partition)

    def _measure(self) -> None:
        """Sum up the acknowledged rows that are kept."""
        (self._kept_bytes,) = self._execute(
            "SELECT coalesce(sum(size_bytes), 0) FROM acknowledged"
        ).fetchone()

    def _save(self, partition: Partition) -> None:
        self._execute(
            "INSERT OR REPLACE INTO partitions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            msgspec.structs.astuple(partition),
        )
