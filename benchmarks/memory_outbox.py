"""
An outbox that keeps its rows in memory: the floor that the real one is measured by.

It stands behind the relay's Protocol and the service's doors and does for them all
that the outbox on disk does, with no thread of its own and without a bound: whoever
offers rows places them. What dies with the process is lost, so it is no outbox for
anything but a benchmark.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

from benchmarks.memory_lane import MemoryLane
from bridge.outbox import OutboxDirectory, OutboxStatistics
from bridge.outbox.jobs.in_flight import Jobs
from bridge.record import (
    Delivered,
    Delivery,
    Envelope,
    Healing,
    Held,
    LaneState,
    Loss,
    Memory,
    Record,
    Spent,
    StoredRecord,
)
from bridge.settings import OutboxSettings, WebhookSettings


__all__ = ["MemoryOutbox"]

_T = TypeVar("_T")
_Placed = tuple[str, int, list[StoredRecord]]
_PartitionOf = Callable[[bytes | None], int]

# As the outbox on disk: health calls a thread dead that doesn't beat.
_BEAT_SECONDS = 1.0


class MemoryOutbox:
    """
    Rows in memory, by topic and partition; every method may be called from any thread.

    Args:
        directory: Not used, as all that follow: what the service gives an outbox.
        settings: It has no bounds.
        lighten: No record has to be made lighter.
        on_loss: Nothing is given up.
        refuse_late: No order is looked at, so that all that heals is written.
        webhook: Webhooks are remembered for ever.

    Attributes:
        id: Its UUID.
        statistics: As the outbox on disk has them.
        memory: It begins with none.
        jobs: It notes none.
        quarantined: The rows that were put aside, each with the reason.
    """

    drained = True
    is_stuck = False

    def __init__(  # noqa: PLR0913 - the service's call
        self,
        directory: OutboxDirectory | None = None,  # noqa: ARG002 - the service's call
        settings: OutboxSettings | None = None,  # noqa: ARG002
        *,
        lighten: Callable[[Record], Record | None] | None = None,  # noqa: ARG002
        on_loss: Callable[[Loss], None] | None = None,  # noqa: ARG002
        refuse_late: Callable[[Record], Record] | None = None,  # noqa: ARG002
        webhook: WebhookSettings | None = None,  # noqa: ARG002
    ) -> None:
        self.id = str(uuid.uuid4())
        self.statistics = OutboxStatistics()
        self.memory = Memory({}, was_stopped=True, left_gaps=())
        self.jobs = Jobs()
        self.quarantined: list[tuple[StoredRecord, str]] = []
        self._prefix = f"{uuid.uuid4().hex[:16]}-"
        self._counter = 0
        # Held while news are told too, so that each lane hears them in order.
        self._lock = threading.Lock()
        self._lanes: dict[str, dict[int, MemoryLane]] = {}
        self._partition_of: dict[str, _PartitionOf] = {}
        self._unassigned: defaultdict[str, list[Record]] = defaultdict(list)
        self._on_committed: Callable[[list[_Placed]], None] | None = None
        self._on_claimed: Callable[[list[tuple[str, int, int]]], None] | None = None
        self._taken: set[tuple[str, str]] = set()
        self._held: dict[int, Held] = {}
        self._stopped = threading.Event()

    # -- The service's doors --------------------------------------------------

    def offer(self, records: Sequence[Record]) -> None:
        """Place records in order and tell the relay; they are committed by that."""
        with self._lock:
            statistics = self.statistics
            statistics.accepted += len(records)
            statistics.committed += len(records)
            self._take(records)

    def keep(
        self,
        record: Record,
        *,
        opens: str | None = None,  # noqa: ARG002 - nobody comes after it
        closes: str | None = None,  # noqa: ARG002
    ) -> None:
        """Place a gap record: here there is room for all."""
        with self._lock:
            self.statistics.kept += 1
            self._take([record])

    def prove(self, proofs: Mapping[str, int]) -> None:
        """Take proofs that accounts were heard, for nobody."""

    def heal(self, healing: Healing) -> Future[bool]:
        """Place what dryAPI says of a job."""

        def work() -> bool:
            self._take([healing.record])
            return True

        return self._done(work)

    def take(self, delivery: Delivery) -> Future[bool]:
        """Hold a webhook that is new."""

        def work() -> bool:
            name = delivery.record.envelope.ce_source, delivery.delivery_id
            if name in self._taken:
                return False
            self._taken.add(name)
            place = len(self._taken)
            self._held[place] = Held(
                place, delivery.record, delivery.due_us, delivery.ended_us
            )
            self.statistics.held = len(self._held)
            return True

        return self._done(work)

    def held(self, max_rows: int) -> Future[list[Held]]:
        """Give webhooks that are held, those first that are due first."""
        return self._done(
            lambda: sorted(self._held.values(), key=lambda one: one.due_us)[:max_rows]
        )

    def release(
        self,
        place: int,
        gap_ids: Sequence[str],  # noqa: ARG002 - nobody comes after it
    ) -> Future[bool]:
        """Place a webhook that is held."""

        def work() -> bool:
            held = self._held.pop(place, None)
            if held is not None:
                self._take([held.record])
                self.statistics.held = len(self._held)
            return held is not None

        return self._done(work)

    def spend(self, spent: Mapping[str, Spent]) -> None:
        """Take what accounts have asked, for nobody."""

    def is_crowded(self) -> bool:
        """Whether the reader should stand back: there is no bound."""
        return False

    def run(self) -> None:
        """Beat until `stop`; the work is done by those who call."""
        while not self._stopped.wait(_BEAT_SECONDS):
            self.statistics.last_beat = time.monotonic()
        self.statistics.last_beat = 0.0

    def stop(self) -> None:
        """Let `run` return."""
        self._stopped.set()

    @property
    def has_ended(self) -> bool:
        """Whether `run` is over, or just about to be."""
        return self._stopped.is_set()

    # -- The relay's doors ----------------------------------------------------

    def subscribe(
        self,
        on_committed: Callable[[list[_Placed]], None],
        on_claimed: Callable[[list[tuple[str, int, int]]], None],
        on_replaced: Callable[[], None] | None = None,  # noqa: ARG002 - memory is not damaged
    ) -> None:
        """Name who is told of new rows, on the thread that brings them."""
        with self._lock:
            self._on_committed, self._on_claimed = on_committed, on_claimed

    def lane_states(self) -> Future[list[LaneState]]:
        """Give the state of every lane."""
        return self._done(lambda: [lane.state() for lane in self._all()])

    def waiting_topics(self) -> Future[set[str]]:
        """Give the topics for which rows wait."""
        return self._done(
            lambda: (
                {lane.topic for lane in self._all() if lane.pending}
                | {topic for topic, rows in self._unassigned.items() if rows}
            )
        )

    def open_topic(  # noqa: PLR0913, PLR0917 - the Protocol's
        self,
        topic: str,
        partition_of: _PartitionOf,
        opened: dict[int, tuple[int, int]],
        topic_id: str | None = None,
        unplaced: Mapping[int, Mapping[str, int]] | None = None,  # noqa: ARG002
        former_partition_of: _PartitionOf | None = None,
    ) -> Future[None]:
        """Let a topic's rows go to lanes, first those that waited without one."""
        assert former_partition_of is None, "no benchmark adds partitions"

        def work() -> None:
            lanes = self._lanes.setdefault(topic, {})
            for partition, (last_sequence, end_offset) in opened.items():
                if partition not in lanes:
                    lanes[partition] = MemoryLane(topic, partition)
                lanes[partition].open(last_sequence, end_offset, topic_id)
            self._partition_of[topic] = partition_of
            claimed = self._place(self._unassigned.pop(topic, []))
            if claimed and self._on_claimed is not None:
                self._on_claimed(
                    [(name, part, rows[-1].sequence) for name, part, rows in claimed]
                )

        return self._done(work)

    def read(
        self, topic: str, partition: int, after: int, max_rows: int, max_bytes: int
    ) -> Future[list[StoredRecord]]:
        """Give a lane's rows after a sequence, in order."""
        return self._done(
            lambda: self._lanes[topic][partition].read(after, max_rows, max_bytes)
        )

    def acknowledge(  # noqa: PLR0913, PLR0917 - the Protocol's
        self,
        topic: str,
        partition: int,
        first_sequence: int,
        last_sequence: int,
        base_offset: int,
        size_bytes: int,  # noqa: ARG002 - the file's bound is counted in it
        envelopes: Mapping[Envelope, int] | None = None,  # noqa: ARG002 - for metrics
    ) -> None:
        """Note that rows stand in the log side by side, from an offset on."""
        with self._lock:
            lane = self._lanes[topic][partition]
            lane.acknowledge(first_sequence, last_sequence, base_offset)
            count = last_sequence - first_sequence + 1
            self.statistics.acknowledged += count
            self.statistics.rows -= count

    def delivered(
        self, topic: str, partition: int, after: int, max_rows: int
    ) -> Future[list[Delivered]]:
        """Give a lane's acknowledged rows after a sequence that are still kept."""
        return self._done(
            lambda: self._lanes[topic][partition].delivered(after, max_rows)
        )

    def rewind(
        self,
        topic: str,
        partition: int,
        sequence: int,
        resume_offset: int,
        resent_sequence: int,
    ) -> Future[int]:
        """Take acknowledgements back: rows after a sequence aren't in the log."""

        def work() -> int:
            lane = self._lanes[topic][partition]
            again = lane.rewind(sequence, resume_offset, resent_sequence)
            self.statistics.rows += again
            return again

        return self._done(work)

    def refuse(
        self, topic: str, partition: int, sequence: int, dead_letter: Record
    ) -> Future[None]:
        """Replace a lane's first waiting row by a dead letter."""

        def work() -> None:
            self._lanes[topic][partition].take_out(sequence)
            self.statistics.rows -= 1
            self._take([dead_letter])

        return self._done(work)

    def quarantine(
        self, topic: str, partition: int, sequence: int, reason: str
    ) -> Future[None]:
        """Put a lane's first waiting row aside for good."""

        def work() -> None:
            row = self._lanes[topic][partition].take_out(sequence)
            self.quarantined.append((row, reason))
            self.statistics.rows -= 1

        return self._done(work)

    # -- Inside ---------------------------------------------------------------

    def _all(self) -> list[MemoryLane]:
        return [lane for lanes in self._lanes.values() for lane in lanes.values()]

    def _done(self, work: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        with self._lock:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - whoever asked gets it
                future.set_exception(error)
            else:
                future.set_result(result)
        return future

    def _take(self, records: Sequence[Record]) -> None:
        """Place records and tell the relay; the lock is held."""
        placed = self._place(records)
        self.statistics.rows += len(records)
        if placed and self._on_committed is not None:
            self._on_committed(placed)

    def _place(self, records: Sequence[Record]) -> list[_Placed]:
        """Give records their lanes and sequences; the lock is held."""
        placed: dict[MemoryLane, list[StoredRecord]] = {}
        counter, prefix = self._counter, self._prefix
        for record in records:
            topic, key = record.topic, record.key
            partition_of = self._partition_of.get(topic)
            if partition_of is None:
                self._unassigned[topic].append(record)
                continue
            lane = self._lanes[topic][partition_of(key)]
            sequence = lane.last_sequence = lane.last_sequence + 1
            counter += 1
            row = lane.rows[sequence] = StoredRecord(
                sequence,
                f"{prefix}{counter}",
                key,
                record.value,
                record.received_at_us,
                record.envelope,
                record.extra,
            )
            if lane in placed:
                placed[lane].append(row)
            else:
                placed[lane] = [row]
        self._counter = counter
        return [(lane.topic, lane.partition, rows) for lane, rows in placed.items()]
