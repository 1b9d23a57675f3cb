"""The metrics of the relay: what Kafka has, and what its topics are like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.metrics_core import Metric

from bridge.operations.families import (
    counter,
    counts,
    gauge,
    gauges,
    histogram,
    histograms,
)
from bridge.operations.sources import VERDICTS, RelayStatistics, TopicFinding


__all__ = ["of_relay"]


def of_relay(relay: RelayStatistics) -> Iterator[Metric]:
    """Yield what the relay counts."""
    yield counts(
        "bridge_records_published",
        "Records that Kafka acknowledged.",
        "topic",
        values=relay.published,
    )
    yield counts(
        "bridge_records_resumed",
        "Records that were found in Kafka on resume and not sent again.",
        "topic",
        values=relay.resumed,
    )
    yield counter(
        "bridge_producer_recycles",
        "Producers given up after a failure and made anew.",
        relay.producer_recycles,
    )
    yield gauge(
        "bridge_kafka_connected",
        "Whether Kafka answers (1) or not (0).",
        relay.connected,
    )
    yield gauge(
        "bridge_kafka_partitions", "Partitions that are open.", relay.partitions
    )
    yield histogram(
        "bridge_publish_duration_seconds",
        "From a batch's hand-over to the producer to Kafka's acknowledgement.",
        relay.publish_duration,
    )
    yield histograms(
        "bridge_delivery_duration_seconds",
        "From the reading of an event to Kafka's acknowledgement of its record.",
        "topic",
        dict(relay.delivery_durations),
    )
    yield _findings(relay.topic_findings)


def _findings(all_findings: Mapping[str, Sequence[TopicFinding]]) -> Metric:
    metric = gauges(
        "bridge_topic_findings",
        "Facts about a topic when it was looked at last, by what they mean.",
        "topic",
        "verdict",
    )
    for topic, findings in all_findings.items():
        # Every verdict: what has been put right must come down to 0.
        counted = dict.fromkeys(VERDICTS, 0)
        for finding in findings:
            counted[str(finding.verdict)] += 1
        for verdict, count in counted.items():
            metric.add_metric([topic, verdict], count)
    return metric
