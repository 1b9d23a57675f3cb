"""
Gaps that are over, and of whose jobs something may still be heard.

Owns what is known of those jobs, how long it is kept, and the records that tell it.
The ledger calls it under its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from bridge.events.record import Origin
from bridge.recovery.gap import Gap
from bridge.recovery.left import Left
from bridge.recovery.statistics import GapStatistics
from bridge.recovery.writing import GapWriter


__all__ = ["ClosedGaps"]

_log = structlog.get_logger("bridge.recovery")

# As long as dryAPI tries to deliver a webhook, and an hour: what heals a job comes
# before.
_KEPT_US: Final = 25 * 3600 * 1_000_000

_LOOK_EVERY_US: Final = 60 * 1_000_000

# Of one account, 1 MB. One that flaps every minute has half as many again meanwhile,
# but what ended in the oldest of them was asked about long ago.
_MOST: Final = 1000


@dataclass(slots=True)
class _Closed:
    """
    A gap as it is now, and whether the next process is to know of it.

    It is to, until all jobs that were in flight are determined or nothing more will be
    learned. From then on this process alone knows of it, for the sake of jobs that
    began and ended within it.
    """

    gap: Gap
    is_remembered: bool = True


class ClosedGaps:
    """
    Those of all accounts.

    Args:
        writer: Takes their records.
        statistics: Where they are counted.
        now_us: The time, microseconds since the epoch.
    """

    def __init__(
        self, writer: GapWriter, statistics: GapStatistics, now_us: Callable[[], int]
    ) -> None:
        self._writer = writer
        self._statistics = statistics
        self._now_us = now_us
        # Of each account in the order of closing.
        self._of: dict[str, dict[str, _Closed]] = {}
        self._accounts: dict[str, str] = {}
        self._untold: dict[str, None] = {}
        self._looked_us: dict[str, int] = {}

    def add(self, gap: Gap) -> None:
        """Take one that has closed, and was written."""
        self._take(gap)
        self._forget_outdated(gap.client_id)

    def take_over(self, client_id: str, left: Left) -> None:
        """Wait on for what becomes of jobs, and tell what was healed unsaid."""
        for gap in left.stale:
            self._writer.write(gap, is_remembered=True, was_remembered=True)
        for gap in left.closed:
            self._statistics.unknown[client_id] += gap.unknown or 0
            self._take(gap)
        self._forget_outdated(client_id)

    def take_untold(self) -> list[Gap]:
        """Give those that came since this was asked last, as they are now."""
        gaps = [self._of[self._accounts[gap_id]][gap_id].gap for gap_id in self._untold]
        self._untold.clear()
        return gaps

    def healable(
        self, client_id: str, last_seen_us: int | None, ended_us: int | None
    ) -> Iterator[str]:
        """Find those that a job's end heals, as `Ledger.healable` says."""
        for closed in self._of.get(client_id, {}).values():
            until_us = closed.gap.until_us or 0
            # Of one that isn't remembered all known jobs were determined.
            was_known = (
                last_seen_us is not None
                and closed.is_remembered
                and last_seen_us < until_us
            )
            # A job that began within it may be known by now: by its first webhook, that
            # was repeated until there was a bridge again.
            if was_known or closed.gap.covers(ended_us):
                yield closed.gap.gap_id

    def healed(self, gap_id: str, origin: Origin) -> str | None:
        """Count one job of one of them; give whose it is, None if it isn't known."""
        closed = self._find(gap_id)
        if closed is None:
            return None
        closed.gap = closed.gap.healed(origin)
        if closed.gap.is_settled:
            self._write(closed)
        return closed.gap.client_id

    def settle(self, gap_id: str, unknown: int, *, final: bool) -> None:
        """Write down what became of the jobs of one, as `Ledger.settle` says."""
        closed = self._find(gap_id)
        if closed is None:
            return
        before = closed.gap
        closed.gap = gap = msgspec.structs.replace(before, unknown=unknown)
        forget = closed.is_remembered and (final or unknown == 0)
        if gap == before and not forget:
            return
        self._statistics.settled[gap.client_id] += not before.is_settled
        self._statistics.unknown[gap.client_id] += unknown - (before.unknown or 0)
        self._write(closed, forget=forget)
        if gap != before:
            _tell(gap)
        self._forget_outdated(gap.client_id)

    def expire(self) -> None:
        """Forget what is old, though nothing more happens; to be asked often."""
        for client_id in self._of:
            self._forget_outdated(client_id)

    def _take(self, gap: Gap) -> None:
        self._of.setdefault(gap.client_id, {})[gap.gap_id] = _Closed(gap)
        self._accounts[gap.gap_id] = gap.client_id
        self._untold[gap.gap_id] = None

    def _find(self, gap_id: str) -> _Closed | None:
        client_id = self._accounts.get(gap_id)
        return None if client_id is None else self._of[client_id][gap_id]

    def _write(self, closed: _Closed, *, forget: bool = False) -> None:
        was_remembered = closed.is_remembered
        closed.is_remembered = was_remembered and not forget
        self._writer.write(
            closed.gap,
            is_remembered=closed.is_remembered,
            was_remembered=was_remembered,
        )

    def _forget_outdated(self, client_id: str) -> None:
        """Forget what is too much, or settled and old; to be asked often."""
        gaps = self._of.get(client_id, {})
        now_us = self._now_us()
        surplus = len(gaps) - _MOST
        # Either way: clocks are set back.
        is_soon = abs(now_us - self._looked_us.get(client_id, 0)) < _LOOK_EVERY_US
        if surplus <= 0 and is_soon:
            return
        self._looked_us[client_id] = now_us
        for number, (gap_id, closed) in enumerate(list(gaps.items())):
            gap = closed.gap
            is_old = now_us - (gap.until_us or 0) >= _KEPT_US
            if number < surplus or (is_old and gap.is_settled):
                self._statistics.unknown[client_id] -= gap.unknown or 0
                # There is no forgetting without a record: it says the same again.
                if closed.is_remembered:
                    self._write(closed, forget=True)
                del gaps[gap_id], self._accounts[gap_id]
                self._untold.pop(gap_id, None)


def _tell(gap: Gap) -> None:
    """Write what became of a gap's jobs to the log."""
    said = {
        "gap_id": gap.gap_id,
        "cause": gap.cause.value,
        "client_id": gap.client_id,
        "jobs_in_flight": gap.jobs_in_flight,
        "healed_by_status_endpoint": gap.healed_by_status_endpoint,
        "healed_by_webhook": gap.healed_by_webhook,
        "unknown": gap.unknown,
    }
    if gap.unknown:
        _log.warning("gap.settled", **said)
    else:
        _log.info("gap.settled", **said)
