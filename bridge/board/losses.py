"""
Gaps and dead letters, as far as a board shows them.

`bridge.consumer` reads their records; this decides which are kept and how the page gets
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from bridge.consumer.dead_letters import Reason, Reasons, as_letter
from bridge.consumer.gaps import Choice, Folded, Gap
from bridge.kafka.reader import ConsumedRecord
from bridge.text import redact


__all__ = ["DeadLetters", "Gaps", "ShownGap", "ShownReason"]

# Nobody reads a timeline with more; `bridge gaps` has them all.
_SHOWN_GAPS: Final = 100
_MAX_GAPS: Final = 10_000

# A longer key or message is cut.
_MAX_TEXT: Final = 300


class ShownGap(msgspec.Struct, frozen=True):
    """A gap in the form that the page gets; times in milliseconds since the epoch."""

    id: str
    account: str | None
    cause: str
    since_ms: int | None
    until_ms: int | None
    jobs_in_flight: int | None
    healed_by_status_endpoint: int | None
    healed_by_webhook: int | None
    unknown: int | None
    resolved: bool


class Gaps:
    """
    The gaps that were open at a time or later.

    Their topic is read from its beginning: a gap that is still open may have started
    long ago.

    Args:
        since_ms: The time, milliseconds since the epoch.
    """

    def __init__(self, since_ms: int) -> None:
        self._folded = Folded(_MAX_GAPS)
        self._choice = Choice(since=datetime.fromtimestamp(since_ms / 1000, UTC))

    def take(self, records: Iterable[ConsumedRecord]) -> None:
        """Take the next records of their topic."""
        for record in records:
            self._folded.take(record)

    def shown(self) -> list[ShownGap]:
        """Return the newest, newest first; an open gap is never left out for others."""
        gaps = self._folded.overview(self._choice).gaps
        open_first = sorted(gaps, key=lambda gap: gap.until is not None)[:_SHOWN_GAPS]
        return [_shown_gap(gap) for gap in sorted(open_first, key=_at, reverse=True)]


def _at(gap: Gap) -> datetime:
    """Return its place in time: an open gap without a start is at the present."""
    is_present = gap.since is None and gap.until is None
    return datetime.max.replace(tzinfo=UTC) if is_present else gap.moment


def _shown_gap(gap: Gap) -> ShownGap:
    return ShownGap(
        id=gap.gap_id,
        account=gap.client_id,
        cause=gap.cause,
        since_ms=_milliseconds(gap.since),
        until_ms=_milliseconds(gap.until),
        jobs_in_flight=gap.jobs_in_flight,
        healed_by_status_endpoint=gap.healed_by_status_endpoint,
        healed_by_webhook=gap.healed_by_webhook,
        unknown=gap.unknown,
        resolved=gap.until is not None and gap.unknown is not None,
    )


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


class ShownReason(msgspec.Struct, frozen=True):
    """The dead letters of one reason in the form that the page gets."""

    reason: str
    count: int
    last_ms: int
    id: str | None
    text: str
    error: str


class DeadLetters:
    """
    Dead letters by reason, with the latest of each.

    Args:
        since_ms: Older ones are ignored, milliseconds since the epoch.
        shows_results: Whether an example may contain a result URL with its signature.
    """

    def __init__(self, since_ms: int, *, shows_results: bool) -> None:
        self._since_ms = since_ms
        self._show = str if shows_results else redact
        self._reasons = Reasons()

    def take(self, records: Iterable[ConsumedRecord]) -> None:
        """Take the next records of their topic."""
        for record in records:
            # Reading starts at the first that is young enough; older ones may follow.
            if record.timestamp_ms >= self._since_ms:
                self._reasons.take(as_letter(record))

    def shown(self) -> list[ShownReason]:
        """Return the reasons, the most frequent first."""
        return [self._shown(one) for one in self._reasons.most_frequent()]

    def _shown(self, one: Reason) -> ShownReason:
        key, error = one.example.key, one.example.message
        return ShownReason(
            reason=one.reason,
            count=one.count,
            last_ms=one.last_ms,
            id=None if key is None else self._show(key[:_MAX_TEXT]),
            text=self._show(one.text),
            error=self._show(error[:_MAX_TEXT]),
        )
