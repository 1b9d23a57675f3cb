"""What the relay counts; the Kafka thread writes, anybody reads."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import msgspec

from bridge.events.record import StoredRecord
from bridge.kafka.topic_checks import TopicFinding


__all__ = ["Durations", "RelayStatistics", "add", "delivered"]

# From the 1 ms of an idle broker on loopback to the minute of an outage.
_BOUNDS_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

# A record waits as long as Kafka is away, or the bridge is not started again.
_DELIVERY_BOUNDS_SECONDS = (*_BOUNDS_SECONDS, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)

# A minute of beats, as `operations` keeps them of the other loop.
_BEATS_KEPT = 60


class Durations(msgspec.Struct):
    """
    A histogram of durations in seconds.

    Attributes:
        bounds: The upper bounds of all buckets but the last, which has none.
        counts: How many fell into each bucket, one more than bounds.
        sum: The sum of all.
    """

    bounds: tuple[float, ...] = _BOUNDS_SECONDS
    counts: list[int] = msgspec.field(
        default_factory=lambda: [0] * (len(_BOUNDS_SECONDS) + 1)
    )
    sum: float = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count a duration, or several that are the same."""
        self.counts[bisect_left(self.bounds, seconds)] += times
        self.sum += seconds * times


class RelayStatistics(msgspec.Struct):
    """
    The relay's figures.

    Attributes:
        published: Records acknowledged by Kafka, by topic.
        resumed: Records found in the log on resume, by topic; not in `published`.
        refused: Records that the broker refused for good, by topic.
        dead_letters: How many of those became a dead letter; the others stay in the
            outbox.
        resent: Records sent again because a log had lost them, by topic.
        producer_recycles: Producers given up after a failure.
        publish_duration: From a batch's hand-over to its acknowledgement.
        delivery_durations: From a record's reading to its first acknowledgement, by
            topic.
        connected: Whether the last thing asked of Kafka worked.
        ever_connected: Whether Kafka was reached since the start.
        last_error: What failed last while not connected, else None.
        partitions: Partitions that are open.
        last_beat: `time.monotonic` of the loop's last round.
        lags: How late its last beats were, in seconds.
        topic_findings: What each topic was found to be like when it was looked at
            last, by topic; replaced as a whole, never changed in place.
    """

    published: dict[str, int] = msgspec.field(default_factory=dict)
    resumed: dict[str, int] = msgspec.field(default_factory=dict)
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    dead_letters: int = 0
    resent: dict[str, int] = msgspec.field(default_factory=dict)
    producer_recycles: int = 0
    publish_duration: Durations = msgspec.field(default_factory=Durations)
    delivery_durations: dict[str, Durations] = msgspec.field(default_factory=dict)
    connected: bool = False
    ever_connected: bool = False
    last_error: str | None = None
    partitions: int = 0
    last_beat: float = 0.0
    lags: list[float] = msgspec.field(default_factory=list)
    topic_findings: Mapping[str, Sequence[TopicFinding]] = msgspec.field(
        default_factory=dict
    )

    @property
    def lag_seconds(self) -> float:
        """The longest delay of a beat during the last minute."""
        return max(self.lags, default=0.0)

    def beat(self, now: float, late_seconds: float) -> None:
        """Note a beat of the loop, and how late it came."""
        self.last_beat = now
        # Replaced as a whole: another thread reads it.
        self.lags = [*self.lags, max(0.0, late_seconds)][-_BEATS_KEPT:]

    def worked(self) -> None:
        """Note that Kafka answered."""
        self.connected = self.ever_connected = True
        self.last_error = None

    def failed(self, error: BaseException) -> None:
        """Note that Kafka didn't do what was asked of it."""
        self.connected = False
        self.last_error = f"{type(error).__name__}: {error}"


def add(counts: dict[str, int], topic: str, count: int) -> None:
    """Count records of a topic, which may be new."""
    counts[topic] = counts.get(topic, 0) + count


def delivered(
    statistics: RelayStatistics,
    topic: str,
    rows: Sequence[StoredRecord],
    resent_sequence: int,
) -> None:
    """
    Count records that Kafka has acknowledged, and how long after their reading.

    Args:
        statistics: Where to count.
        topic: Their topic.
        rows: They, in order; at least one.
        resent_sequence: Rows up to it were acknowledged once before: how long that
            took was counted then.
    """
    add(statistics.published, topic, len(rows))
    durations = statistics.delivery_durations.get(topic)
    if durations is None:
        durations = Durations(
            _DELIVERY_BOUNDS_SECONDS, [0] * (len(_DELIVERY_BOUNDS_SECONDS) + 1)
        )
        statistics.delivery_durations[topic] = durations
    if rows[0].sequence <= resent_sequence:
        rows = [row for row in rows if row.sequence > resent_sequence]
    now_us = time.time_ns() // 1000
    # Rows of one read of the socket have the same time, and are counted together.
    read_at_us = count = 0
    for row in rows:
        if row.received_at_us != read_at_us:
            if count:
                durations.observe(_seconds(read_at_us, now_us), count)
            read_at_us, count = row.received_at_us, 0
        count += 1
    if count:
        durations.observe(_seconds(read_at_us, now_us), count)


def _seconds(since_us: int, until_us: int) -> float:
    # The clock may have been set back.
    return max(0, until_us - since_us) / 1_000_000
