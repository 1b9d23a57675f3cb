"""
What the process before left: which gaps go on, which end, which wait for healing.

Owns that decision for one account's gaps. Nothing is written here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from bridge.outbox.values import LeftGap, Memory
from bridge.recovery.gap import Gap


__all__ = ["Left", "left_by_account"]

_log = structlog.get_logger("bridge.recovery")


@dataclass(frozen=True, slots=True)
class Left:
    """
    The gaps of one account.

    Attributes:
        open: Those that were open.
        closed: Those that had closed, the first of them first.
        stale: Those of the closed ones whose last record says less than is known.
    """

    open: Sequence[Gap]
    closed: Sequence[Gap]
    stale: Sequence[Gap]

    def continued(self, proved_us: int | None) -> Gap | None:
        """
        Find the gap of hearing that goes on, with its begin as it is known now.

        Args:
            proved_us: All that was sent before had arrived and was on disk, as the
                process before proved.
        """
        hearing = min(
            (gap for gap in self.open if not gap.cause.is_loss),
            key=lambda gap: _moment(gap.since_us),
            default=None,
        )
        if hearing is None:
            return None
        # A gap's record reaches the disk before events that came before it, if
        # many wait there: those went with the process, and had not been proved.
        since_us = min(hearing.since_us, proved_us, key=_moment)
        return msgspec.structs.replace(hearing, since_us=since_us)


def left_by_account(memory: Memory) -> dict[str, Left]:
    """
    Read what the outbox remembers of gaps; what can't be read is told and passed over.

    Args:
        memory: It.

    Returns:
        The gaps of each client id.
    """
    read: dict[str, dict[str, tuple[Gap, Gap]]] = {}
    for left_gap in memory.left_gaps:
        try:
            told = Gap.decode(left_gap.value)
        except ValueError as error:
            # Its interval is not lost by that: the gap of the start covers it.
            _log.warning("gap.unreadable", error=str(error))
            continue
        gap = _counted(told, left_gap)
        read.setdefault(gap.client_id, {})[gap.gap_id] = told, gap
    return {client_id: _sorted(list(gaps.values())) for client_id, gaps in read.items()}


def _counted(told: Gap, left: LeftGap) -> Gap:
    """Give a gap with what was healed since its last record."""
    return msgspec.structs.replace(
        told,
        healed_by_status_endpoint=max(
            told.healed_by_status_endpoint, left.healed_by_status_endpoint
        ),
        healed_by_webhook=max(told.healed_by_webhook, left.healed_by_webhook),
    )


def _sorted(gaps: Sequence[tuple[Gap, Gap]]) -> Left:
    closed = [gap for _, gap in gaps if gap.until_us is not None]
    return Left(
        open=[gap for _, gap in gaps if gap.until_us is None],
        closed=sorted(closed, key=lambda gap: _moment(gap.until_us)),
        stale=[gap for told, gap in gaps if gap.is_settled and gap != told],
    )


def _moment(us: int | None) -> float:
    """Make a moment comparable: a begin that isn't known may be any."""
    return -math.inf if us is None else us
