"""What the relay counts; the Kafka thread writes, anybody reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import msgspec

from bridge.kafka.topic_finding import TopicFinding


__all__ = ["Durations", "RelayStatistics", "add"]

# From the 1 ms of an idle broker on loopback to the minute of an outage.
_BOUNDS_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


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

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds


class RelayStatistics(msgspec.Struct):
    """
    The relay's figures.

    Attributes:
        published: Records acknowledged by Kafka, by topic.
        resumed: Records found in the log on resume, by topic; not in `published`.
        refused: Records that the broker refused for good, by topic.
        dead_letters: How many of those became a dead letter; the others lie in
            quarantine.
        resent: Records sent again because a log had lost them, by topic.
        producer_recycles: Producers given up after a failure.
        publish_duration: From a batch's hand-over to its acknowledgement.
        connected: Whether the last thing asked of Kafka worked.
        ever_connected: Whether Kafka was reached since the start.
        last_error: What failed last while not connected, else None.
        lanes: Lanes that are open.
        last_beat: `time.monotonic` of the loop's last round.
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
    connected: bool = False
    ever_connected: bool = False
    last_error: str | None = None
    lanes: int = 0
    last_beat: float = 0.0
    topic_findings: Mapping[str, Sequence[TopicFinding]] = msgspec.field(
        default_factory=dict
    )

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
