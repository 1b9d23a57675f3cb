"""
Rows and partitions: new records become rows, rows are acknowledged, kept and trimmed.

`Partition` mirrors the tables `partitions` and `acknowledged` in memory. All methods
but the readers belong into a transaction.
"""

from __future__ import annotations

import secrets
import sqlite3  # noqa: TID251 - the outbox is SQLite
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import count
from typing import Any
from zlib import crc32

import msgspec

from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox.database import SEQUENCE_BITS, ManyRows
from bridge.outbox.jobs import Job
from bridge.outbox.partitioner import partitioner
from bridge.outbox.statistics import TopicCounts
from bridge.outbox.values import Delivered, PartitionState, Placed


__all__ = ["Rows", "Run", "checksum"]

_MAX_SEQUENCE = (1 << SEQUENCE_BITS) - 1

# Far enough below 0 for any run to end there.
_GONE_OFFSET = -_MAX_SEQUENCE - 1

_COLUMNS = "position, ce_id, envelope, received_at_us, key, value, checksum"
_insert = ManyRows(f"INSERT INTO rows (extra, {_COLUMNS}) VALUES", columns=8).run
# The same of rows without headers of their own: a NULL that isn't handed over costs
# nothing, see `_COPIED_UP_TO`.
_insert_plain = ManyRows(f"INSERT INTO rows ({_COLUMNS}) VALUES", columns=7).run

# For any parameter that is no number, text or bytearray `sqlite3` looks for an adapter,
# in vain: bytes take 0.5 us for it, None 0.35. A bytearray of this size takes 0.2 with
# its making, one of 20 KB as long as the bytes.
_COPIED_UP_TO = 4 * 1024

# For more `crc32` releases the GIL and has to wait for it again: beside a busy thread
# 20 KB then take 39 us instead of 21.
_SUMMED_AT_ONCE = 5 * 1024

# A run is trimmed by one statement: 1,000 small rows take about 1 ms.
_ROWS_A_RUN = 1000
_RUN_SPAN_US = 1_000_000

# Where each acknowledgement is a run of its own (offsets with holes between them), a
# run costs about 30 us to trim: no more than 5 ms at a time.
_RUNS_A_TRIM = 150

# What a row takes beside its key and value.
_ROW_BYTES = 100

# A process has a few envelopes that live as long as it does; a client that makes a new
# object for each record loses speed by that, but no memory.
_ENVELOPES_KNOWN = 1024

_Extra = tuple[tuple[str, bytes], ...]
_encode_extra = msgspec.msgpack.Encoder().encode
_decode_extra = msgspec.msgpack.Decoder(_Extra).decode


class Run(msgspec.Struct, frozen=True, gc=False):
    """Records acknowledged side by side, since a moment: dense in both numbers."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    acknowledged_at_us: int
    size_bytes: int

    @property
    def is_gone(self) -> bool:
        """Whether these records were in the log of a topic that was deleted."""
        return self.base_offset < 0

    @property
    def count(self) -> int:
        """How many records."""
        return self.last_sequence - self.first_sequence + 1

    @property
    def last_offset(self) -> int:
        """The offset of the last record."""
        return self.base_offset + self.last_sequence - self.first_sequence

    def split(self, count: int) -> tuple[Run, Run | None]:
        """Part the first records from the rest, if there is any rest."""
        if count >= self.count:
            return self, None
        size_bytes = self.size_bytes * count // self.count
        replace = msgspec.structs.replace
        last = self.first_sequence + count - 1
        return replace(self, last_sequence=last, size_bytes=size_bytes), replace(
            self,
            first_sequence=last + 1,
            base_offset=self.base_offset + count,
            size_bytes=self.size_bytes - size_bytes,
        )


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
    # Acknowledged rows that are still kept, oldest first.
    runs: deque[Run] = msgspec.field(default_factory=deque)
    # The position before its first row, and the last that a row may have.
    base: int = 0
    end: int = 0

    def __post_init__(self) -> None:
        self.base = self.number << SEQUENCE_BITS
        self.end = self.base + _MAX_SEQUENCE

    @property
    def waiting(self) -> int:
        """How many rows wait for their acknowledgement."""
        return self.last - self.acknowledged - self.holes

    @property
    def last_run(self) -> Run | None:
        """The last records that are known to be in the log, if they are kept."""
        return self.runs[-1] if self.runs and not self.runs[-1].is_gone else None

    @property
    def resume_offset(self) -> int | None:
        """The offset from which on the log has to be read to resume."""
        run, floor = self.last_run, self.floor_offset
        if run is None:
            return floor
        # The floor is higher where the log lost what had been acknowledged after this
        # run: what is between was written before the loss was noticed.
        return run.last_offset if floor is None else max(run.last_offset, floor)


class _Topic(msgspec.Struct):
    """A topic: its partitions by number, and how a key finds its own."""

    partitions: dict[int, Partition]
    count: int
    topic_id: str | None
    partition_of: Callable[[bytes | None], int]


class Rows:
    """The tables `rows`, `partitions`, `topics`, `acknowledged` and `envelopes`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # 64 random bits: a million starts of one outbox collide with a probability of
        # 3 in 10**8. What is opened again gets new ones, so no ce_id comes twice.
        self._prefix = f"{secrets.token_hex(8)}-"
        self._counter = 0
        self._topics: dict[str, _Topic] = {}
        self._partitions: list[Partition] = []
        self._envelopes: dict[int, Envelope] = {}
        self._numbers: dict[Envelope, int] = {}
        # Numbers of objects seen lately, by `id`: faster than their texts.
        self._known: dict[int, tuple[int, Envelope]] = {}
        self._kept_bytes = 0
        # What became of rows in the transaction that runs, by topic.
        self.counts: dict[str, TopicCounts] = {}

    def load(self) -> None:
        """Read what memory mirrors, at the start and after a rollback."""
        execute = self._connection.execute
        self.counts = {}
        self._known.clear()
        self._envelopes = {
            number: Envelope(*values)
            for number, *values in execute("SELECT * FROM envelopes")
        }
        self._numbers = {value: number for number, value in self._envelopes.items()}
        self._topics = {
            name: _Topic({}, count, topic_id, partitioner(count))
            for name, count, topic_id in execute("SELECT * FROM topics")
        }
        self._partitions = []
        by_number: dict[int, Partition] = {}
        for values in execute("SELECT * FROM partitions ORDER BY id"):
            partition = self._keep(Partition(*values))
            by_number[partition.number] = partition
        for number, *values in execute(
            "SELECT * FROM acknowledged ORDER BY partition, first_sequence"
        ):
            by_number[number].runs.append(Run(*values))
        self._kept_bytes = 0
        for partition in self._partitions:
            if partition.runs:
                run = partition.runs[-1]
                partition.acknowledged = max(partition.acknowledged, run.last_sequence)
                self._kept_bytes += sum(run.size_bytes for run in partition.runs)
            partition.last = max(
                partition.last, partition.acknowledged, self._last_row(partition)
            )

    # -- What is there --------------------------------------------------------

    @property
    def waiting(self) -> dict[str, int]:
        """How many rows of each topic wait for their acknowledgement."""
        waiting: Counter[str] = Counter()
        for partition in self._partitions:
            waiting[partition.topic] += partition.waiting
        return waiting

    @property
    def topics(self) -> dict[str, int]:
        """How many partitions each topic had when it was opened last."""
        return {name: topic.count for name, topic in self._topics.items()}

    def partition_count(self, topic: str) -> int:
        """Return how many partitions a topic had when it was opened last; 0: never."""
        entry = self._topics.get(topic)
        return 0 if entry is None else entry.count

    def states(self, topic: str) -> list[PartitionState]:
        """Return what is known of a topic's partitions."""
        entry = self._topics.get(topic)
        return (
            []
            if entry is None
            else [
                PartitionState(
                    topic=topic,
                    partition=one.partition,
                    acknowledged_sequence=one.acknowledged,
                    last_sequence=one.last,
                    waiting=one.waiting,
                    resume_offset=one.resume_offset,
                    resume_ce_id=self._resume_ce_id(one),
                    resent_sequence=one.resent,
                    topic_id=entry.topic_id,
                )
                for one in entry.partitions.values()
            ]
        )

    def oldest_waiting_us(self) -> int | None:
        """Return when the oldest waiting row was read, in us since the epoch."""
        heads = [
            self._connection.execute(
                "SELECT received_at_us FROM rows WHERE position > ? AND position <= ?"
                " ORDER BY position LIMIT 1",
                (one.base + one.acknowledged, one.end),
            ).fetchone()
            for one in self._partitions
            if one.waiting
        ]
        return min((int(head[0]) for head in heads if head), default=None)

    def read(
        self, topic: str, number: int, after: int, max_rows: int, max_bytes: int
    ) -> list[StoredRecord]:
        """
        Read a partition's rows behind a sequence, up to a hole or a bound.

        It stops after the row that reaches so many bytes of values; `DatabaseError` if
        a row isn't what was written.
        """
        partition = self._find(topic, number)
        cursor = self._connection.execute(
            f"SELECT {_COLUMNS}, extra FROM rows"  # noqa: S608 - names of ours
            " WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
            (partition.base + after, partition.end, max_rows),
        )
        rows: list[StoredRecord] = []
        size = 0
        for values in cursor:
            row = stored(values, partition.base, self._envelopes)
            if rows and row.sequence != rows[-1].sequence + 1:
                break
            rows.append(row)
            size += len(row.value)
            if size >= max_bytes:
                break
        cursor.close()
        return rows

    def delivered(
        self, topic: str, number: int, after: int, max_rows: int
    ) -> list[Delivered]:
        """Read acknowledged rows after a sequence, in order, as far as kept."""
        partition = self._find(topic, number)
        found: list[Delivered] = []
        for run in partition.runs:
            if run.is_gone or run.last_sequence <= after or len(found) == max_rows:
                continue
            base, shift = partition.base, run.base_offset - run.first_sequence
            for position, ce_id in self._connection.execute(
                "SELECT position, ce_id FROM rows WHERE position > ? AND position <= ?"
                " ORDER BY position LIMIT ?",
                (
                    base + max(run.first_sequence - 1, after),
                    base + run.last_sequence,
                    max_rows - len(found),
                ),
            ):
                sequence = position - base
                found.append(Delivered(sequence, ce_id, sequence + shift))
        return found

    # -- New rows -------------------------------------------------------------

    def append(
        self,
        records: Sequence[Record],
        sums: Sequence[int],
        jobs: Sequence[Job | None],
    ) -> list[Placed]:
        """
        Write records in their order; give each its identity and its place.

        They come with the checksum of their key and value, and the job in flight of
        which each is an event: it stays in the partition where it began.
        """
        placed: defaultdict[Partition, list[StoredRecord]] = defaultdict(list)
        plain: list[object] = []
        others: list[object] = []
        counter, prefix, known = self._counter, self._prefix, self._known
        topic: str | None = None
        for record, total, job in zip(records, sums, jobs, strict=True):
            if record.topic != topic:
                topic = record.topic
                entry = self._topics[topic]
            key, value = record.key, record.value
            if job is None:
                number = entry.partition_of(key)
            else:
                number = job.partition
                if not 0 <= number < entry.count:
                    number = job.partition = entry.partition_of(key)
            partition = entry.partitions[number]
            sequence = partition.last = partition.last + 1
            counter += 1
            ce_id = f"{prefix}{counter}"
            received_at_us, envelope = record.received_at_us, record.envelope
            extra = record.extra
            if extra:
                extra_bytes = _encode_extra(extra)
                total = crc32(extra_bytes, total)  # noqa: PLW2901 - summed on
                columns = others
                columns.append(extra_bytes)
            else:
                columns = plain
            numbered = known.get(id(envelope))
            columns += (
                partition.base + sequence,
                ce_id,
                numbered[0] if numbered else self._number(envelope),
                received_at_us,
                key and bytearray(key),
                bytearray(value) if len(value) <= _COPIED_UP_TO else value,
                total,
            )
            placed[partition].append(
                StoredRecord(
                    sequence, ce_id, key, value, received_at_us, envelope, extra
                )
            )
        self._counter = counter
        _insert_plain(self._connection, plain)
        _insert(self._connection, others)
        for partition, rows in placed.items():
            self._count(partition.topic).committed += len(rows)
        return [(one.topic, one.partition, rows) for one, rows in placed.items()]

    def restore(self, topic: str, number: int, records: Iterable[StoredRecord]) -> None:
        """Write rows of a damaged file, with their identity, as new ones of this."""
        entry = self._topics[topic]
        partition = entry.partitions.get(number) or self._add(topic, number)
        others: list[object] = []
        for record in records:
            partition.last += 1
            extra = _encode_extra(record.extra) if record.extra else None
            others += (
                extra,
                partition.base + partition.last,
                record.ce_id,
                self._number(record.envelope),
                record.received_at_us,
                record.key,
                record.value,
                checksum(record.key, record.value, extra),
            )
        _insert(self._connection, others)

    # -- Topics as Kafka has them ---------------------------------------------

    def open_topic(self, topic: str, count: int, topic_id: str | None) -> None:
        """
        Let a topic's records go to so many partitions from now on.

        Where its id in Kafka is another one than before, what was acknowledged counts
        as delivered, and offsets begin at 0 again. None: it isn't known.
        """
        entry = self._topics.get(topic)
        if entry is None:
            entry = self._topics[topic] = _Topic({}, 0, topic_id, partitioner(count))
        if topic_id is not None and entry.topic_id not in {None, topic_id}:
            for partition in entry.partitions.values():
                self._forget_log(partition)
        entry.topic_id = topic_id or entry.topic_id
        entry.count, entry.partition_of = count, partitioner(count)
        self._connection.execute(
            "INSERT OR REPLACE INTO topics VALUES (?, ?, ?)",
            (topic, count, entry.topic_id),
        )
        for number in range(count):
            if number not in entry.partitions:
                self._add(topic, number)

    def open_partition(
        self,
        topic: str,
        number: int,
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
        partition = self._find(topic, number)
        if partition.resume_offset is None:
            partition.floor_offset = end_offset
        if last_sequence > partition.acknowledged:
            waiting, base = partition.waiting, partition.base
            moved = [
                position
                for position, ce_id in self._connection.execute(
                    "SELECT position, ce_id FROM rows"
                    " WHERE position BETWEEN ? AND ? ORDER BY position",
                    (base + partition.acknowledged + 1, base + last_sequence),
                )
                if ce_id not in found
            ]
            last = max(last_sequence, partition.last)
            if moved:
                by = last + len(moved) - last_sequence
                self._connection.execute(
                    "UPDATE rows SET position = position + ?"
                    " WHERE position BETWEEN ? AND ?",
                    (by, base + last_sequence + 1, partition.end),
                )
                self._connection.executemany(
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
        partition = self._find(topic, number)
        self._advance(partition, run.first_sequence, run.last_sequence)
        self._count(topic).acknowledged += run.count
        self._kept_bytes += run.size_bytes
        if (
            partition.floor_offset is not None
            and run.base_offset < partition.floor_offset
        ):
            # The log was truncated below the end that it had at the opening.
            partition.floor_offset = run.base_offset
            self._save(partition)
        last = partition.runs[-1] if partition.runs else None
        if (
            last is not None
            and last.last_sequence + 1 == run.first_sequence
            and last.last_offset + 1 == run.base_offset
            and run.acknowledged_at_us - last.acknowledged_at_us < _RUN_SPAN_US
            and run.last_sequence - last.first_sequence < _ROWS_A_RUN
        ):
            partition.runs[-1] = run = msgspec.structs.replace(
                last,
                last_sequence=run.last_sequence,
                size_bytes=last.size_bytes + run.size_bytes,
            )
        else:
            partition.runs.append(run)
        self._write_run(partition, run)

    def drop(self, topic: str, number: int, sequence: int, *, stays: bool) -> None:
        """
        Let a partition's first waiting row wait no more: the broker refuses it.

        It may stay in the file for a person to look at. `ValueError` if another row is
        the first that waits.
        """
        partition = self._find(topic, number)
        (first,) = self._connection.execute(
            "SELECT min(position) FROM rows WHERE position > ? AND position <= ?",
            (partition.base + partition.acknowledged, partition.end),
        ).fetchone()
        if first != partition.base + sequence:
            raise ValueError(f"row {sequence} of {topic}-{number} isn't the first")
        if not stays:
            self._connection.execute("DELETE FROM rows WHERE position = ?", (first,))
        self._advance(partition, sequence, sequence)
        self._count(topic).refused += 1
        # No run says how far this partition has come now.
        self._save(partition)

    def rewind(
        self, topic: str, number: int, sequence: int, offset: int, resent: int
    ) -> int:
        """
        Let rows wait again that the log lost; those trimmed don't.

        Args:
            topic: The topic.
            number: The partition.
            sequence: The last row that the log still has; acknowledged.
            offset: Where the log ended when its loss was noticed: what is sent again is
                behind that.
            resent: Rows up to this sequence were in the log, acknowledged or not: they
                are marked when they are sent again.

        Returns:
            How many rows that were acknowledged wait now.
        """
        partition = self._find(topic, number)
        until, runs = partition.acknowledged, partition.runs
        while (last := partition.last_run) and last.last_sequence > sequence:
            runs.pop()
            self._kept_bytes -= last.size_bytes
            if last.first_sequence <= sequence:
                head, _ = last.split(sequence - last.first_sequence + 1)
                runs.append(head)
                self._kept_bytes += head.size_bytes
                self._write_run(partition, head)
        if runs:
            # What was in a log that is gone counts as delivered for good.
            sequence = max(sequence, runs[-1].last_sequence)
        self._connection.execute(
            "DELETE FROM acknowledged WHERE partition = ? AND first_sequence > ?",
            (partition.number, sequence),
        )
        (waiting,) = self._connection.execute(
            "SELECT count(*) FROM rows WHERE position > ? AND position <= ?",
            (partition.base + sequence, partition.base + until),
        ).fetchone()
        partition.acknowledged = sequence
        partition.holes += until - sequence - waiting
        partition.floor_offset = offset
        partition.resent = max(partition.resent, until, resent)
        self._settle(partition)
        self._save(partition)
        self._count(topic).resent += waiting
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
        for _ in range(_RUNS_A_TRIM):
            partition = min(
                (one for one in self._partitions if one.runs),
                key=lambda one: one.runs[0].acknowledged_at_us,
                default=None,
            )
            if partition is None:
                break
            run = partition.runs[0]
            if (
                run.acknowledged_at_us >= older_than_us
                and self._kept_bytes <= keep_bytes
            ):
                break
            row_bytes = run.size_bytes // run.count + _ROW_BYTES
            count = min(max_rows - rows, (max_bytes - size) // row_bytes)
            if count <= 0 < rows:
                break
            gone = self._delete_oldest(partition, max(count, 1))
            rows += gone
            size += gone * row_bytes

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

    def _delete_oldest(self, partition: Partition, count: int) -> int:
        run, rest = partition.runs.popleft().split(count)
        self._connection.execute(
            "DELETE FROM rows WHERE position BETWEEN ? AND ?",
            (partition.base + run.first_sequence, partition.base + run.last_sequence),
        )
        self._connection.execute(
            "DELETE FROM acknowledged WHERE partition = ? AND first_sequence = ?",
            (partition.number, run.first_sequence),
        )
        if rest is not None:
            partition.runs.appendleft(rest)
            self._write_run(partition, rest)
        self._kept_bytes -= run.size_bytes
        if not run.is_gone:
            partition.floor_offset = max(partition.floor_offset or 0, run.last_offset)
        # Without this run the table of partitions says how far this one has come.
        self._save(partition)
        return run.count

    def _forget_log(self, partition: Partition) -> None:
        """Count all in a partition's log as delivered: the topic was deleted."""
        self._connection.execute(
            "UPDATE acknowledged SET base_offset = ?, acknowledged_at_us = 0"
            " WHERE partition = ?",
            (_GONE_OFFSET, partition.number),
        )
        partition.runs = deque(
            msgspec.structs.replace(run, base_offset=_GONE_OFFSET, acknowledged_at_us=0)
            for run in partition.runs
        )
        partition.floor_offset = 0
        self._save(partition)

    def _write_run(self, partition: Partition, run: Run) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?, ?, ?, ?)",
            (partition.number, *msgspec.structs.astuple(run)),
        )

    def _save(self, partition: Partition) -> None:
        self._connection.execute(
            "UPDATE partitions SET acknowledged_sequence = ?, last_sequence = ?,"
            " holes = ?, floor_offset = ?, resent_sequence = ? WHERE id = ?",
            (
                partition.acknowledged,
                partition.last,
                partition.holes,
                partition.floor_offset,
                partition.resent,
                partition.number,
            ),
        )

    def _add(self, topic: str, number: int) -> Partition:
        cursor = self._connection.execute(
            "INSERT INTO partitions (topic, partition) VALUES (?, ?)", (topic, number)
        )
        assert cursor.lastrowid is not None
        return self._keep(Partition(cursor.lastrowid, topic, number))

    def _keep(self, partition: Partition) -> Partition:
        self._partitions.append(partition)
        self._topics[partition.topic].partitions[partition.partition] = partition
        return partition

    def _find(self, topic: str, number: int) -> Partition:
        return self._topics[topic].partitions[number]

    def _count(self, topic: str) -> TopicCounts:
        counts = self.counts.get(topic)
        if counts is None:
            counts = self.counts[topic] = TopicCounts()
        return counts

    def _number(self, envelope: Envelope) -> int:
        """Give an envelope's number, writing the envelope if it is new."""
        number = self._numbers.get(envelope)
        if number is None:
            number = len(self._numbers) + 1
            self._connection.execute(
                "INSERT INTO envelopes VALUES (?, ?, ?, ?, ?, ?)",
                (number, *msgspec.structs.astuple(envelope)),
            )
            self._numbers[envelope] = number
            self._envelopes[number] = envelope
        if len(self._known) >= _ENVELOPES_KNOWN:
            self._known.clear()
        # An id is true only as long as its object lives, so the object is kept.
        self._known[id(envelope)] = number, envelope
        return number

    def _last_row(self, partition: Partition) -> int:
        (last,) = self._connection.execute(
            "SELECT max(position) FROM rows WHERE position BETWEEN ? AND ?",
            (partition.base, partition.end),
        ).fetchone()
        return 0 if last is None else int(last) - partition.base

    def _resume_ce_id(self, partition: Partition) -> str | None:
        run = partition.last_run
        if run is None or run.last_offset != partition.resume_offset:
            return None
        row = self._connection.execute(
            "SELECT ce_id FROM rows WHERE position = ?",
            (partition.base + run.last_sequence,),
        ).fetchone()
        return None if row is None else str(row[0])


def stored(
    values: tuple[Any, ...], base: int, envelopes: Mapping[int, Envelope]
) -> StoredRecord:
    """Make a record of a row's columns, `extra` last; `DatabaseError` if changed."""
    position, ce_id, number, received_at_us, key, value, written, extra = values
    try:
        if written == checksum(key, value, extra):
            return StoredRecord(
                position - base,
                ce_id,
                key,
                value,
                received_at_us,
                envelopes[number],
                _decode_extra(extra) if extra else (),
            )
    except (KeyError, TypeError, msgspec.MsgspecError) as error:
        raise _changed(position) from error
    raise _changed(position)


def checksum(key: bytes | None, value: bytes, extra: bytes | None) -> int:
    """
    Sum up a row's bytes.

    SQLite has no checksums, and a disk that changes a byte must not change a record.
    """
    total = crc32(key) if key else 0
    if len(value) <= _SUMMED_AT_ONCE:
        total = crc32(value, total)
    else:
        pieces = memoryview(value)
        for start in range(0, len(value), _SUMMED_AT_ONCE):
            total = crc32(pieces[start : start + _SUMMED_AT_ONCE], total)
    return crc32(extra, total) if extra else total


def _changed(position: int) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(f"row {position} has changed since it was written")
