"""
The outbox's rows: append, claim and read, each step inside a transaction.

One thread owns a `Store`. What a transaction is stands in `file`, how far a lane has
come in `lanes`, what Kafka has in `acknowledgements`.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox.disk.replayed import Replayed
from bridge.outbox.file import File
from bridge.outbox.healer import Healer
from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.jobs.order import Order
from bridge.outbox.jobs.pins import Pins
from bridge.outbox.jobs.table import JobTable
from bridge.outbox.records import Delivered, LaneState
from bridge.outbox.remembered import Remembered
from bridge.outbox.rows import table as rows
from bridge.outbox.rows.acknowledgements import Acknowledgements
from bridge.outbox.rows.appending import Appending, Placed
from bridge.outbox.rows.claims import claim
from bridge.outbox.rows.counting import Counting
from bridge.outbox.rows.envelopes import Envelopes
from bridge.outbox.rows.lane import Run
from bridge.outbox.rows.lanes import (
    NONE_UNPLACED,
    Lanes,
    PartitionOf,
    UnknownLaneError,
    Unplaced,
)
from bridge.outbox.rows.refusals import Refusals
from bridge.outbox.rows.restoring import restore
from bridge.outbox.tallies import Tallies


__all__ = ["Placed", "Store"]


class Store:
    """
    The tables of one outbox, in the terms of lanes.

    Args:
        connection: From `schema.open_database`; closed by `close`.
        incarnation: This process's random name, the first half of each `ce_id`.
        order: Judges what is appended, against what is committed.
        is_heir: Whether the file takes the place of another one: what is remembered
            isn't read of it then, see `inheriting`.
        tallies: Where it is counted what becomes of rows.

    Attributes:
        added: Rows that were added beside those of `append` in the last transaction,
            as it gives them.
        remembered: What one process leaves to the next.
        order: Who judges what is appended.
        jobs: The jobs in flight.
        job_table: What the file has of them.
        pins: Those that stay where they began.
        counting: What becomes of its rows.
        healer: What heals.
        trim: Deletes acknowledged rows: see `Acknowledgements.trim`.
        file: Where they stand.

    Raises:
        OutboxError: The tables can't be read.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        incarnation: str,
        order: Order | None = None,
        *,
        is_heir: bool = False,
        tallies: Tallies | None = None,
    ) -> None:
        self._connection = connection
        self._lanes = Lanes(connection)
        self.pins = Pins(connection, self._lanes)
        self._acknowledgements = Acknowledgements(connection, self._lanes)
        self.trim = self._acknowledgements.trim
        self._refusals = Refusals(connection, self._lanes)
        self._envelopes = Envelopes(connection)
        self._appending = Appending(
            connection, self._lanes, self._envelopes, incarnation
        )
        self._replayed = Replayed(connection)
        self.remembered = Remembered(connection)
        self.order = order or Order(Jobs())
        self.jobs = self.order.jobs
        self.job_table = JobTable(connection, self._lanes, self._envelopes, self.order)
        self.counting = Counting(
            connection, self._lanes, self._envelopes, tallies or Tallies()
        )
        self.healer = Healer(
            connection, self.order, self.counting, self.remembered, self._add
        )
        self.added: list[Placed] = []
        self.file = File(
            connection,
            self._lanes,
            (
                self.pins,
                self._acknowledgements,
                self._refusals,
                self._envelopes,
                self.healer.holding,
            ),
            (self.job_table, self.remembered, self.counting),
        )
        with self.reading():
            if not is_heir:
                self.counting.load(self.healer.holding.last_place)
                self.remembered.load()
                self.job_table.ended.load()
                self.job_table.load()

    def close(self) -> None:
        """Close the file; SQLite empties its log into the database then."""
        self._connection.close()

    @contextmanager
    def transaction(
        self, *, is_last_resort: bool = False, is_synced: bool = False
    ) -> Iterator[None]:
        """
        Commit what is done inside as one, or nothing of it.

        Args:
            is_last_resort: Let rows go of which the table of jobs knows nothing: see
                `JobTable.is_waived`.
            is_synced: Let a loss of power take nothing of it.

        Raises:
            OutboxFullError: The same may succeed later; all is undone.
            OutboxDamagedError: It will not; all is undone.
        """
        self.added = []
        self.job_table.begin(is_last_resort=is_last_resort)
        with self.file.transaction(is_synced=is_synced):
            yield

    def reading(self) -> AbstractContextManager[None]:
        """Read what is committed, inside: see `File.reading`."""
        return self.file.reading()

    # -- What is there --------------------------------------------------------

    @property
    def pending(self) -> int:
        """Rows that wait for their acknowledgement."""
        return sum([lane.pending for lane in self._lanes])

    @property
    def quarantined(self) -> int:
        """Rows that were put aside for good."""
        return self._refusals.quarantined

    def oldest_pending_us(self) -> int | None:
        """Return when the oldest waiting row was read, in us since the epoch."""
        return self._lanes.oldest_pending_us()

    def lane_states(self) -> list[LaneState]:
        """Return the state of every lane that has a partition."""
        return self._lanes.states()

    def waiting_topics(self) -> set[str]:
        """Return the topics for which rows wait, in lanes or without one."""
        return {lane.topic for lane in self._lanes if lane.pending}

    # -- Into the outbox ------------------------------------------------------

    def append(self, records: Sequence[Record]) -> list[Placed]:
        """
        Write records in their order, as `Order` judges them; give each its place.

        Returns:
            The stored records of each lane, for the relay; records without a
            lane are left out: the relay gets them when they are claimed.
        """
        self.counting.came(records)
        return self._append(records)

    def replay(self, letters: Mapping[str, Sequence[Record]]) -> set[str]:
        """
        Write the records of dead letters, told by `added`; none goes twice.

        Returns:
            The letters, by their `ce_id`, that were not replayed before.
        """
        new = self._replayed.note(letters)
        self.added += self.append(
            [record for ce_id in letters if ce_id in new for record in letters[ce_id]]
        )
        return new

    def replayed(self, ce_ids: Sequence[str]) -> set[str]:
        """Give those of the dead letters that were replayed."""
        return self._replayed.known(ce_ids)

    def restore(self, topic: str, records: Sequence[StoredRecord]) -> None:
        """
        Write rows of a damaged file in their order, before all newer ones.

        Args:
            topic: Their topic.
            records: They keep their identity. Their place was another file's: they
                get one when they are claimed.
        """
        restore(self._connection, self._lanes, self._envelopes, topic, records)
        self.counting.was_salvaged(records)

    def open_topic(  # noqa: PLR0913 - what is known of it, of the log, and before
        self,
        topic: str,
        partition_of: PartitionOf,
        opened: Mapping[int, tuple[int, int]],
        topic_id: str | None,
        unplaced: Unplaced = NONE_UNPLACED,
        *,
        former_partition_of: PartitionOf | None = None,
    ) -> None:
        """
        Let a topic's records go to lanes from now on.

        Args:
            topic: The topic's name.
            partition_of: Gives the partition of a key; every partition that it
                can give must be in `opened`.
            opened: For each partition, the last sequence of this outbox that
                the log showed (0 if none) and the log's end offset.
            topic_id: The topic's id in Kafka, None if that isn't known. Where
                it is another one than before, what was acknowledged counts as
                delivered, and offsets begin at 0 again.
            unplaced: By partition, the sequence by `ce_id` of records after its
                last row that the log showed: see `claim`.
            former_partition_of: Gave the partition of a key until now; None where
                that hasn't changed. Jobs in flight stay where it puts them.
        """
        self._lanes.open(topic, partition_of, opened, topic_id, unplaced)
        self.pins.open(topic, opened, former_partition_of, self.jobs)

    def claim(self, max_rows: int, max_bytes: int) -> list[tuple[str, int, int]]:
        """
        Give lanes to rows that were written before Kafka was reached.

        One that the log has already, in a file put back to a copy from before it
        got its lane, is given the sequence that it has there.

        Args:
            max_rows: At most so many rows of a topic.
            max_bytes: Stop after the row that reaches so many bytes of values:
                each row is written anew.

        Returns:
            (topic, partition, last sequence) of each lane that got rows.
        """
        claimed = claim(
            self._connection, self._lanes, max_rows, max_bytes, self.counting.leaves
        )
        self.pins.let_go(self.jobs)
        return claimed

    # -- Out of the outbox ----------------------------------------------------

    def read(
        self, topic: str, partition: int, after: int, max_rows: int, max_bytes: int
    ) -> list[StoredRecord]:
        """
        Read a lane's rows in order.

        Args:
            topic: The lane's topic.
            partition: The lane's partition.
            after: The sequence before the first row that is wanted.
            max_rows: At most so many rows.
            max_bytes: Stop after the row that reaches so many bytes of values.

        Returns:
            Rows with sequences side by side: where some were skipped it stops.
        """
        lane, envelopes = self._lanes.find(topic, partition), self._envelopes.by_number
        with self.file.speaking():
            return rows.read(
                self._connection, envelopes, lane, after, max_rows, max_bytes
            )

    def delivered(
        self, topic: str, partition: int, after: int, max_rows: int
    ) -> list[Delivered]:
        """Read acknowledged rows after a sequence, in order, as far as kept."""
        lane = self._lanes.find(topic, partition)
        return self._acknowledgements.delivered(lane, after, max_rows)

    def acknowledge(
        self,
        topic: str,
        partition: int,
        run: Run,
        envelopes: Mapping[Envelope, int] | None = None,
    ) -> None:
        """
        Note that a lane's next rows stand in the log.

        Args:
            topic: The lane's topic.
            partition: The lane's partition. One that isn't there was in a file
                which was replaced: nothing is noted.
            run: Which rows, where they stand and when that was known; it must
                begin with the row after the last acknowledged one.
            envelopes: How many of them have which; None has them looked at.
        """
        with suppress(UnknownLaneError):
            lane = self._lanes.find(topic, partition)
            first, last = run.first_sequence, run.last_sequence
            self.counting.delivered(lane, first, last, envelopes)
            self._acknowledgements.note(lane, run)

    def rewind(
        self,
        topic: str,
        partition: int,
        sequence: int,
        resume_offset: int,
        resent: int = 0,
    ) -> int:
        """
        Let lost rows wait again; those trimmed, or of a topic that is gone, don't.

        Args:
            topic: The lane's topic.
            partition: The lane's partition.
            sequence: The last row that the log still has.
            resume_offset: Where to resume: where the log ended when its loss was
                noticed, since what is sent again stands behind that.
            resent: Rows up to this sequence have been there, acknowledged or not.

        Returns:
            How many of the rows that have been in the log wait now.

        Raises:
            ValueError: That row isn't acknowledged; nothing was changed.
        """
        lane = self._lanes.find(topic, partition)
        until = lane.acknowledged_sequence
        waiting = self._acknowledgements.rewind(lane, sequence, resume_offset, resent)
        self.counting.waits_again(lane, until)
        return waiting

    def refuse(
        self, topic: str, partition: int, sequence: int, dead_letter: Record
    ) -> None:
        """
        Replace a lane's first waiting row by a dead letter, told by `added`.

        Raises:
            ValueError: Another row is the first that waits; nothing was changed.
        """
        lane = self._lanes.find(topic, partition)
        self._refusals.check(lane, sequence)
        self.counting.goes(lane, sequence)
        self._refusals.drop(lane, sequence)
        self.counting.took_its_place(dead_letter)
        self._add([dead_letter])

    def quarantine(
        self, topic: str, partition: int, sequence: int, reason: str
    ) -> None:
        """
        Put a lane's first waiting row aside; it stays in the file for good.

        Raises:
            ValueError: Another row is the first that waits; nothing was changed.
        """
        lane = self._lanes.find(topic, partition)
        self._refusals.check(lane, sequence)
        self.counting.is_put_aside(lane, sequence)
        self._refusals.quarantine(lane, sequence, reason)

    # -- Inside ---------------------------------------------------------------

    def _add(self, records: Sequence[Record]) -> None:
        """Write records that were counted when they came."""
        self.added += self._append(records)

    def _append(self, records: Sequence[Record]) -> list[Placed]:
        return self._appending.append(*self.job_table.judge(records))
