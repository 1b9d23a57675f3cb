"""
The ledger: which gaps are open, and a record of each when it opens and closes.

Owns the records of `jobs.gaps`, their count and their two lines in the log. It finds
no gap itself and knows no outbox: gaps are told to it, records are handed on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from uuid import uuid4

import msgspec
import structlog

from bridge.kafka import header_names
from bridge.record import Envelope, Importance, Loss, Origin, Record
from bridge.recovery.gap import Gap, GapCause


__all__ = ["GapStatistics", "Ledger"]

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


class Ledger:
    """
    The gaps of all accounts of one process; every method may be called anywhere.

    Records are handed on in the order in which gaps opened and closed. Those that
    come before there is somebody to take them wait for `connect`.

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
            )
            for client_id, ce_source in accounts.items()
        }
        # Held while a record is handed on: two threads may tell of gaps, and the
        # record that closes one must not overtake the one that opened it.
        self._lock = threading.Lock()
        self._open: dict[str, Gap] = {}
        self._of_loss: dict[int, list[str]] = {}
        self._waiting: list[Record] = []
        self._hand_on: Callable[[Record], None] = self._waiting.append

    def connect(self, hand_on: Callable[[Record], None]) -> None:
        """
        Name who takes the records, and give it those that wait.

        Args:
            hand_on: Must not wait, and must not tell of a gap.
        """
        with self._lock:
            self._hand_on = hand_on
            for record in self._waiting:
                hand_on(record)
            self._waiting.clear()

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

        Every account has a gap of its own: whose records were lost isn't told. A loss
        that is told when it is over already opens and closes its gaps at once.

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
                    for client_id in self._envelopes
                ]
            if loss.until_us is not None:
                for gap_id in gap_ids:
                    # Older records may have been given up after younger ones.
                    self._open[gap_id] = msgspec.structs.replace(
                        self._open[gap_id], since_us=loss.since_us
                    )
                    self._write_close(gap_id, loss.until_us, records_lost=loss.records)
                del self._of_loss[loss.number]

    def _write_open(self, gap: Gap) -> str:
        self._open[gap.gap_id] = gap
        self.statistics.gaps[gap.client_id, gap.cause] += 1
        self.statistics.open[gap.client_id] += 1
        self._write(gap)
        _log.warning(
            "gap.opened",
            gap_id=gap.gap_id,
            cause=gap.cause.value,
            client_id=gap.client_id,
            since=gap.published().since,
        )
        return gap.gap_id

    def _write_close(self, gap_id: str, until_us: int, **more: object) -> None:
        gap = msgspec.structs.replace(self._open.pop(gap_id), until_us=until_us)
        self.statistics.open[gap.client_id] -= 1
        self.statistics.seconds[gap.client_id] += gap.duration_seconds or 0.0
        self._write(gap)
        _log.info(
            "gap.closed",
            gap_id=gap.gap_id,
            cause=gap.cause.value,
            client_id=gap.client_id,
            duration_seconds=gap.duration_seconds,
            **more,
        )

    def _write(self, gap: Gap) -> None:
        self._hand_on(
            Record(
                topic=self._topic,
                key=gap.client_id.encode(),
                value=gap.encode(),
                received_at_us=self._now_ns() // _NS_PER_US,
                envelope=self._envelopes[gap.client_id],
                importance=Importance.TERMINAL,
            )
        )
