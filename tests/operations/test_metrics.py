"""Tests of the metrics, read back by Prometheus' own parsers."""

from __future__ import annotations

import re
import sys
import threading

import httpx  # noqa: TID251 - the client of these tests
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

import bridge
from bridge.errors import DeadLetterReason
from bridge.operations import metrics as operations_metrics
from bridge.operations.metrics import Metrics
from tests.operations.statistics import (
    OPENMETRICS,
    Statistics,
    families,
    intake,
    parsed,
)


# It takes milliseconds.
_PATIENCE_SECONDS = 10.0

# What `Statistics` has, as Prometheus reads it, with `=` before the value.
_LINES = """
bridge_frames_received_total{client_id="client-1"}=12.0
bridge_events_received_total{client_id="client-1"}=10.0
bridge_connects_total{client_id="client-1",outcome="subscribed"}=1.0
bridge_probes_total{client_id="client-1",outcome="acknowledged"}=3.0
bridge_events_filtered_total{client_id="client-1"}=1.0
bridge_frames_unrecognized_total{client_id="client-1"}=0.0
bridge_subscribed{client_id="client-1"}=1.0
bridge_account_refused{client_id="client-1"}=0.0
bridge_last_frame_timestamp_seconds{client_id="client-1"}=1.7639855985e+09
bridge_events_accepted_total=10.0
bridge_dlq_records_total{reason="not_json"}=1.0
bridge_dlq_records_total{reason="too_large"}=2.0
bridge_dlq_records_total{reason="invalid_preview"}=1.0
bridge_dlq_records_total{reason="after_terminal"}=2.0
bridge_dlq_records_total{reason="refused_by_broker"}=3.0
bridge_dlq_records_total{reason="not_an_object"}=0.0
bridge_events_normalized_total{change="missing_field"}=2.0
bridge_events_normalized_total{change="preview_moved"}=0.0
bridge_previews_accepted_total=5.0
bridge_anomalies_total{anomaly="duplicate"}=3.0
bridge_anomalies_total{anomaly="regression"}=1.0
bridge_events_dropped_total{cause="overflow"}=1.0
bridge_previews_dropped_total=6.0
bridge_jobs_ended=50.0
bridge_jobs_forgotten_total=6.0
bridge_jobs_ended_forgotten_total=8.0
bridge_preview_records_dropped_total=2.0
bridge_outbox_accepted_total=13.0
bridge_outbox_committed_total=4.0
bridge_outbox_superseded_total=2.0
bridge_outbox_withdrawn_total=1.0
bridge_outbox_discarded_total=1.0
bridge_outbox_unsendable=1.0
bridge_rows_found_total{topic="jobs"}=2.0
bridge_rows_committed_total{topic="jobs"}=7.0
bridge_rows_committed_total{topic="jobs.dlq"}=1.0
bridge_rows_resent_total{topic="jobs"}=1.0
bridge_rows_acknowledged_total{topic="jobs"}=6.0
bridge_rows_refused_total{topic="jobs"}=1.0
bridge_rows_waiting{topic="jobs"}=3.0
bridge_rows_waiting{topic="jobs.dlq"}=0.0
bridge_outbox_rows=3.0
bridge_outbox_held=5.0
bridge_outbox_held_at_start=4.0
bridge_outbox_bytes=8192.0
bridge_outbox_oldest_age_seconds=2.0
bridge_outbox_full=0.0
bridge_records_published_total{topic="jobs"}=6.0
bridge_records_published_total{topic="jobs.dlq"}=1.0
bridge_records_resumed_total{topic="jobs"}=2.0
bridge_producer_recycles_total=1.0
bridge_kafka_connected=1.0
bridge_kafka_partitions=6.0
bridge_publish_duration_seconds_bucket{le="0.005"}=4.0
bridge_publish_duration_seconds_bucket{le="0.1"}=7.0
bridge_publish_duration_seconds_bucket{le="1.0"}=9.0
bridge_publish_duration_seconds_bucket{le="+Inf"}=10.0
bridge_publish_duration_seconds_count=10.0
bridge_publish_duration_seconds_sum=3.154
bridge_delivery_duration_seconds_bucket{le="0.1",topic="jobs"}=7.0
bridge_delivery_duration_seconds_count{topic="jobs"}=10.0
bridge_gaps_total{cause="overflow",client_id="client-1"}=2.0
bridge_gaps_total{cause="deaf",client_id="client-1"}=0.0
bridge_gap_open{client_id="client-1"}=1.0
bridge_gap_seconds_total{client_id="client-1"}=7.25
bridge_gaps_resolved_total{client_id="client-1"}=1.0
bridge_gap_jobs_healed_total{by="status-endpoint",client_id="client-1"}=4.0
bridge_gap_jobs_healed_total{by="webhook",client_id="client-1"}=3.0
bridge_gap_jobs_unknown{client_id="client-1"}=1.0
bridge_jobs_finished_total{client_id="client-1"}=9.0
bridge_reconciliation_requests_total{client_id="client-1",outcome="answered"}=4.0
bridge_reconciliation_jobs_total{client_id="client-1",result="healed"}=3.0
bridge_reconciliation_jobs_total{client_id="client-1",result="superseded"}=1.0
bridge_reconciliation_jobs_total{client_id="client-1",result="unknown"}=1.0
bridge_reconciliation_waiting{client_id="client-1",purpose="gap"}=2.0
bridge_reconciliation_remaining{client_id="client-1",window="minute"}=32.0
bridge_reconciliation_remaining{client_id="client-1",window="day"}=145.0
bridge_reconciliation_backing_off{client_id="client-1"}=0.0
bridge_webhook_deliveries_total{client_id="client-1",outcome="taken"}=2.0
bridge_webhook_jobs_total{client_id="client-1",event="job.completed"}=1.0
bridge_webhook_last_terminal_timestamp_seconds{client_id="client-1"}=1.76398554e+09
bridge_webhook_released_total{result="written"}=1.0
bridge_webhook_unknown_account_total=1.0
bridge_topic_findings{topic="jobs",verdict="ok"}=2.0
bridge_topic_findings{topic="jobs",verdict="error"}=0.0
bridge_loop_lag_seconds{loop="trio"}=0.02
bridge_loop_lag_seconds{loop="kafka"}=0.03
bridge_loop_tasks=17.0
"""


def _lines(statistics: Statistics) -> list[str]:
    write, _ = Metrics(statistics.sources()).read()
    return write().decode().splitlines()


def test_each_statistic_is_its_metric(statistics: Statistics) -> None:
    """Each number has its conventional name, labels and unit; each name is tested."""
    python = ".".join(map(str, sys.version_info[:3]))
    labels = f'python="{python}",version="{bridge.__version__}"'
    expected = [*_LINES.split(), f"bridge_build_info{{{labels}}}=1.0"]
    lines = {line.replace(" ", "=") for line in _lines(statistics)}
    assert [line for line in expected if line not in lines] == []
    tested = {re.split(r"_total|_bucket|_info|[{=]", line)[0] for line in expected}
    names = {name for name in families(statistics) if name.startswith("bridge_")}
    assert names - tested == set()


def test_every_reason_is_there_from_the_start(statistics: Statistics) -> None:
    """A rate over dead letters needs the zero before the first one."""
    statistics.intakes = [type(statistics.intakes[0])()]
    statistics.outbox.late = statistics.relay.dead_letters = 0
    family = families(statistics)["bridge_dlq_records"]
    reasons = {sample.labels["reason"]: sample.value for sample in family.samples}
    assert reasons == dict.fromkeys(DeadLetterReason, 0)


def test_accounts_add_up(statistics: Statistics) -> None:
    """Events of all accounts are one number, dead letters included."""
    statistics.intakes.append(intake(20, not_json=3, too_large=2))
    lines = _lines(statistics)
    assert "bridge_events_accepted_total 35.0" in lines
    assert 'bridge_dlq_records_total{reason="not_json"} 4.0' in lines
    # Each intake has two previews more that were too large.
    assert 'bridge_dlq_records_total{reason="too_large"} 6.0' in lines


def test_what_is_unknown_is_absent_or_zero(statistics: Statistics) -> None:
    """No frame yet: no timestamp. An empty outbox: no age."""
    statistics.sessions[0].last_frame_at_us = None
    statistics.outbox.oldest_received_at_us = None
    assert families(statistics)["bridge_last_frame_timestamp_seconds"].samples == []
    assert "bridge_outbox_oldest_age_seconds 0.0" in _lines(statistics)


def test_a_commit_is_counted_as_a_whole(statistics: Statistics) -> None:
    """A reader waits while a commit is being counted."""
    outbox = statistics.outbox
    outbox.topics["jobs"].acknowledged += 3
    reading = threading.Thread(target=Metrics(statistics.sources()).read)
    with outbox.lock:
        reading.start()
        reading.join(0.2)
        assert reading.is_alive()
        outbox.topics["jobs"].waiting -= 3
    reading.join(_PATIENCE_SECONDS)
    assert not reading.is_alive()


def test_names_follow_the_conventions(statistics: Statistics) -> None:
    """One prefix, base units, a suffix for counters and a help text for all."""
    for family in families(statistics).values():
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
def test_process_metrics_are_there(statistics: Statistics) -> None:
    """Memory and CPU of the process are beside the bridge's own."""
    (memory,) = families(statistics)["process_resident_memory_bytes"].samples
    assert memory.value > 1e6
    assert families(statistics)["process_cpu_seconds"].samples


async def test_metrics_speak_openmetrics(client: httpx.AsyncClient) -> None:
    """A client that asks for OpenMetrics gets what its parser accepts."""
    accept = f"{OPENMETRICS}, text/plain;q=0.5"
    answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    names = set(parsed(answer.text))
    assert {"bridge_outbox_rows", "bridge_build", "bridge_subscribed"} <= names


async def test_metrics_are_encoded_in_another_thread(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding megabytes doesn't keep the loop from the socket."""
    encode, content_type = choose_encoder("")
    wrote: list[int] = []

    def note(registry: CollectorRegistry) -> bytes:
        wrote.append(threading.get_ident())
        return encode(registry)

    monkeypatch.setattr(
        operations_metrics, "choose_encoder", lambda _: (note, content_type)
    )
    assert "\nbridge_outbox_rows 3.0\n" in (await client.get("/metrics")).text
    (thread,) = wrote
    assert thread != threading.get_ident()
