"""
The outbox at work: one thread that owns the file.

Everything that reaches the disk goes through `Writer.run`, a loop that makes
one transaction of whatever has gathered: records, acknowledgements, requests.
So a firehose shares its commits and a lone event doesn't wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import structlog

from bridge.errors import OutboxDamagedError, OutboxDirectoryError, OutboxFullError
from bridge.events.record import Record
from bridge.outbox.buffer import total_weight
from bridge.outbox.commit import Plan, commit, say_goodbye, settle_in, write_gaps
from bridge.outbox.hands import Hands
from bridge.outbox.inbox import Inbox
from bridge.outbox.jobs.order import Order
from bridge.outbox.losses import Losses
from bridge.outbox.opening import Opened
from bridge.outbox.room import Room
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.store import Placed, Store
from bridge.outbox.succession import Succession
from bridge.outbox.webhooks.deliveries import KeptDeliveries
from bridge.settings import OutboxSettings


__all__ = ["Writer"]

_log = structlog.get_logger("bridge.outbox")

# Rows of one transaction, about 5 ms of work each; how many bytes it takes
# `room` says.
_ROWS_A_COMMIT = 2000
_CLAIMED_A_COMMIT = 1000
_TRIMMED_A_COMMIT = 4000
_TAKEN_A_COMMIT = 200
_HEALED_A_COMMIT = 100

# Gap records of one transaction: they go with it whether there is room or not.
_RESERVED_A_COMMIT = 100

# The loop comes by at least so often: its heartbeat, and the pace of trimming
# and of tries on a full disk.
_IDLE_SECONDS = 1.0

# A full outbox at which rows come and go is told of once: it is full no more
# when it has refused nothing for so long.
_CALM_SECONDS = 3.0


class Writer:
    """
    The loop of the outbox's thread, with the file that it writes.

    Args:
        path: The database file.
        settings: The limits.
        inbox: What it works off.
        losses: Told of what is given up.
        statistics: What it counts.
        order: Judges what is written.
        deliveries: What is remembered of webhooks.

    Attributes:
        id: The file's UUID.
        memory: What the process before has left.
        jobs: The jobs in flight.
        is_stuck: Whether nothing at all could be written lately.
        on_committed: Gets the rows of each lane right after their commit.
        on_claimed: Gets (topic, partition, last sequence) of claimed lanes.
        on_replaced: Told when another file is in the damaged one's place.
        replacing: Held until what was asked of the damaged file is cancelled: who is
            told so and subscribes anew asks nothing before.

    Raises:
        OutboxFormatError: The file is no outbox of this version.
        OutboxDirectoryError: The file can't be opened.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - once a process, and each is another thing
        self,
        path: Path,
        settings: OutboxSettings,
        inbox: Inbox,
        losses: Losses,
        statistics: OutboxStatistics,
        order: Order,
        deliveries: KeptDeliveries,
    ) -> None:
        self._deliveries = deliveries
        self._path = path
        self._settings = settings
        self._inbox = inbox
        self._losses = losses
        self._statistics = statistics
        self._hands = Hands(inbox.buffer, losses, statistics)
        self.on_committed: Callable[[list[Placed]], None] | None = None
        self.on_claimed: Callable[[list[tuple[str, int, int]]], None] | None = None
        self.on_replaced: Callable[[], None] | None = None
        self.replacing = threading.Lock()
        self.is_stuck = self._is_short = False
        self._trimmed = 0
        self._refused_at = self._measured_at = 0.0
        self._store: Store
        self._room: Room
        self.jobs = order.jobs
        self._files = Succession(path, settings.max_bytes, losses, statistics, order)
        store = self._files.opened.store
        self.memory = store.remembered.memory()
        try:
            self._use(self._files.opened)
            settle_in(store, notes=not self._room.is_near_its_end)
        except OutboxDamagedError as error:
            self._files.set_aside(error, None)
            self._files.renew()
            self._use(self._files.opened)
        statistics.rows_at_start = statistics.rows
        statistics.held_at_start = statistics.held

    def run(self) -> None:
        """Work until the inbox says to stop: see `Outbox.run`."""
        try:
            while True:
                try:
                    self._work()
                    break
                except OutboxDamagedError as error:
                    self._replace(error)
        finally:
            self._files.opened.connection.close()
            self._inbox.close()
            self._give_up_rest()
            self._inbox.give_up_reserved()
            self._statistics.last_beat = 0.0

    def _work(self) -> None:
        self._statistics.kept += write_gaps(self._store, self._inbox, self._room)
        self._files.salvage(self._inbox.acknowledged_up_to, self._beat)
        while True:
            self._wait()
            stopping = self._inbox.is_stopping
            is_moving = self._round()
            if stopping and not (is_moving and self._inbox.buffer.size_bytes):
                break
        self._finish()

    # -- One round ------------------------------------------------------------

    def _wait(self) -> None:
        inbox = self._inbox
        if inbox.awaits_room or not inbox.buffer:
            inbox.bell.wait(_IDLE_SECONDS)
        inbox.bell.listen()

    def _round(self) -> bool:
        """Do one transaction; False if it brought nothing that waits any further."""
        inbox, room = self._inbox, self._room
        hands = self._hands
        hands.take(_ROWS_A_COMMIT, room.step_bytes)
        if hands.records and room.is_near_its_end:
            self._lighten()
        records = hands.records
        fitting = room.fit(records, hands.weight) if records else 0
        self._is_short = bool(records) and not fitting
        moved = self._commit_what_fits(records[:fitting])
        # Rows that Kafka has are the first to go; without any it is full.
        if self._is_short and not moved:
            self._note_full(room.reason)
        left = hands.put_back()
        inbox.awaits_room = left and not moved
        if left and (moved or hands.shed()):
            inbox.bell.ring()
        self._answer()
        self._beat()
        return bool(moved) or not left

    def _commit_what_fits(self, records: list[Record]) -> int:
        """Return how many rows came, moved or went."""
        inbox, room, hands = self._inbox, self._room, self._hands
        in_hands = hands.weight if len(records) == len(hands.records) else 0
        plan = Plan(
            records,
            in_hands=in_hands,
            kept=list(islice(inbox.reserved, _RESERVED_A_COMMIT)),
            claims=_CLAIMED_A_COMMIT,
            claim_bytes=room.step_bytes,
            takes=inbox.takes.admit(_TAKEN_A_COMMIT, room) if inbox.takes else 0,
            healings=self._healings(in_hands) if inbox.healings else 0,
            notes=self._has_room,
        )
        for part in plan.parts():
            try:
                moved = self._commit(part)
            except OutboxFullError as error:
                self._note_full(str(error))
                # Those that came meanwhile, too: none of them waits for room.
                inbox.takes.refuse(len(inbox.takes), error)
                # Each try may wait for a lock that somebody's shell holds.
                self._statistics.last_beat = time.monotonic()
                # This empties the log, as far as the disk lets it.
                room.measure()
            else:
                self.is_stuck = False
                return moved
        self.is_stuck = True
        return 0

    def _healings(self, in_hands: int) -> int:
        """Count what may be done behind the records of this transaction."""
        inbox = self._inbox
        return inbox.healings.fitting(
            _HEALED_A_COMMIT,
            self._room,
            lambda mark: inbox.buffer.has_passed(mark, in_hands),
        )

    def _commit(self, plan: Plan) -> int:
        store, inbox, statistics = self._store, self._inbox, self._statistics
        done = commit(store, inbox, plan, self._trim)
        self._trimmed = done.trimmed
        statistics.acknowledged += sum([run.count for _, _, run, _ in done.runs])
        self._count_rows()
        statistics.committed += len(plan.records)
        if plan.kept:
            self._room.spend(total_weight([kept.record for kept in plan.kept]))
            statistics.kept += len(plan.kept)
        self._room.spend(store.job_table.written_bytes)
        is_partial = (plan.kept and inbox.reserved) or (done.healed and inbox.healings)
        if done.claimed or is_partial or inbox.takes:
            inbox.bell.ring()
        if done.claimed and self.on_claimed is not None:
            self.on_claimed(done.claimed)
        if done.placed and self.on_committed is not None:
            self.on_committed(done.placed)
        # Whoever asks how far lanes are was told of their rows before.
        inbox.changes.answer(done.results)
        inbox.takes.answer(done.taken)
        inbox.healings.answer(done.healed)
        # Last: whoever sees the buffer drained finds everything else done. At a stop a
        # loss ends with the process: more of it may follow.
        self._hands.release(plan.records, is_short=self._is_short or inbox.is_stopping)
        return done.moved

    @property
    def _has_room(self) -> bool:
        is_refusing = self._is_short or self._statistics.full
        return not (is_refusing or self._room.is_near_its_end)

    def _trim(self) -> int:
        # Where the limit is reached, this makes room; on a full disk it needs some.
        if self._has_room or self._room.is_bound_by_limit:
            kept = self._deliveries.within(self._room.deliveries_bytes)
            self._store.healer.deliveries.forget(kept)
        keep_us = int(self._settings.keep_acked_seconds * 1_000_000)
        return self._store.trim(
            older_than_us=time.time_ns() // 1000 - keep_us,
            keep_bytes=self._settings.keep_acked_bytes if self._has_room else 0,
            max_rows=_TRIMMED_A_COMMIT,
            max_bytes=self._room.step_bytes,
        )

    def _answer(self) -> None:
        questions = self._inbox.questions
        if not questions:
            return
        try:
            with self._store.reading():
                results = questions.work(self._store)
        except OutboxFullError as error:
            self._note_full(str(error))
        else:
            questions.answer(results)

    # -- What goes when there is no room ---------------------------------------

    def _lighten(self) -> None:
        """Have rows go without their previews, once Kafka's rows have gone."""
        if self._trimmed:
            self._room.measure()
        else:
            self._hands.lighten()

    def _finish(self) -> None:
        """Write what may still be written, and give up the rest."""
        buffer = self._inbox.buffer
        if buffer.size_bytes:
            self._hands.give_up_others()
            while buffer and self._round():
                pass
        self._give_up_rest()
        while self._inbox.reserved and self._commit_what_fits([]):
            pass
        self._room.measure()
        has_room = not self._room.is_near_its_end
        say_goodbye(self._store, self._inbox, notes=has_room)

    def _give_up_rest(self) -> None:
        self._hands.give_up_rest()
        self._losses.close(time.time_ns() // 1000)

    # -- Another file ----------------------------------------------------------

    def _use(self, opened: Opened) -> None:
        self._store, self._room, self.id = opened.store, opened.room, opened.id
        self._measure()

    def _replace(self, error: OutboxDamagedError) -> None:
        """Set the damaged file aside and go on with a new one."""
        self._hands.put_back()
        oldest_us = self._statistics.oldest_received_at_us
        since_us = self._hands.kept_us if oldest_us is None else oldest_us
        self._files.set_aside(error, since_us)
        while not self._is_renewed():
            # What was read waits in memory, as far as it finds room there.
            self._statistics.last_beat = time.monotonic()
            self._inbox.bell.listen()
            self._inbox.bell.wait(_IDLE_SECONDS)
        self._use(self._files.opened)
        with self.replacing:
            if self.on_replaced is not None:
                self.on_replaced()
            # Whoever asked hears first why nobody answers.
            self._inbox.cancel_requests()

    def _is_renewed(self) -> bool:
        try:
            self._files.renew()
        except OutboxDirectoryError as failure:
            if self._inbox.is_stopping:
                raise
            self._note_full(str(failure))
            takes = self._inbox.takes
            takes.refuse(len(takes), OutboxFullError(str(failure)))
            return False
        return True

    # -- What it tells --------------------------------------------------------

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._measured_at > _IDLE_SECONDS:
            self._measure()
        statistics = self._statistics
        if not statistics.rows:
            statistics.oldest_received_at_us = None
        if statistics.full and now - self._refused_at > _CALM_SECONDS:
            statistics.full = False
            _log.info("outbox.has_room", path=str(self._path))
        self._losses.settle()
        statistics.last_beat = now

    def _measure(self) -> None:
        self._measured_at = time.monotonic()
        self.jobs.expire(time.time_ns() // 1000)
        self._room.measure()
        self._count_rows()
        statistics = self._statistics
        statistics.bytes = self._room.used_bytes
        # What can't be read now is read the next time.
        with suppress(OutboxFullError), self._store.reading():
            statistics.oldest_received_at_us = self._store.oldest_pending_us()

    def _count_rows(self) -> None:
        statistics, store = self._statistics, self._store
        statistics.rows = store.pending
        statistics.quarantined = store.quarantined
        statistics.held = store.healer.holding.count

    def _note_full(self, reason: str) -> None:
        self._refused_at = time.monotonic()
        if not self._statistics.full:
            self._statistics.full = True
            _log.error("outbox.full", path=str(self._path), reason=reason)
