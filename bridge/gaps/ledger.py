"""
The ledger of gaps: which are open, and which are not resolved yet.

Each change of a gap is a record on the topic of gaps. Sessions and the outbox open and
close gaps; `reconciler` and webhooks find out how their jobs ended. All of it runs on
the trio thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Final, Protocol
from uuid import uuid4

import msgspec
import structlog

from bridge.events import header_names
from bridge.events.record import Envelope, Importance, Kind, Origin, Record
from bridge.gaps.gap import Gap, GapCause
from bridge.metric import counter, gauge
from bridge.outbox.values import LeftGap, Loss, Memory


__all__ = ["ClosedGap", "GapStatistics", "Ledger"]

_log = structlog.get_logger("bridge.gaps")

# dryAPI repeats a webhook for about a day.
_KEPT_US: Final = 25 * 3600 * 1_000_000

# For one account, 1 MB. One that reconnects every minute has half as many again in that
# time, but the jobs of the oldest were asked about long ago.
_MAX_CLOSED: Final = 1000


class GapStatistics:
    """Counts since the start; each account has its zeros from the start."""

    gaps: Annotated[
        dict[tuple[str, str], int],
        counter(
            "bridge_gaps",
            "Intervals in which events may have been missed, by cause.",
            "client_id",
            "cause",
        ),
    ]
    open: Annotated[
        dict[str, int],
        gauge(
            "bridge_gap_open",
            "Gaps that are open now: events may be missed at this moment.",
            "client_id",
        ),
    ]
    seconds: Annotated[
        dict[str, float],
        counter(
            "bridge_gap_seconds", "Total length of the gaps that closed.", "client_id"
        ),
    ]
    resolved: Annotated[
        dict[str, int],
        counter(
            "bridge_gaps_resolved",
            "Gaps whose jobs are all resolved or counted as unknown.",
            "client_id",
        ),
    ]
    # Each once, also if it counts in several gaps.
    healed: Annotated[
        dict[tuple[str, str], int],
        counter(
            "bridge_gap_jobs_healed",
            "Jobs that ended in a gap and were recovered, by origin: status-endpoint or"
            " webhook.",
            "client_id",
            "by",
        ),
    ]
    unknown: Annotated[
        dict[str, int],
        gauge(
            "bridge_gap_jobs_unknown",
            "Jobs of gaps whose end is unknown; for 25 h after the gap, or until it is"
            " known.",
            "client_id",
        ),
    ]

    def __init__(self, accounts: Iterable[str]) -> None:
        accounts = list(accounts)
        self.gaps = {(who, cause): 0 for who in accounts for cause in GapCause}
        self.open = dict.fromkeys(accounts, 0)
        self.seconds = dict.fromkeys(accounts, 0.0)
        self.resolved = dict.fromkeys(accounts, 0)
        self.healed = {
            (who, origin): 0
            for who in accounts
            for origin in (Origin.STATUS_ENDPOINT, Origin.WEBHOOK)
        }
        self.unknown = dict.fromkeys(accounts, 0)


class ClosedGap(msgspec.Struct):
    """A gap that is over."""

    gap: Gap
    until_us: int
    # Whether the outbox remembers it for the next process: until the end of all of its
    # jobs is known, or nothing more will be learned. After that it is kept for jobs
    # that began and ended in it.
    is_remembered: bool = True
    # How many of its jobs the outbox has forgotten, so that they stay unknown.
    lost: int = 0
    # How many of its jobs were unknown to the process before, until it is resolved.
    unknown_before: int = 0


class Keep(Protocol):
    """Takes gap records: `Outbox.keep`."""

    def __call__(
        self, record: Record, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        """Write a record; remember the gap that it opens, forget the one it closes."""


class Ledger:
    """
    The gaps of all accounts of one process.

    A gap that the process before left open is the same gap in this one: see `restore`.

    Args:
        topic: The topic of gaps.
        accounts: The `ce_source` of each client id.
        keep: Takes the records, in order.
        jobs_in_flight: Returns how many jobs of a client id are unfinished, if known.
        now_ns: The time, nanoseconds since the epoch.
    """

    def __init__(
        self,
        topic: str,
        accounts: Mapping[str, str],
        keep: Keep,
        *,
        jobs_in_flight: Callable[[str], int | None] = lambda _: None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.statistics = GapStatistics(accounts)
        # Called with each gap that closes; it may call the ledger.
        self.on_closed: Callable[[ClosedGap], None] = lambda _: None
        self._topic = topic
        self._keep = keep
        self._jobs_in_flight = jobs_in_flight
        self._now_ns = now_ns
        self._sources = dict(accounts)
        self._client_ids = {source: client_id for client_id, source in accounts.items()}
        self._open: dict[str, Gap] = {}
        # By account, in the order in which they closed.
        self._closed: dict[str, dict[str, ClosedGap]] = {who: {} for who in accounts}
        # By the number of the outbox's loss.
        self._of_loss: dict[int, list[str]] = {}

    # -- The start --------------------------------------------------------------

    def restore(self, memory: Memory) -> None:
        """
        Restore the gaps that the process before left, before any session starts.

        The gap in which an account wasn't subscribed continues until its next
        subscription. A loss ended with the process: it is closed where that gap, or the
        one of this start, begins. A gap of an account that isn't configured stays in
        the outbox.
        """
        left: dict[str, list[Gap]] = {}
        for one in memory.left_gaps:
            try:
                reported = Gap.decode(one.value)
            except ValueError as error:
                # The gap of the start covers its interval.
                _log.warning("gap.unreadable", error=str(error))
                continue
            gap = _counted(reported, one)
            if gap.client_id not in self._sources:
                _log.info("gap.left_open", gap_id=gap.gap_id, client_id=gap.client_id)
            elif gap.until_us is None:
                left.setdefault(gap.client_id, []).append(gap)
            else:
                unknown = gap.unknown or 0
                closed = ClosedGap(gap, gap.until_us, unknown_before=unknown)
                self._closed[gap.client_id][gap.gap_id] = closed
                self.statistics.unknown[gap.client_id] += unknown
                if gap.is_resolved and gap != reported:
                    self._write(gap, opens=gap.gap_id)
        for client_id, gaps in left.items():
            self._restore_open(gaps, memory.proved_us.get(self._sources[client_id]))
        self.expire()
        if memory.damage is not None:
            self.on_loss(memory.damage)

    def _restore_open(self, gaps: Sequence[Gap], covered_us: int | None) -> None:
        """Continue the one gap without a subscription, if any, and close the others."""
        for gap in gaps:
            self._open[gap.gap_id] = gap
            self.statistics.open[gap.client_id] += 1
        continued = min(
            (gap for gap in gaps if not gap.cause.is_loss),
            key=lambda gap: _order(gap.since_us),
            default=None,
        )
        if continued is not None:
            # The record of a gap is written before older events that wait in memory:
            # those are lost with the process, and weren't covered.
            covered_us = min(continued.since_us, covered_us, key=_order)
            continued = msgspec.structs.replace(continued, since_us=covered_us)
            self._open[continued.gap_id] = continued
            _log.info("gap.continued", **_named(continued))
        for gap in gaps:
            if continued is None or gap.gap_id != continued.gap_id:
                known = [us for us in (gap.since_us, covered_us) if us is not None]
                self.close(gap.gap_id, max(known, default=self._now_us()))

    # -- Gaps open and close ----------------------------------------------------

    def subscription_gap(self, client_id: str) -> Gap | None:
        """Return the open gap in which an account isn't subscribed."""
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
    ) -> str:
        """
        Open a gap.

        Args:
            client_id: Whose events may be missed.
            cause: Why.
            since_us: All that was sent before was received; None if that isn't known.
            close_code: The WebSocket close code, if there was one.

        Returns:
            Its id.
        """
        gap = Gap(
            str(uuid4()),
            cause,
            client_id,
            since_us,
            close_code=close_code,
            jobs_in_flight=self._jobs_in_flight(client_id),
        )
        self._open[gap.gap_id] = gap
        self.statistics.gaps[client_id, cause] += 1
        self.statistics.open[client_id] += 1
        self._write(gap, opens=gap.gap_id)
        _log.warning("gap.opened", **_named(gap))
        return gap.gap_id

    def close(
        self, gap_id: str, until_us: int, *, records_lost: int | None = None
    ) -> None:
        """Close an open gap: what is sent from `until_us` on is received."""
        gap = msgspec.structs.replace(self._open.pop(gap_id), until_us=until_us)
        client_id = gap.client_id
        if gap.jobs_in_flight is None:
            jobs = self._jobs_in_flight(client_id)
            gap = msgspec.structs.replace(gap, jobs_in_flight=jobs)
        self.statistics.open[client_id] -= 1
        self.statistics.seconds[client_id] += gap.duration_seconds or 0.0
        self._write(gap, opens=gap_id)
        closed = self._closed[client_id][gap_id] = ClosedGap(gap, until_us)
        _log.info(
            "gap.closed",
            gap_id=gap_id,
            cause=gap.cause.value,
            client_id=client_id,
            duration_seconds=gap.duration_seconds,
            **({} if records_lost is None else {"records_lost": records_lost}),
        )
        self.on_closed(closed)

    def on_loss(self, loss: Loss) -> None:
        """
        Open or close the gaps of records that the outbox lost.

        If it isn't known whose they were, each account has a gap. Records of accounts
        that aren't configured are only logged: no session would close their gap.
        """
        client_id = self._client_ids.get(loss.ce_source or "")
        concerned = list(self._sources) if loss.ce_source is None else [client_id]
        gap_ids = self._of_loss.get(loss.number)
        if gap_ids is None:
            gap_ids = self._of_loss[loss.number] = [
                self.open(who, GapCause(loss.cause), loss.since_us)
                for who in concerned
                if who is not None
            ]
        if loss.until_us is None:
            return
        for gap_id in gap_ids:
            # Older records may have been lost after younger ones.
            self._open[gap_id] = msgspec.structs.replace(
                self._open[gap_id], since_us=loss.since_us
            )
            self.close(gap_id, loss.until_us, records_lost=loss.records)
        if not gap_ids:
            _log.warning(
                "gap.without_account",
                cause=loss.cause,
                ce_source=loss.ce_source,
                records_lost=loss.records,
            )
        del self._of_loss[loss.number]

    # -- How their jobs ended -----------------------------------------------------

    def unresolved(self, client_id: str) -> list[ClosedGap]:
        """Return an account's closed gaps that are remembered, by their end."""
        gaps = self._closed[client_id].values()
        return sorted(
            (one for one in gaps if one.is_remembered), key=lambda one: one.until_us
        )

    def resolve(self, closed: ClosedGap, unknown: int) -> None:
        """
        Record that a gap is resolved, or correct what was recorded.

        Args:
            closed: One of `unresolved`.
            unknown: How many of its jobs in flight have an unknown end; those that the
                outbox has forgotten are added.
        """
        closed.lost += max(0, closed.unknown_before - unknown)
        closed.unknown_before = 0
        unknown += closed.lost
        gap = msgspec.structs.replace(closed.gap, unknown=unknown)
        if gap != closed.gap or not unknown:
            self._resolve(closed, gap, final=unknown == 0)

    def is_old(self, closed: ClosedGap) -> bool:
        """Whether nothing more will be learned of a gap's jobs."""
        return self._now_us() - closed.until_us >= _KEPT_US

    def healable(
        self, client_id: str, last_seen_us: int | None, ended_us: int | None
    ) -> tuple[str, ...]:
        """
        Return the gaps that are healed of a job if its end is learned now.

        Those are open, or have closed since the job's last event, or the job has ended
        in them.

        Args:
            client_id: Whose job.
            last_seen_us: When its last event was received; None if there was none.
            ended_us: When it ended, if that is known.
        """
        known, seen_us = last_seen_us is not None, last_seen_us or 0
        found = [
            gap_id
            for gap_id, one in self._closed[client_id].items()
            # All known jobs of one that isn't remembered are determined.
            if (known and one.is_remembered and seen_us < one.until_us)
            # A job that began in it may be known by now, by its first webhook.
            or one.gap.covers(ended_us)
        ]
        found += [
            gap.gap_id
            for gap in self._open.values()
            if gap.client_id == client_id
            and (known or gap.covers(ended_us, self._now_us()))
        ]
        return tuple(found)

    def healed(self, gap_ids: Sequence[str], origin: Origin) -> None:
        """Count one job whose end was written, in the gaps that `healable` returned."""
        accounts: set[str] = set()
        for gap_id in gap_ids:
            if gap_id in self._open:
                gap = self._open[gap_id] = self._open[gap_id].healed(origin)
                accounts.add(gap.client_id)
                continue
            for client_id, gaps in self._closed.items():
                if (closed := gaps.get(gap_id)) is not None:
                    closed.gap = closed.gap.healed(origin)
                    accounts.add(client_id)
                    if closed.gap.is_resolved:
                        opens = gap_id if closed.is_remembered else None
                        self._write(closed.gap, opens=opens)
        for client_id in accounts:
            self.statistics.healed[client_id, origin] += 1

    def expire(self) -> None:
        """Forget closed gaps that are too many, or old and resolved."""
        for gaps in self._closed.values():
            surplus = len(gaps) - _MAX_CLOSED
            for number, (gap_id, closed) in enumerate(list(gaps.items())):
                is_over = self.is_old(closed) and closed.gap.is_resolved
                if number >= surplus and not is_over:
                    continue
                # The outbox forgets a gap with a record only: it repeats the last one.
                if closed.is_remembered:
                    self._resolve(closed, closed.gap, final=True)
                self.statistics.unknown[closed.gap.client_id] -= closed.gap.unknown or 0
                del gaps[gap_id]

    def _resolve(self, closed: ClosedGap, gap: Gap, *, final: bool) -> None:
        before, closed.gap = closed.gap, gap
        client_id, unknown = gap.client_id, gap.unknown or 0
        is_new = gap.is_resolved and not before.is_resolved
        self.statistics.resolved[client_id] += is_new
        self.statistics.unknown[client_id] += unknown - (before.unknown or 0)
        closed.is_remembered = not final
        self._write(gap, **{"closes" if final else "opens": gap.gap_id})
        if gap != before:
            log = _log.warning if unknown else _log.info
            log(
                "gap.resolved",
                gap_id=gap.gap_id,
                cause=gap.cause.value,
                client_id=client_id,
                jobs_in_flight=gap.jobs_in_flight,
                healed_by_status_endpoint=gap.healed_by_status_endpoint,
                healed_by_webhook=gap.healed_by_webhook,
                unknown=gap.unknown,
            )

    def _write(
        self, gap: Gap, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        record = Record(
            topic=self._topic,
            key=gap.client_id.encode(),
            value=gap.encode(),
            received_at_us=self._now_us(),
            envelope=Envelope(
                ce_source=self._sources[gap.client_id],
                ce_type=header_names.GAP_TYPE,
                origin=Origin.SOCKET,
                content_type=header_names.JSON_CONTENT,
                kind=Kind.GAP,
            ),
            importance=Importance.TERMINAL,
        )
        self._keep(record, opens=opens, closes=closes)

    def _now_us(self) -> int:
        return self._now_ns() // 1000


def _counted(gap: Gap, left: LeftGap) -> Gap:
    """Add what was healed since a gap's last record."""
    return msgspec.structs.replace(
        gap,
        healed_by_status_endpoint=max(
            gap.healed_by_status_endpoint, left.healed_by_status_endpoint
        ),
        healed_by_webhook=max(gap.healed_by_webhook, left.healed_by_webhook),
    )


def _order(us: int | None) -> float:
    """Make a moment comparable; an unknown one comes first."""
    return -math.inf if us is None else us


def _named(gap: Gap) -> dict[str, str | None]:
    return {
        "gap_id": gap.gap_id,
        "cause": gap.cause.value,
        "client_id": gap.client_id,
        "since": gap.published().since,
    }
