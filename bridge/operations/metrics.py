"""
The metrics: their names, their help texts and where each number comes from.

Numbers are read when somebody asks; nothing here runs otherwise, and no room
knows of Prometheus. Every label has few values: never a request id.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import bridge
from bridge.errors import DeadLetterReason
from bridge.operations.sources import (
    GapStatistics,
    Histogram,
    IntakeStatistics,
    LoopStatistics,
    OutboxStatistics,
    RelayStatistics,
    SessionStatistics,
    Sources,
)


__all__ = ["Metrics"]

_US_PER_SECOND = 1_000_000


class Metrics:
    """
    The bridge's registry and its two text formats.

    Args:
        sources: The statistics to read.
        now: Seconds since the epoch, for ages.
    """

    def __init__(
        self, sources: Sources, *, now: Callable[[], float] = time.time
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Bridge(sources, now))
        # Nothing on macOS, where /proc is missing.
        ProcessCollector(registry=self._registry)

    def register(self, collector: Collector) -> None:
        """
        Add the metrics of another room.

        Args:
            collector: Yields its metrics when it is asked, as `prometheus_client`
                defines it; called on the trio loop, so it must not block.
        """
        self._registry.register(collector)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """
        Read all statistics and write them down.

        Args:
            accept: The request's `Accept` header: OpenMetrics if it asks for
                that, else Prometheus' own text format.

        Returns:
            The body and its content type.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Bridge(Collector):
    """Reads the statistics of the bridge's own rooms."""

    def __init__(self, sources: Sources, now: Callable[[], float]) -> None:
        self._sources = sources
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the bridge, read now."""
        sources = self._sources
        yield InfoMetricFamily(
            "bridge_build",
            "The running version.",
            value={
                "version": bridge.__version__,
                "python": platform.python_version(),
            },
        )
        yield from _sessions(list(sources.sessions))
        yield from _intakes(list(sources.intakes))
        yield from _dead_letters(sources)
        yield from _outbox(sources.outbox, self._now())
        yield from _relay(sources.relay)
        yield from _gaps(sources.gaps)
        yield from _loop(sources.loop)


def _sessions(sessions: Sequence[SessionStatistics]) -> Iterator[Metric]:
    label = ["client_id"]
    frames = CounterMetricFamily(
        "bridge_frames_received", "Text frames read from the socket.", labels=label
    )
    events = CounterMetricFamily(
        "bridge_events_received", "Job-status events read.", labels=label
    )
    connects = CounterMetricFamily(
        "bridge_connects",
        "Attempts to connect and subscribe, by their outcome.",
        labels=["client_id", "outcome"],
    )
    probes = CounterMetricFamily(
        "bridge_probes",
        "Subscriptions repeated to see whether they stand, by what came of it.",
        labels=["client_id", "outcome"],
    )
    subscribed = GaugeMetricFamily(
        "bridge_subscribed",
        "Whether the account's channel is subscribed (1) or not (0).",
        labels=label,
    )
    last_frame = GaugeMetricFamily(
        "bridge_last_frame_timestamp_seconds",
        "When the last frame was read, since the epoch; absent before the first.",
        labels=label,
    )
    for session in sessions:
        who = [session.client_id]
        frames.add_metric(who, session.frames)
        events.add_metric(who, session.events)
        for outcome, count in dict(session.connects).items():
            connects.add_metric([*who, str(outcome)], count)
        for outcome, count in dict(session.probes).items():
            probes.add_metric([*who, str(outcome)], count)
        subscribed.add_metric(who, session.subscribed)
        read_at_us = session.last_frame_at_us
        if read_at_us is not None:
            last_frame.add_metric(who, read_at_us / _US_PER_SECOND)
    yield from (frames, events, connects, probes, subscribed, last_frame)


def _intakes(intakes: Sequence[IntakeStatistics]) -> Iterator[Metric]:
    normalized: Counter[str] = Counter()
    accepted = previews = 0
    for intake in intakes:
        accepted += intake.accepted + sum(dict(intake.dead_letters).values())
        previews += intake.previews
        for change, count in dict(intake.normalized).items():
            normalized[str(change)] += count
    yield _counter(
        "bridge_events_accepted",
        "Events that the intake took over, dead letters included.",
        accepted,
    )
    yield _counters(
        "bridge_events_normalized",
        "Changes made to events, by kind: the words of bridge_normalized.",
        "change",
        normalized,
    )
    yield _counter(
        "bridge_previews_accepted",
        "Previews that became a record of their own.",
        previews,
    )


def _dead_letters(sources: Sources) -> Iterator[Metric]:
    # Every reason from the start: a rate needs the zero before the first one.
    letters = dict.fromkeys(DeadLetterReason, 0)
    for intake in list(sources.intakes):
        for made in (intake.dead_letters, intake.preview_dead_letters):
            for reason, count in dict(made).items():
                letters[reason] += count
    letters[DeadLetterReason.AFTER_TERMINAL] += sources.outbox.late
    letters[DeadLetterReason.REFUSED_BY_BROKER] += sources.relay.dead_letters
    yield _counters(
        "bridge_dlq_records",
        "Dead letters, by reason: events, and previews that go alone.",
        "reason",
        letters,
    )


def _outbox(outbox: OutboxStatistics, now: float) -> Iterator[Metric]:
    yield _counter(
        "bridge_outbox_accepted",
        "Records taken into the outbox's buffer.",
        outbox.accepted,
    )
    yield _counter(
        "bridge_outbox_committed",
        "Records committed to the outbox's database.",
        outbox.committed,
    )
    yield _counter(
        "bridge_outbox_acknowledged",
        "Rows of the outbox that Kafka acknowledged.",
        outbox.acknowledged,
    )
    yield _counters(
        "bridge_events_dropped",
        "Events given up by a policy, by cause.",
        "cause",
        dict(outbox.dropped),
    )
    yield _counter(
        "bridge_previews_dropped",
        "Previews given up for want of room; no event was lost with them.",
        outbox.dropped_previews + outbox.dropped_pictures,
    )
    yield _counters(
        "bridge_anomalies",
        "Events marked for the state of their job: the words of bridge_anomaly.",
        "anomaly",
        dict(outbox.anomalies),
    )
    yield _gauge(
        "bridge_jobs_ended",
        "Jobs of which it is known that they have ended: nothing may follow.",
        outbox.ended_jobs,
    )
    yield _counter(
        "bridge_jobs_forgotten",
        "Unfinished jobs that were too many or too old to be remembered.",
        outbox.forgotten_jobs,
    )
    yield _counter(
        "bridge_jobs_ended_forgotten",
        "Ended jobs forgotten early, being too many: what follows them isn't noticed.",
        outbox.forgotten_ends,
    )
    yield _gauge(
        "bridge_outbox_quarantined",
        "Records put aside in the outbox: Kafka takes them on no topic.",
        outbox.quarantined,
    )
    yield _gauge(
        "bridge_outbox_rows",
        "Committed records that Kafka has not acknowledged.",
        outbox.rows,
    )
    yield _gauge(
        "bridge_outbox_rows_at_start",
        "Rows that waited when this process opened the outbox.",
        outbox.rows_at_start,
    )
    yield _gauge(
        "bridge_outbox_bytes",
        "Size of the outbox's database and write-ahead log.",
        outbox.bytes,
    )
    yield _gauge(
        "bridge_outbox_oldest_age_seconds",
        "Age of the oldest record that Kafka has not acknowledged; 0 without one.",
        _age_seconds(outbox.oldest_received_at_us, now),
    )
    yield _gauge(
        "bridge_outbox_full",
        "Whether the outbox is at its limit (1) or accepts records (0).",
        outbox.full,
    )


def _relay(relay: RelayStatistics) -> Iterator[Metric]:
    yield _counters(
        "bridge_records_published",
        "Records that Kafka acknowledged.",
        "topic",
        dict(relay.published),
    )
    yield _counters(
        "bridge_records_resumed",
        "Records that were found in Kafka on resume and not sent again.",
        "topic",
        dict(relay.resumed),
    )
    yield _counters(
        "bridge_records_refused",
        "Records that the broker refused for good: dead letters, or in quarantine.",
        "topic",
        dict(relay.refused),
    )
    yield _counters(
        "bridge_records_resent",
        "Records sent again, marked, because a log had lost them.",
        "topic",
        dict(relay.resent),
    )
    yield _counter(
        "bridge_producer_recycles",
        "Producers given up after a failure and made anew.",
        relay.producer_recycles,
    )
    yield _gauge(
        "bridge_kafka_connected",
        "Whether Kafka answers (1) or not (0).",
        relay.connected,
    )
    yield _gauge("bridge_kafka_lanes", "Lanes that are open.", relay.lanes)
    yield _histogram(
        "bridge_publish_duration_seconds",
        "From a batch's hand-over to the producer to Kafka's acknowledgement.",
        relay.publish_duration,
    )


def _gaps(gaps: GapStatistics) -> Iterator[Metric]:
    opened = CounterMetricFamily(
        "bridge_gaps",
        "Times in which events may have been missed, by cause.",
        labels=["client_id", "cause"],
    )
    for (client_id, cause), count in dict(gaps.gaps).items():
        opened.add_metric([client_id, str(cause)], count)
    now = GaugeMetricFamily(
        "bridge_gap_open",
        "Gaps that are open now: events may be missed at this moment.",
        labels=["client_id"],
    )
    for client_id, count in dict(gaps.open).items():
        now.add_metric([client_id], count)
    seconds = CounterMetricFamily(
        "bridge_gap_seconds",
        "How long the gaps were that have closed.",
        labels=["client_id"],
    )
    for client_id, total in dict(gaps.seconds).items():
        seconds.add_metric([client_id], total)
    yield from (opened, now, seconds)


def _loop(loop: LoopStatistics) -> Iterator[Metric]:
    yield _gauge(
        "bridge_loop_lag_seconds",
        "The longest delay of a task on the trio loop during the last minute.",
        loop.lag_seconds,
    )
    yield _gauge(
        "bridge_loop_tasks",
        "Tasks on the trio loop; some for each account, and no more with time.",
        loop.tasks,
    )


def _age_seconds(received_at_us: int | None, now: float) -> float:
    """Tell an age; never below zero, though the wall clock may be set back."""
    if received_at_us is None:
        return 0.0
    return max(0.0, now - received_at_us / _US_PER_SECOND)


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counters(name: str, text: str, label: str, counts: Mapping[Any, int]) -> Metric:
    metric = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        metric.add_metric([str(value)], count)
    return metric


def _histogram(name: str, text: str, values: Histogram) -> Metric:
    # The copy first: buckets that grow while they are added up would not add up.
    counts = list(values.counts)
    bounds = [*(repr(float(bound)) for bound in values.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(counts), strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=values.sum)
