"""
What a consumer has seen of the run's events.

It counts records and measures delays; whether the numbers are right is for
`summary` to judge. No input or output.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from math import ceil

import msgspec

from bridge.kafka.reading.reader import ConsumedRecord


__all__ = ["Ledger", "percentile"]

# What p50 and p99 of the summary stand on: an hour at 100 events/s, 3 MB.
_MAX_DELAYS = 360_000
# What the live figures stand on: cheap to sort eight times a second.
_RECENT_DELAYS = 1_000


class _Stamped(msgspec.Struct):
    """The field that the sandbox adds on request."""

    sandbox_emitted_at: str | None = None


_decode = msgspec.json.Decoder(_Stamped).decode


class Ledger:
    """Counts the records of a topic as they are read."""

    def __init__(self) -> None:
        self.consumed = 0
        self._delays: deque[float] = deque(maxlen=_MAX_DELAYS)

    def observe(self, records: Iterable[ConsumedRecord], now_seconds: float) -> None:
        """
        Take in records that have just been read.

        Args:
            records: The records.
            now_seconds: The time, seconds since the epoch: the clock by which the
                sandbox stamps events.
        """
        for record in records:
            self.consumed += 1
            emitted_at = _decode(record.value or b"{}").sandbox_emitted_at
            if emitted_at is not None:
                moment = datetime.fromisoformat(emitted_at).timestamp()
                self._delays.append(now_seconds - moment)

    def delays(self) -> Sequence[float]:
        """Give the seconds from emission to consumption of all stamped events."""
        return list(self._delays)

    def recent(self) -> tuple[float, float] | None:
        """Give p50 and p99 of the latest thousand delays, in seconds."""
        latest = sorted(islice(reversed(self._delays), _RECENT_DELAYS))
        if not latest:
            return None
        return percentile(latest, 50), percentile(latest, 99)


def percentile(ascending: Sequence[float], percent: float) -> float:
    """
    Take a percentile by nearest rank.

    Args:
        ascending: Values in ascending order, at least one.
        percent: Above 0, up to 100.
    """
    return ascending[max(0, ceil(len(ascending) * percent / 100) - 1)]
