"""
Gaps and dead letters, as far as a board shows them.

Owns which of them are kept and how they look to a browser. What a record of either says
is `bridge.consumer`'s to read.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from bridge.consumer.dead_letters import Reason, Reasons, as_letter
from bridge.consumer.gaps import Choice, Folded, Gap, State
from bridge.kafka.reader import ConsumedRecord
from bridge.text import redact


__all__ = ["Gaps", "Letters", "ShownGap", "ShownLetters"]

# A timeline with more is no longer read; `bridge gaps` has them all.
_SHOWN_GAPS: Final = 100
_MOST_GAPS: Final = 10_000

# A key or a message that is longer is cut.
_MAX_TEXT: Final = 300


class ShownGap(msgspec.Struct, frozen=True):
    """A gap as the page gets it; times in milliseconds since the epoch."""

    id: str
    account: str | None
    cause: str
    since_ms: int | None
    until_ms: int | None
    jobs_in_flight: int | None
    healed_by_status_endpoint: int | None
    healed_by_webhook: int | None
    unknown: int | None
    settled: bool


class Gaps:
    """
    The gaps that were open at a moment or later.

    Their topic is read from its beginning: a gap that is still open may have begun long
    before what else is shown.

    Args:
        since: The moment.
    """

    def __init__(self, since: datetime) -> None:
        self._folded = Folded(_MOST_GAPS)
        self._choice = Choice(since=since)

    def take(self, records: Iterable[ConsumedRecord]) -> None:
        """Take the next records of their topic."""
        for record in records:
            self._folded.take(record)

    def shown(self) -> list[ShownGap]:
        """Give the newest, the newest first; none that is open gives way to others."""
        gaps = self._folded.overview(self._choice).gaps
        open_first = sorted(gaps, key=lambda gap: gap.until is not None)[:_SHOWN_GAPS]
        return [_shown_gap(gap) for gap in sorted(open_first, key=_at, reverse=True)]


def _at(gap: Gap) -> datetime:
    """Tell where it stands in time: one that is open without a begin is of now."""
    is_of_now = gap.since is None and gap.until is None
    return datetime.max.replace(tzinfo=UTC) if is_of_now else gap.moment


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
        settled=gap.state is State.SETTLED,
    )


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


class _Example(msgspec.Struct, frozen=True):
    id: str | None
    text: str
    error: str


class ShownLetters(msgspec.Struct, frozen=True):
    """The dead letters of one reason as the page gets them."""

    reason: str
    count: int
    last_ms: int
    example: _Example


class Letters:
    """
    Dead letters by reason, with the latest one of each.

    Args:
        since_ms: Older ones are passed over, milliseconds since the epoch.
        shows_results: Whether an example may contain a result URL with its signature.
    """

    def __init__(self, since_ms: int, *, shows_results: bool) -> None:
        self._since_ms = since_ms
        self._show = str if shows_results else redact
        self._reasons = Reasons()

    def take(self, records: Iterable[ConsumedRecord]) -> None:
        """Take the next records of their topic."""
        for record in records:
            # Reading begins with the first that is young enough; others may follow.
            if record.timestamp_ms >= self._since_ms:
                self._reasons.take(as_letter(record))

    def shown(self) -> list[ShownLetters]:
        """Give the reasons, the most frequent first."""
        return [self._shown(one) for one in self._reasons.most_frequent()]

    def _shown(self, one: Reason) -> ShownLetters:
        key = one.example.key
        return ShownLetters(
            reason=one.reason,
            count=one.count,
            last_ms=one.last_ms,
            example=_Example(
                id=None if key is None else self._show(key[:_MAX_TEXT]),
                text=self._show(one.text),
                error=self._show(one.example.message[:_MAX_TEXT]),
            ),
        )
