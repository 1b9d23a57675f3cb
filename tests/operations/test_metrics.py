"""Tests of the metrics, read back by Prometheus' own parsers."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping

import pytest
from prometheus_client.metrics_core import Metric

import bridge
from bridge.errors import DeadLetterReason
from bridge.operations.metrics import Metrics
from tests.operations.statistics import NOW, Statistics, families, intake


_ACCOUNT = {"client_id": "client-1"}

# It takes milliseconds.
_PATIENCE_SECONDS = 10.0

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def metrics(statistics: Statistics) -> Metrics:
    """The metrics under test, at a fixed moment."""
    return Metrics(statistics.sources(), now=lambda: NOW)


def _families(metrics: Metrics) -> dict[str, Metric]:
    body, content_type = metrics.render(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    return families(body.decode())


def _samples(
    metrics: Metrics,
) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in _families(metrics).values()
        for sample in family.samples
    }


def _value(metrics: Metrics, name: str, **labels: str) -> float:
    return _samples(metrics)[name, frozenset(labels.items())]


_NUMBERS: list[tuple[str, dict[str, str], float]] = [
    ("bridge_frames_received_total", _ACCOUNT, 12),
    ("bridge_events_received_total", _ACCOUNT, 10),
    ("bridge_connects_total", {**_ACCOUNT, "outcome": "subscribed"}, 1),
    ("bridge_probes_total", {**_ACCOUNT, "outcome": "acknowledged"}, 3),
    ("bridge_events_filtered_total", _ACCOUNT, 1),
    ("bridge_frames_unrecognised_total", _ACCOUNT, 0),
    ("bridge_subscribed", _ACCOUNT, 1),
    ("bridge_account_refused", _ACCOUNT, 0),
    ("bridge_last_frame_timestamp_seconds", _ACCOUNT, NOW - 1.5),
    ("bridge_events_accepted_total", {}, 10),
    ("bridge_dlq_records_total", {"reason": "not_json"}, 1),
    # Of an event, of previews alone, of the outbox and of the relay.
    ("bridge_dlq_records_total", {"reason": "too_large"}, 2),
    ("bridge_dlq_records_total", {"reason": "invalid_preview"}, 1),
    ("bridge_dlq_records_total", {"reason": "after_terminal"}, 2),
    ("bridge_dlq_records_total", {"reason": "refused_by_broker"}, 3),
    ("bridge_dlq_records_total", {"reason": "not_an_object"}, 0),
    ("bridge_events_normalized_total", {"change": "missing_field"}, 2),
    ("bridge_events_normalized_total", {"change": "preview_moved"}, 0),
    ("bridge_previews_accepted_total", {}, 5),
    ("bridge_anomalies_total", {"anomaly": "duplicate"}, 3),
    ("bridge_anomalies_total", {"anomaly": "regression"}, 1),
    ("bridge_events_dropped_total", {"cause": "overflow"}, 1),
    ("bridge_previews_dropped_total", {}, 6),
    ("bridge_jobs_ended", {}, 50),
    ("bridge_jobs_forgotten_total", {}, 6),
    ("bridge_jobs_ended_forgotten_total", {}, 8),
    ("bridge_preview_records_dropped_total", {}, 2),
    ("bridge_outbox_accepted_total", {}, 13),
    ("bridge_outbox_committed_total", {}, 4),
    ("bridge_outbox_superseded_total", {}, 2),
    ("bridge_outbox_withdrawn_total", {}, 1),
    ("bridge_outbox_discarded_total", {}, 1),
    ("bridge_outbox_unsendable", {}, 1),
    ("bridge_rows_found_total", {"topic": "jobs"}, 2),
    ("bridge_rows_committed_total", {"topic": "jobs"}, 7),
    ("bridge_rows_committed_total", {"topic": "jobs.dlq"}, 1),
    ("bridge_rows_resent_total", {"topic": "jobs"}, 1),
    ("bridge_rows_acknowledged_total", {"topic": "jobs"}, 6),
    ("bridge_rows_refused_total", {"topic": "jobs"}, 1),
    ("bridge_rows_waiting", {"topic": "jobs"}, 3),
    ("bridge_rows_waiting", {"topic": "jobs.dlq"}, 0),
    ("bridge_outbox_rows", {}, 3),
    ("bridge_outbox_held", {}, 5),
    ("bridge_outbox_held_at_start", {}, 4),
    ("bridge_outbox_bytes", {}, 8192),
    ("bridge_outbox_oldest_age_seconds", {}, 2),
    ("bridge_outbox_full", {}, 0),
    ("bridge_records_published_total", {"topic": "jobs"}, 6),
    ("bridge_records_published_total", {"topic": "jobs.dlq"}, 1),
    ("bridge_records_resumed_total", {"topic": "jobs"}, 2),
    ("bridge_producer_recycles_total", {}, 1),
    ("bridge_kafka_connected", {}, 1),
    ("bridge_kafka_partitions", {}, 6),
    ("bridge_gaps_total", {**_ACCOUNT, "cause": "overflow"}, 2),
    ("bridge_gaps_total", {**_ACCOUNT, "cause": "deaf"}, 0),
    ("bridge_gap_open", _ACCOUNT, 1),
    ("bridge_gap_seconds_total", _ACCOUNT, 7.25),
    ("bridge_gaps_settled_total", _ACCOUNT, 1),
    ("bridge_gap_jobs_healed_total", {**_ACCOUNT, "by": "status-endpoint"}, 4),
    ("bridge_gap_jobs_healed_total", {**_ACCOUNT, "by": "webhook"}, 3),
    ("bridge_gap_jobs_unknown", _ACCOUNT, 1),
    ("bridge_topic_findings", {"topic": "jobs", "verdict": "fine"}, 2),
    ("bridge_topic_findings", {"topic": "jobs", "verdict": "missing"}, 0),
    ("bridge_loop_lag_seconds", {"loop": "trio"}, 0.02),
    ("bridge_loop_lag_seconds", {"loop": "kafka"}, 0.03),
    ("bridge_loop_tasks", {}, 17),
]


def test_number_of_a_room_is_its_metric(
    subtests: pytest.Subtests, metrics: Metrics
) -> None:
    """Each number comes out under its conventional name, labels and unit."""
    for name, labels, value in _NUMBERS:
        with subtests.test(name=name, labels=labels):
            assert _value(metrics, name, **labels) == value


def test_histogram_is_cumulative(metrics: Metrics) -> None:
    """Buckets add up to the count; deliveries have a topic."""
    name = "bridge_publish_duration_seconds"
    samples = _families(metrics)[name].samples
    buckets = [s.value for s in samples if s.name == f"{name}_bucket"]
    bounds = [s.labels["le"] for s in samples if s.name == f"{name}_bucket"]
    assert bounds == ["0.005", "0.1", "1.0", "+Inf"]
    assert buckets == [4, 7, 9, 10]
    assert _value(metrics, f"{name}_count") == 10
    assert _value(metrics, f"{name}_sum") == 7.25
    name = "bridge_delivery_duration_seconds"
    assert _value(metrics, f"{name}_count", topic="jobs") == 10
    assert _value(metrics, f"{name}_bucket", topic="jobs", le="0.1") == 7


def test_build_is_named(metrics: Metrics) -> None:
    """The version of bridge and interpreter stand in labels."""
    python = ".".join(map(str, sys.version_info[:3]))
    labels = {"version": bridge.__version__, "python": python}
    assert _value(metrics, "bridge_build_info", **labels) == 1


def test_every_reason_is_there_from_the_start(
    metrics: Metrics, statistics: Statistics
) -> None:
    """A rate over dead letters needs the zero before the first one."""
    statistics.intakes[0].dead_letters.clear()
    statistics.intakes[0].preview_dead_letters.clear()
    statistics.outbox.late = statistics.relay.dead_letters = 0
    family = _families(metrics)["bridge_dlq_records"]
    assert {sample.labels["reason"] for sample in family.samples} == set(
        DeadLetterReason
    )
    assert {sample.value for sample in family.samples} == {0}


def test_accounts_add_up(metrics: Metrics, statistics: Statistics) -> None:
    """Events of all accounts are one number, dead letters included."""
    letters = {DeadLetterReason.NOT_JSON: 3, DeadLetterReason.TOO_LARGE: 2}
    statistics.intakes.append(intake(accepted=20, dead_letters=letters))
    # Each intake has two previews more that were too large.
    assert _value(metrics, "bridge_events_accepted_total") == 9 + 1 + 20 + 3 + 2
    assert _value(metrics, "bridge_dlq_records_total", reason="not_json") == 4
    assert _value(metrics, "bridge_dlq_records_total", reason="too_large") == 6


def test_what_is_unknown_is_absent_or_zero(
    metrics: Metrics, statistics: Statistics
) -> None:
    """No frame yet: no timestamp. An empty outbox: no age."""
    statistics.sessions[0].last_frame_at_us = None
    statistics.outbox.oldest_received_at_us = None
    names = [name for name, _ in _samples(metrics)]
    assert "bridge_last_frame_timestamp_seconds" not in names
    assert _value(metrics, "bridge_outbox_oldest_age_seconds") == 0


def test_a_commit_is_counted_as_a_whole(
    metrics: Metrics, statistics: Statistics
) -> None:
    """Who reads while a commit is being counted waits for the rest of it."""
    outbox = statistics.outbox
    outbox.topics["jobs"].acknowledged += 3
    reading = threading.Thread(target=metrics.read)
    with outbox.lock:
        reading.start()
        reading.join(0.2)
        assert reading.is_alive()
        outbox.topics["jobs"].waiting -= 3
    reading.join(_PATIENCE_SECONDS)
    assert not reading.is_alive()


def test_names_follow_the_conventions(metrics: Metrics) -> None:
    """One prefix, base units, a suffix for counters and a help text for all."""
    for family in _families(metrics).values():
        assert re.fullmatch(r"(bridge|process)_[a-z_]+", family.name)
        assert not re.search(r"_(us|ms|milliseconds|minutes|kib|mib)$", family.name)
        assert family.documentation.endswith(".")
        unit = re.search(r"_(seconds|bytes)$", family.name)
        if family.name.startswith("bridge"):
            assert family.unit == (unit[1] if unit else "")
        if family.type == "counter":
            names = {sample.name for sample in family.samples}
            assert names <= {f"{family.name}_total"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_process_metrics_are_there(metrics: Metrics) -> None:
    """Memory and CPU of the process stand beside the bridge's own."""
    assert _value(metrics, "process_resident_memory_bytes") > 1e6
    assert ("process_cpu_seconds_total", frozenset()) in _samples(metrics)
