"""
The ledger: which gaps are open, and a record of each when it opens and closes.

Owns the records of `jobs.gaps`, their count and their two lines in the log. It finds
no gap itself and knows no outbox: gaps are told to it, records are handed on.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol
from uuid import uuid4

import msgspec
import structlog

from bridge.kafka import header_names
from bridge.record import Envelope, Importance, Kind, Loss, Memory, Origin, Record
from bridge.recovery.gap import Gap, GapCause


__all__ = ["GapStatistics", "HandOn", "Ledger"]

_log = structlog.get_logger("bridge.recovery")

_NS_PER_US: Final = 1000


class GapStatistics:
    """
    Counts since the start.

    Args:
        accounts: The client ids there are: each has its zeros from the start.

    Attributes:
        gaps: Gaps that opened, by client id and cause.
        open: Gaps that are open now, by client id.
        seconds: Seconds of the gaps that have closed, by client id.
    """

    def __init__(self, accounts: Iterable[str]) -> None:
        accounts = list(accounts)
        self.gaps: dict[tuple[str, str], int] = {
            (who, cause): 0 for who in accounts for cause in GapCause
        }
        self.open = dict.fromkeys(accounts, 0)
        self.seconds = dict.fromkeys(accounts, 0.0)


class HandOn(Protocol):
    """Who takes the records of gaps."""

    def __call__(
        self, record: Record, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        """
        Take a record; must not wait, and must not tell of a gap.

        Args:
            record: What is to be published.
            opens: The gap that it opens, for the memory of the next process.
            closes: The gap that it closes, which may be forgotten.
        """


class Ledger:
    """
    The gaps of all accounts of one process; every method may be called anywhere.

    Records are handed on in the order in which gaps opened and closed. Those that
    come before there is somebody to take them wait for `connect`. A gap that the
    process before left open is the same gap in this one: see `restore`.

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
        self._topic = topic
        self._now_ns = now_ns
        self._envelopes = {
            client_id: Envelope(
                ce_source=ce_source,
                ce_type=header_names.GAP_TYPE,
                # A gap is one of the socket: what other ways bring has none.
                origin=Origin.SOCKET,
                content_type=header_names.JSON_CONTENT,
                kind=Kind.GAP,
            )
            for client_id, ce_source in accounts.items()
        }
        self._client_ids = {
            ce_source: client_id for client_id, ce_source in accounts.items()
        }
        # Held while a record is handed on: two threads may tell of gaps, and the
        # record that closes one must not overtake the one that opened it.
        self._lock = threading.Lock()
        self._open: dict[str, Gap] = {}
        self._of_loss: dict[int, list[str]] = {}
        self._waiting: list[tuple[Record, str | None, str | None]] = []
        self._hand_on: HandOn | None = None

    def connect(self, hand_on: HandOn) -> None:
        """
        Name who takes the records, and give it those that wait.

        Args:
            hand_on: Gets each from now on.
        """
        with self._lock:
            self._hand_on = hand_on
            for record, opens, closes in self._waiting:
                hand_on(record, opens=opens, closes=closes)
            self._waiting.clear()

    def restore(self, memory: Memory) -> None:
        """
        Take over what the process before left open, before any hearing begins.

        A gap of an account's hearing goes on until its next subscription. A loss
        ended with the process, and is closed where that gap, or the one of this
        start, begins. What belongs to no account of this process stays as it is, for
        the start at which the account is there again: nobody hears it until then.

        Args:
            memory: What the outbox remembers.
        """
        left: dict[str, dict[str, Gap]] = {}
        for left_gap in memory.left_gaps:
            try:
                gap = Gap.decode(left_gap.value)
            except ValueError as error:
                # Its interval is not lost by that: the gap of the start covers it.
                _log.warning("gap.unreadable", error=str(error))
                continue
            left.setdefault(gap.client_id, {})[gap.gap_id] = gap
        with self._lock:
            for client_id, gaps in left.items():
                envelope = self._envelopes.get(client_id)
                if envelope is None:
                    _log.info("gap.left_open", client_id=client_id, gaps=len(gaps))
                    continue
                self._take_over(
                    list(gaps.values()), memory.proved_us.get(envelope.ce_source)
                )

    def _take_over(self, gaps: list[Gap], proved_us: int | None) -> None:
        """Continue the one gap of hearing, if there is one, and close all others."""
        hearing = min(
            (gap for gap in gaps if not gap.cause.is_loss),
            key=lambda gap: _moment(gap.since_us),
            default=None,
        )
        for gap in gaps:
            self._open[gap.gap_id] = gap
            self.statistics.open[gap.client_id] += 1
        if hearing is not None:
            # A gap's record reaches the disk before events that came before it, if
            # many wait there: those went with the process, and had not been proved.
            proved_us = _earlier(hearing.since_us, proved_us)
            self._open[hearing.gap_id] = msgspec.structs.replace(
                hearing, since_us=proved_us
            )
            _log.info("gap.continued", **_named(self._open[hearing.gap_id]))
        for gap in gaps:
            if gap is not hearing:
                self._write_close(gap.gap_id, self._end_of(gap, proved_us))

    def _end_of(self, gap: Gap, hearing_since_us: int | None) -> int:
        """Give the moment from which on an account's gap of hearing covers a loss."""
        known = [us for us in (gap.since_us, hearing_since_us) if us is not None]
        return max(known, default=self._now_us)

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

    def _concerned(self, ce_source: str | None) -> list[str]:
        """Give the accounts of which records may be those of a source."""
        if ce_source is None:
            return list(self._envelopes)
        client_id = self._client_ids.get(ce_source)
        return [] if client_id is None else [client_id]

    def _write_open(self, gap: Gap) -> str:
        self._open[gap.gap_id] = gap
        self.statistics.gaps[gap.client_id, gap.cause] += 1
        self.statistics.open[gap.client_id] += 1
        self._write(gap, opens=gap.gap_id)
        _log.warning("gap.opened", **_named(gap))
        return gap.gap_id

    def _write_close(self, gap_id: str, until_us: int, **more: object) -> None:
        gap = msgspec.structs.replace(self._open.pop(gap_id), until_us=until_us)
        self.statistics.open[gap.client_id] -= 1
        self.statistics.seconds[gap.client_id] += gap.duration_seconds or 0.0
        self._write(gap, closes=gap_id)
        _log.info(
            "gap.closed",
            gap_id=gap.gap_id,
            cause=gap.cause.value,
            client_id=gap.client_id,
            duration_seconds=gap.duration_seconds,
            **more,
        )

    def _write(
        self, gap: Gap, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        record = Record(
            topic=self._topic,
            key=gap.client_id.encode(),
            value=gap.encode(),
            received_at_us=self._now_us,
            envelope=self._envelopes[gap.client_id],
            importance=Importance.TERMINAL,
        )
        if self._hand_on is None:
            self._waiting.append((record, opens, closes))
        else:
            self._hand_on(record, opens=opens, closes=closes)

    @property
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


def _moment(since_us: int | None) -> float:
    """Make a begin comparable: one that isn't known may be any."""
    return -math.inf if since_us is None else since_us


def _earlier(one_us: int | None, other_us: int | None) -> int | None:
    return min(one_us, other_us, key=_moment)
