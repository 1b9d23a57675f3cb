"""
The ledger: which gaps are open or not settled, and a record of each change.

Owns when the records of `jobs.gaps` are written, their count and their lines in the
log. It finds no gap itself and knows no outbox: gaps, and the jobs of them that were
healed, are told to it, records are handed on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import uuid4

import msgspec
import structlog

from bridge.events.record import Origin
from bridge.outbox.values import Loss, Memory
from bridge.recovery.closed import ClosedGaps
from bridge.recovery.gap import Gap, GapCause
from bridge.recovery.left import Left, left_by_account
from bridge.recovery.statistics import GapStatistics
from bridge.recovery.writing import GapWriter, HandOn


__all__ = ["Ledger"]

_log = structlog.get_logger("bridge.recovery")

_NS_PER_US: Final = 1000


class Ledger:
    """
    The gaps of all accounts of one process; every method may be called anywhere.

    Records are handed on in the order in which gaps opened, closed and were settled.
    Those that come before there is somebody to take them wait for `connect`. A gap that
    the process before left open is the same gap in this one: see `restore`.

    Args:
        topic: Where gaps go.
        accounts: The `ce_source` of each client id.
        now_ns: The time, nanoseconds since the epoch.

    Attributes:
        statistics: What was counted so far.
    """

    def __init__(
        self,
        topic: str,
        accounts: Mapping[str, str],
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.statistics = GapStatistics(accounts)
        self._now_ns = now_ns
        self._sources = dict(accounts)
        self._client_ids = {source: client_id for client_id, source in accounts.items()}
        # Held while a record is handed on: two threads may tell of gaps, and the
        # record that closes one must not overtake the one that opened it.
        self._lock = threading.Lock()
        self._writer = GapWriter(topic, accounts, self._now_us)
        self._open: dict[str, Gap] = {}
        self._closed = ClosedGaps(self._writer, self.statistics, self._now_us)
        self._of_loss: dict[int, list[str]] = {}
        self._jobs_in_flight: Callable[[str], int | None] = lambda _: None
        self._on_closed: Callable[[Gap], None] | None = None

    def connect(
        self,
        hand_on: HandOn,
        jobs_in_flight: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        """
        Name who takes the records, and give it those that wait.

        Args:
            hand_on: Gets each from now on.
            jobs_in_flight: How many jobs of a client id are unfinished, if that is
                known: asked when a gap closes, where it wasn't known when it opened.
        """
        with self._lock:
            self._jobs_in_flight = jobs_in_flight
            self._writer.connect(hand_on)

    def follow(self, on_closed: Callable[[Gap], None]) -> None:
        """
        Name who finds out what became of the jobs of closed gaps, for `settle`.

        Args:
            on_closed: Gets each gap that has closed, by any thread, and now those of
                before. Those of the process before are with them, not settled or
                settled with jobs of which nothing was known. It must neither wait nor
                offer to the outbox; it may call the ledger.
        """
        with self._lock:
            self._on_closed = on_closed
        self._tell_of_closed()

    def _tell_of_closed(self) -> None:
        """Tell who follows; not under the lock, for it may call the ledger."""
        with self._lock:
            on_closed = self._on_closed
            if on_closed is None:
                return
            gaps = self._closed.take_untold()
        for gap in gaps:
            on_closed(gap)

    # -- The start ------------------------------------------------------------

    def restore(self, memory: Memory) -> None:
        """
        Take over what the process before left, before any hearing begins.

        A gap of an account's hearing goes on until its next subscription. A loss
        ended with the process, and is closed where that gap, or the one of this
        start, begins. A closed gap waits on for what becomes of its jobs. What belongs
        to no account of this process stays as it is, for the start at which the account
        is there again: nobody hears it until then.

        Args:
            memory: What the outbox remembers.
        """
        left = left_by_account(memory)
        with self._lock:
            for client_id, gaps in left.items():
                ce_source = self._sources.get(client_id)
                if ce_source is not None:
                    self._closed.take_over(client_id, gaps)
                    self._take_over_open(gaps, memory.proved_us.get(ce_source))
                elif gaps.open:
                    _log.info("gap.left_open", client_id=client_id, gaps=len(gaps.open))
        self._tell_of_closed()

    def _take_over_open(self, left: Left, proved_us: int | None) -> None:
        """Continue the one gap of hearing, if there is one, and close all others."""
        for gap in left.open:
            self._open[gap.gap_id] = gap
            self.statistics.open[gap.client_id] += 1
        hearing = left.continued(proved_us)
        if hearing is not None:
            proved_us = hearing.since_us
            self._open[hearing.gap_id] = hearing
            _log.info("gap.continued", **_named(hearing))
        for gap in left.open:
            if hearing is None or gap.gap_id != hearing.gap_id:
                # From there on an account's gap of hearing covers a loss.
                known = [us for us in (gap.since_us, proved_us) if us is not None]
                self._write_close(gap.gap_id, max(known, default=self._now_us()))

    # -- Gaps open and close --------------------------------------------------

    def hearing_of(self, client_id: str) -> Gap | None:
        """
        Give the open gap in which an account hears nothing.

        Args:
            client_id: Whose.

        Returns:
            The gap; None while the account is heard.
        """
        with self._lock:
            for gap in self._open.values():
                if gap.client_id == client_id and not gap.cause.is_loss:
                    return gap
        return None

    def open(
        self,
        client_id: str,
        cause: GapCause,
        since_us: int | None,
        *,
        close_code: int | None = None,
        jobs_in_flight: int | None = None,
    ) -> str:
        """
        Write down that a gap has begun.

        Args:
            client_id: Whose.
            cause: Why.
            since_us: What was sent before had arrived; None if nothing is known.
            close_code: What ended the connection, if a code did.
            jobs_in_flight: How many jobs are unfinished, if that is known.

        Returns:
            The gap's id, for `close`.
        """
        gap = Gap(
            gap_id=str(uuid4()),
            cause=cause,
            client_id=client_id,
            since_us=since_us,
            close_code=close_code,
            jobs_in_flight=jobs_in_flight,
        )
        with self._lock:
            self._write_open(gap)
        return gap.gap_id

    def close(self, gap_id: str, until_us: int) -> None:
        """
        Write down that a gap has ended.

        Args:
            gap_id: Which one; it must be open.
            until_us: What is sent from then on arrives.
        """
        with self._lock:
            self._write_close(gap_id, until_us)
        self._tell_of_closed()

    def on_loss(self, loss: Loss) -> None:
        """
        Write down that the outbox loses records, or that it has ceased to.

        It is a gap of the account whose records were lost; where that isn't known, each
        account has one. A loss that is told when it is over already opens and closes
        its gaps at once. Records of no account of this process are a line in the log:
        nobody would close their gap.

        Args:
            loss: As the outbox tells it.
        """
        with self._lock:
            gap_ids = self._of_loss.get(loss.number)
            if gap_ids is None:
                gap_ids = self._of_loss[loss.number] = [
                    self._write_open(
                        Gap(
                            gap_id=str(uuid4()),
                            cause=GapCause(loss.cause),
                            client_id=client_id,
                            since_us=loss.since_us,
                        )
                    )
                    for client_id in self._concerned(loss.ce_source)
                ]
            if loss.until_us is not None:
                for gap_id in gap_ids:
                    # Older records may have been given up after younger ones.
                    self._open[gap_id] = msgspec.structs.replace(
                        self._open[gap_id], since_us=loss.since_us
                    )
                    self._write_close(gap_id, loss.until_us, records_lost=loss.records)
                if not gap_ids:
                    _log.warning(
                        "gap.without_account",
                        cause=loss.cause,
                        ce_source=loss.ce_source,
                        records_lost=loss.records,
                    )
                del self._of_loss[loss.number]
        self._tell_of_closed()

    def _concerned(self, ce_source: str | None) -> list[str]:
        """Give the accounts of which records may be those of a source."""
        if ce_source is None:
            return list(self._sources)
        client_id = self._client_ids.get(ce_source)
        return [] if client_id is None else [client_id]

    def _write_open(self, gap: Gap) -> str:
        self._open[gap.gap_id] = gap
        self.statistics.gaps[gap.client_id, gap.cause] += 1
        self.statistics.open[gap.client_id] += 1
        self._writer.write(gap, is_remembered=True, was_remembered=False)
        _log.warning("gap.opened", **_named(gap))
        return gap.gap_id

    def _write_close(self, gap_id: str, until_us: int, **more: object) -> None:
        gap = msgspec.structs.replace(self._open.pop(gap_id), until_us=until_us)
        if gap.jobs_in_flight is None:
            jobs = self._jobs_in_flight(gap.client_id)
            gap = msgspec.structs.replace(gap, jobs_in_flight=jobs)
        self.statistics.open[gap.client_id] -= 1
        self.statistics.seconds[gap.client_id] += gap.duration_seconds or 0.0
        self._writer.write(gap, is_remembered=True, was_remembered=True)
        self._closed.add(gap)
        _log.info(
            "gap.closed",
            gap_id=gap.gap_id,
            cause=gap.cause.value,
            client_id=gap.client_id,
            duration_seconds=gap.duration_seconds,
            **more,
        )

    # -- What becomes of their jobs -------------------------------------------

    def healable(
        self, client_id: str, last_seen_us: int | None, ended_us: int | None
    ) -> tuple[str, ...]:
        """
        Find the gaps that are healed of a job if its end is learned now.

        Args:
            client_id: Whose job.
            last_seen_us: When it was heard of last; None if it never was.
            ended_us: When it ended, if that is known: it tells where a job belongs
                that was not heard of before.

        Returns:
            The ids of those that are open, or have closed since it was heard of, or
            in which it has ended.
        """
        with self._lock:
            closed = tuple(self._closed.healable(client_id, last_seen_us, ended_us))
            return closed + tuple(
                gap.gap_id
                for gap in self._open.values()
                if gap.client_id == client_id
                and (last_seen_us is not None or gap.covers(ended_us, self._now_us()))
            )

    def healed(self, gap_ids: Sequence[str], origin: Origin) -> None:
        """
        Count one job, after its end was written for good.

        A gap that is settled is written again: its last record says what is so.

        Args:
            gap_ids: Of `healable`, when its end was offered. Those that were forgotten
                since are passed over.
            origin: How it was learned: by the status endpoint or a webhook.
        """
        accounts: set[str] = set()
        with self._lock:
            for gap_id in gap_ids:
                if gap_id in self._open:
                    gap = self._open[gap_id] = self._open[gap_id].healed(origin)
                    accounts.add(gap.client_id)
                elif client_id := self._closed.healed(gap_id, origin):
                    accounts.add(client_id)
            for client_id in accounts:
                self.statistics.healed[client_id, origin] += 1

    def settle(self, gap_id: str, unknown: int, *, final: bool = False) -> None:
        """
        Write down what became of a gap's jobs; again when it turns out to be otherwise.

        Args:
            gap_id: Which one; it has closed. One that was forgotten is passed over.
            unknown: Of how many jobs that were in flight nobody can tell.
            final: Nothing more will be learned: the next process needn't know of it.
        """
        with self._lock:
            self._closed.settle(gap_id, unknown, final=final)

    def expire(self) -> None:
        """Forget gaps of which no more will be learned; to be called now and then."""
        with self._lock:
            self._closed.expire()

    def _now_us(self) -> int:
        return self._now_ns() // _NS_PER_US


def _named(gap: Gap) -> dict[str, str | None]:
    """Give what the log says of a gap that is open."""
    return {
        "gap_id": gap.gap_id,
        "cause": gap.cause.value,
        "client_id": gap.client_id,
        "since": gap.published().since,
    }
