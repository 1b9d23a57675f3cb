"""
The doors of the outbox, for the reader, the relay and whoever starts and stops it.

Nothing is done here: what comes in is laid down for the outbox's own thread, which
works in `writer`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox.disk.directory import OutboxDirectory
from bridge.outbox.healing_doors import HealingDoors
from bridge.outbox.inbox import Inbox, Kept
from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.jobs.order import Order
from bridge.outbox.losses import Losses
from bridge.outbox.records import Delivered, LaneState, Loss, Memory
from bridge.outbox.rows.lane import Run
from bridge.outbox.rows.lanes import NONE_UNPLACED, PartitionOf, Unplaced
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.store import Placed, Store
from bridge.outbox.webhooks.deliveries import KeptDeliveries
from bridge.outbox.writer import Writer
from bridge.settings import OutboxSettings, WebhookSettings


__all__ = ["Outbox"]

_T = TypeVar("_T")


class Outbox(HealingDoors):
    """
    The outbox of one process, from the opened file to its closing.

    `offer` and `prove` belong to the reader's thread, `run` to a thread of its own; all
    other methods may be called from any.

    Args:
        directory: The locked directory.
        settings: The limits.
        lighten: Gives a record without its preview, no longer as important as one
            that can go without; None if it has none. Called by any thread.
        on_loss: Is told by any thread of records that were given up: when it
            begins and when it is over, also what ends with `run`. It must not
            wait and must not offer; it may `keep`.
        refuse_late: Gives the dead letter of a record that comes after its job's
            last one; called by the outbox's thread. None publishes such a record.
        webhook: For how long webhooks are remembered that were taken.

    Raises:
        OutboxDamagedError: The file is no outbox of this version.
        OutboxDirectoryError: The file can't be opened.
    """

    def __init__(  # noqa: PLR0913 - what others do for it, each another thing
        self,
        directory: OutboxDirectory,
        settings: OutboxSettings,
        *,
        lighten: Callable[[Record], Record | None] = lambda _: None,
        on_loss: Callable[[Loss], None] = lambda _: None,
        refuse_late: Callable[[Record], Record] | None = None,
        webhook: WebhookSettings | None = None,
    ) -> None:
        webhook = webhook or WebhookSettings()
        super().__init__(Inbox(settings.buffer_bytes, lighten), OutboxStatistics())
        self._losses = Losses(self.statistics, on_loss)
        self._writer = Writer(
            directory.database,
            settings,
            self._inbox,
            self._losses,
            self.statistics,
            Order(Jobs.within(settings, self.statistics), refuse_late),
            KeptDeliveries(webhook.keep_deliveries_seconds, webhook.max_deliveries),
        )

    @property
    def id(self) -> str:
        """The UUID that this outbox got when its file was made."""
        return self._writer.id

    @property
    def memory(self) -> Memory:
        """What the process before left behind, as it was found at the opening."""
        return self._writer.memory

    @property
    def jobs(self) -> Jobs:
        """The jobs in flight, as far as committed events tell."""
        return self._writer.jobs

    # -- The reader's door ----------------------------------------------------

    def offer(self, records: Sequence[Record]) -> None:
        """
        Take records for the next commit; never waits, drops what has no room.

        Args:
            records: In order; not changed by anybody from now on.
        """
        inbox = self._inbox
        self.statistics.accepted += len(records)
        dropped = inbox.buffer.put(records)
        if dropped is not None:
            cause = "outbox_full" if self.statistics.full else "overflow"
            self._losses.note(cause, dropped)
        elif self._losses.await_record and inbox.is_relaxed:
            self._losses.survive(records)
        # While the thread waits for room, more records are no reason to look.
        if not inbox.awaits_room:
            inbox.bell.ring()

    def is_crowded(self) -> bool:
        """
        Whether it would help if the reader stood back for some milliseconds.

        The buffer is more than half full, and its thread is emptying it. A thread
        that waits for room on disk is not helped: that takes longer.
        """
        return not (self._inbox.buffer.is_relaxed or self._inbox.awaits_room)

    # -- The gap ledger's door ------------------------------------------------

    def keep(
        self, record: Record, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        """
        Take a gap record for the next commit, past the bounds of buffer and disk.

        It is written into room that is reserved, as soon as SQLite lets it be. What
        the process can't write until its end is logged.

        Args:
            record: Not changed by anybody from now on.
            opens: A gap whose value is remembered from this record on.
            closes: A gap that is forgotten with this record.
        """
        self._inbox.reserve(Kept(record, opens, closes))

    def prove(self, proofs: Mapping[str, int]) -> None:
        """
        Take proofs that accounts were heard; never waits.

        They are written when all that was offered before is on disk.

        Args:
            proofs: By `ce_source`: all that was sent before this moment has arrived
                and was offered, in microseconds since the epoch. The last one counts,
                though it may be earlier: clocks are set back, and what looked like a
                proof is taken back. Not changed by anybody from now on.
        """
        self._inbox.proofs.lay(proofs)
        self._inbox.bell.hint()

    # -- The relay's doors ----------------------------------------------------

    def subscribe(
        self,
        on_committed: Callable[[list[Placed]], None],
        on_claimed: Callable[[list[tuple[str, int, int]]], None],
        on_replaced: Callable[[], None],
    ) -> None:
        """
        Name who is told of new rows; all are called on the outbox's thread.

        Args:
            on_committed: Gets the rows of each lane right after their commit.
            on_claimed: Gets (topic, partition, last sequence) of lanes that
                were given rows which waited without one.
            on_replaced: Called when another file is in the damaged one's place. What
                was asked before is cancelled by when it may subscribe again.
        """
        with self._writer.replacing:
            self._writer.on_committed = on_committed
            self._writer.on_claimed = on_claimed
            self._writer.on_replaced = on_replaced

    def acknowledge(  # noqa: PLR0913, PLR0917 - one call a batch, no object
        self,
        topic: str,
        partition: int,
        first_sequence: int,
        last_sequence: int,
        base_offset: int,
        size_bytes: int,
        envelopes: Mapping[Envelope, int] | None = None,
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
            envelopes: How many of them have which; None has the rows looked at.
        """
        now_us = time.time_ns() // 1000
        run = Run(first_sequence, last_sequence, base_offset, now_us, size_bytes)
        self._inbox.acknowledged.append((topic, partition, run, envelopes))
        # Whatever comes next takes it along.
        self._inbox.bell.hint()

    def read(
        self, topic: str, partition: int, after: int, max_rows: int, max_bytes: int
    ) -> Future[list[StoredRecord]]:
        """Read a lane's rows after a sequence: see `Store.read`."""
        return self._ask(
            lambda store: store.read(topic, partition, after, max_rows, max_bytes)
        )

    def lane_states(self) -> Future[list[LaneState]]:
        """Read the state of every lane, with all that was acknowledged before."""
        return self._change(lambda store: store.lane_states())

    def open_topic(  # noqa: PLR0913 - what is known of it, of the log, and before
        self,
        topic: str,
        partition_of: PartitionOf,
        opened: dict[int, tuple[int, int]],
        topic_id: str | None,
        unplaced: Unplaced = NONE_UNPLACED,
        *,
        former_partition_of: PartitionOf | None = None,
    ) -> Future[None]:
        """Let a topic's rows go to lanes from now on: see `Store.open_topic`."""
        return self._change(
            lambda store: store.open_topic(
                topic,
                partition_of,
                opened,
                topic_id,
                unplaced,
                former_partition_of=former_partition_of,
            )
        )

    def delivered(
        self, topic: str, partition: int, after: int, max_rows: int
    ) -> Future[list[Delivered]]:
        """Read acknowledged rows that are kept: see `Store.delivered`."""
        return self._change(
            lambda store: store.delivered(topic, partition, after, max_rows)
        )

    def rewind(
        self,
        topic: str,
        partition: int,
        sequence: int,
        resume_offset: int,
        resent_sequence: int = 0,
    ) -> Future[int]:
        """Let rows wait again that the log has lost: see `Store.rewind`."""
        return self._change(
            lambda store: store.rewind(
                topic, partition, sequence, resume_offset, resent_sequence
            )
        )

    def refuse(
        self, topic: str, partition: int, sequence: int, dead_letter: Record
    ) -> Future[None]:
        """Replace a row by a dead letter: see `Store.refuse`."""
        return self._change(
            lambda store: store.refuse(topic, partition, sequence, dead_letter)
        )

    def quarantine(
        self, topic: str, partition: int, sequence: int, reason: str
    ) -> Future[None]:
        """Put a row aside for good: see `Store.quarantine`."""
        return self._change(
            lambda store: store.quarantine(topic, partition, sequence, reason)
        )

    def waiting_topics(self) -> Future[set[str]]:
        """Read for which topics rows wait."""
        return self._ask(lambda store: store.waiting_topics())

    # -- The replay's doors ---------------------------------------------------

    def replay(self, letters: Mapping[str, Sequence[Record]]) -> Future[set[str]]:
        """Write what became of dead letters, none twice: see `Store.replay`."""
        return self._change(lambda store: store.replay(letters))

    def replayed(self, ce_ids: Sequence[str]) -> Future[set[str]]:
        """Read which dead letters were replayed: see `Store.replayed`."""
        return self._ask(lambda store: store.replayed(ce_ids))

    # -- Inside ---------------------------------------------------------------

    def _ask(self, question: Callable[[Store], _T]) -> Future[_T]:
        future = self._inbox.questions.put(question)
        self._inbox.bell.ring()
        return future

    def _change(self, change: Callable[[Store], _T]) -> Future[_T]:
        """Ask for what is done after all acknowledgements that were there before."""
        future = self._inbox.changes.put(change)
        self._inbox.bell.ring()
        return future

    # -- Start and stop -------------------------------------------------------

    def run(self) -> None:
        """
        Work until `stop`; belongs to a thread of its own.

        What a full disk refuses is kept and tried again; at `stop` it is tried
        once more and then given up, counted.

        Raises:
            OutboxDamagedError: The file can't be read or written any more.
        """
        self._writer.run()

    def stop(self) -> None:
        """Let `run` commit what has gathered, close the file and return."""
        self._inbox.is_stopping = True
        self._inbox.bell.ring()

    @property
    def is_stuck(self) -> bool:
        """Whether nothing at all could be written lately, no acknowledgement either."""
        return self._writer.is_stuck

    @property
    def has_ended(self) -> bool:
        """Whether `run` is over, or just about to be: nothing is answered any more."""
        return self._inbox.is_closed

    @property
    def drained(self) -> bool:
        """Whether everything that came in, gap records too, is committed."""
        return self._inbox.buffer.size_bytes == 0 and not self._inbox.reserved
