"""What the relay counts and traces; the Kafka thread writes, any thread reads."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Protocol

import msgspec

from bridge.errors import DeadLetterReason
from bridge.events.dead_letter import DEAD_LETTERS
from bridge.events.record import StoredRecord
from bridge.kafka.topic_checks import TopicFinding, Verdict
from bridge.metric import counter, gauge, histogram


__all__ = ["LOOP_LAG", "Durations", "PublicationTrace", "RelayStatistics"]

LOOP_LAG: Final = gauge(
    "bridge_loop_lag_seconds",
    "Longest delay of a task on an event loop during the last minute.",
    "loop",
)

# From the 1 ms of an idle broker on loopback to the minute of an outage.
_BOUNDS_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

# A record waits as long as Kafka is away, or the bridge is not started again.
_DELIVERY_BOUNDS_SECONDS = (*_BOUNDS_SECONDS, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)

# A minute of beats, as `operations` keeps them of the other loop.
_BEATS_KEPT = 60


class Durations:
    """A histogram of seconds; the last of its counts is of all above the bounds."""

    def __init__(self, bounds: Sequence[float] = _BOUNDS_SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count a duration, or several that are the same."""
        self.counts[bisect_left(self.bounds, seconds)] += times
        self.sum += seconds * times


class PublicationTrace(Protocol):
    """Is called with each batch that was acknowledged, or failed; must not wait."""

    def __call__(  # noqa: PLR0913 - facts of their own, most given by place
        self,
        topic: str,
        partition: int,
        rows: Sequence[StoredRecord],
        began_ns: int,
        *,
        base_offset: int | None = None,
        broker: tuple[str, int] | None = None,
        error_type: str | None = None,
    ) -> None:
        """Take a batch: where it is and who took it, or what failed."""


class RelayStatistics(msgspec.Struct):
    """The relay's figures; what becomes of rows beside them, the outbox counts."""

    published: Annotated[
        Counter[str],
        counter(
            "bridge_records_published", "Records that Kafka acknowledged.", "topic"
        ),
    ] = msgspec.field(default_factory=Counter)
    resumed: Annotated[
        Counter[str],
        counter(
            "bridge_records_resumed",
            "Records found in Kafka on resume, and not sent again.",
            "topic",
        ),
    ] = msgspec.field(default_factory=Counter)
    # Refused records that became a dead letter.
    dead_letters: Annotated[
        int, DEAD_LETTERS.of(reason=DeadLetterReason.REFUSED_BY_BROKER)
    ] = 0
    # Epochs that ended.
    producer_recycles: Annotated[
        int, counter("bridge_producer_recycles", "Producers replaced after failures.")
    ] = 0
    partitions: Annotated[
        int, gauge("bridge_kafka_partitions", "Partitions that are open for writing.")
    ] = 0
    publish_duration: Annotated[
        Durations,
        histogram(
            "bridge_publish_duration_seconds",
            "Time from passing a batch to the producer to Kafka's acknowledgement.",
        ),
    ] = msgspec.field(default_factory=Durations)
    # Until the first acknowledgement.
    delivery_durations: Annotated[
        dict[str, Durations],
        histogram(
            "bridge_delivery_duration_seconds",
            "Time from reading an event to Kafka's acknowledgement of its record.",
            "topic",
        ),
    ] = msgspec.field(default_factory=dict)
    # Whether the last request to Kafka worked, and what failed last if not; whether
    # Kafka was reached since the start.
    connected: Annotated[
        bool,
        gauge("bridge_kafka_connected", "Whether Kafka responds (1) or not (0)."),
    ] = False
    last_error: str | None = None
    ever_connected: bool = False
    # `time.monotonic` of the loop's last round, and how late its last beats were.
    last_beat: float = 0.0
    lags: list[float] = msgspec.field(default_factory=list)
    # What each topic was found to be like; replaced as a whole.
    topic_findings: Mapping[str, Sequence[TopicFinding]] = msgspec.field(
        default_factory=dict
    )

    @property
    def verdicts(
        self,
    ) -> Annotated[
        dict[tuple[str, str], int],
        gauge(
            "bridge_topic_findings",
            "Number of findings of a topic's latest check, by verdict.",
            "topic",
            "verdict",
        ),
    ]:
        """The number of findings by topic and verdict; also 0: after a repair."""
        return {
            (topic, verdict): sum(one.verdict == verdict for one in findings)
            for topic, findings in self.topic_findings.items()
            for verdict in Verdict
        }

    @property
    def lag_seconds(self) -> Annotated[float, LOOP_LAG.of(loop="kafka")]:
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

    def delivered(self, topic: str, rows: Sequence[StoredRecord], resent: int) -> None:
        """
        Count records that were acknowledged, and how long after their reading.

        How long those up to the sequence `resent` took was counted once before.
        """
        self.published[topic] += len(rows)
        durations = self.delivery_durations.get(topic)
        if durations is None:
            durations = Durations(_DELIVERY_BOUNDS_SECONDS)
            self.delivery_durations[topic] = durations
        now_us = time.time_ns() // 1000
        # Rows of one read of the socket have the same time, and are counted together.
        read_at = Counter([row.received_at_us for row in rows if row.sequence > resent])
        for read_at_us, count in read_at.items():
            # The clock may have been set back.
            durations.observe(max(0, now_us - read_at_us) / 1_000_000, count)
