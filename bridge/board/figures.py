"""
What a board says of itself and of the stream: how much, how late, and whether it reads.

Owns these figures and how they are made. It reads no clock: whoever asks says what time
it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from bridge.consumer.dead_letters import received_at_us
from bridge.events import header_names as names
from bridge.events.record import Origin
from bridge.kafka.reader import ConsumedRecord


__all__ = ["Figures", "Latencies", "Reading", "Standing", "reading_of"]

# Of a run so many records are looked at: enough for a percentile of some seconds.
_SAMPLES_OF_A_RUN: Final = 50
_MOST_SAMPLES: Final = 2_000
_WINDOW_MS: Final = 10_000

# A busy topic is never read to its very end: so much is no delay that anybody sees.
_SMALL_LAG: Final = 1_000
_LAG_SECONDS: Final = 2.0


_REPLAYED: Final = Origin.REPLAY.value.encode()


class Reading(StrEnum):
    """How reading stands."""

    STARTING = "starting"
    LIVE = "live"
    CATCHING_UP = "catching-up"
    AWAY = "away"


class Standing(msgspec.Struct):
    """
    How the reading of one topic stands.

    Attributes:
        has_begun: Whether it was ever reached.
        lag: How many offsets lie before its end.
        away_since_ms: When Kafka fell silent; None while it answers.
        note: What people should know of it, or None.
    """

    has_begun: bool = False
    lag: int = 0
    away_since_ms: int | None = None
    note: str | None = None


class Figures(msgspec.Struct, frozen=True):
    """The figures as the page gets them."""

    now_ms: int
    events_per_second: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    in_flight: int
    jobs: int
    seen: int
    lag: int
    reading: Reading
    away_since_ms: int | None
    note: str | None
    browsers: int


def reading_of(standing: Standing, events_per_second: float) -> Reading:
    """Tell how reading stands."""
    if standing.away_since_ms is not None:
        return Reading.AWAY
    if not standing.has_begun:
        return Reading.STARTING
    if standing.lag > max(_SMALL_LAG, _LAG_SECONDS * events_per_second):
        return Reading.CATCHING_UP
    return Reading.LIVE


class Latencies:
    """How long events of the last seconds took from the bridge's socket to here."""

    def __init__(self) -> None:
        # (when it was received, how long it took)
        self._samples: deque[tuple[int, float]] = deque(maxlen=_MOST_SAMPLES)

    def add(self, run: Sequence[ConsumedRecord], now_ms: int) -> None:
        """Take a sample of what was received at a moment."""
        step = max(1, len(run) // _SAMPLES_OF_A_RUN)
        for record in run[::step]:
            # A replayed event was read long ago, and not by the socket.
            if record.headers.get(names.BRIDGE_ORIGIN) != _REPLAYED:
                took_ms = now_ms - received_at_us(record) / 1000
                # Clocks of two machines differ.
                self._samples.append((now_ms, max(0.0, took_ms)))

    def percentiles(self, now_ms: int) -> tuple[float | None, float | None]:
        """Give the median and the 99th percentile in milliseconds; None for none."""
        samples = self._samples
        while samples and samples[0][0] < now_ms - _WINDOW_MS:
            samples.popleft()
        took = sorted(took_ms for _, took_ms in samples)
        return _percentile(took, 0.5), _percentile(took, 0.99)


def _percentile(ordered: Sequence[float], part: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 1)
