"""Tests that the rooms count what operations reads."""

from __future__ import annotations

from bridge.errors import DeadLetterReason
from bridge.intake import IntakeStatistics
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.operations.health import Health
from bridge.operations.heartbeat import LoopHeartbeat
from bridge.operations.metrics import Metrics
from bridge.operations.sources import Sources
from bridge.outbox import OutboxStatistics
from bridge.pusher.state import State
from bridge.pusher.statistics import Outcome, ProbeOutcome, Statistics
from bridge.record import Origin
from bridge.recovery.gap import GapCause
from bridge.recovery.statistics import GapStatistics
from tests.operations.exposition import families


def test_statistics_of_the_rooms_fit() -> None:
    """What the rooms count in fits the protocols, and shows when it is read."""
    session, intake = Statistics("client-1"), IntakeStatistics()
    outbox, relay = OutboxStatistics(), RelayStatistics()
    gaps = GapStatistics(["client-1"])
    sources = Sources([session], [intake], outbox, relay, gaps, LoopHeartbeat())
    metrics = Metrics(sources)
    assert Health(sources, metrics).ready().status == "failed"

    session.state = State.SUBSCRIBED
    session.connects[Outcome.SUBSCRIBED] += 1
    session.probes[ProbeOutcome.HEARD] += 1
    intake.dead_letters[DeadLetterReason.NOT_JSON] += 1
    outbox.accepted += 1
    gaps.gaps["client-1", GapCause.OVERFLOW] += 1
    gaps.seconds["client-1"] += 1.5
    gaps.healed["client-1", Origin.WEBHOOK] += 2
    gaps.unknown["client-1"] += 1
    relay.worked()
    relay.published["jobs.dlq"] = 1
    relay.publish_duration.observe(0.004)
    assert Health(sources, metrics).ready().status == "ok"

    body, _ = metrics.render("application/openmetrics-text; version=1.0.0")
    shown = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(body.decode()).values()
        for sample in family.samples
    }
    assert shown["bridge_connects_total", "client-1", "subscribed"] == 1
    assert shown["bridge_probes_total", "client-1", "heard"] == 1
    assert shown["bridge_subscribed", "client-1"] == 1
    assert shown["bridge_events_accepted_total",] == 1
    assert shown["bridge_dlq_records_total", "not_json"] == 1
    assert shown["bridge_outbox_accepted_total",] == 1
    assert shown["bridge_gaps_total", "overflow", "client-1"] == 1
    assert shown["bridge_gaps_total", "outbox_damaged", "client-1"] == 0
    assert shown["bridge_gap_open", "client-1"] == 0
    assert shown["bridge_gap_seconds_total", "client-1"] == 1.5
    assert shown["bridge_gaps_settled_total", "client-1"] == 0
    assert shown["bridge_gap_jobs_healed_total", "webhook", "client-1"] == 2
    assert shown["bridge_gap_jobs_unknown", "client-1"] == 1
    assert shown["bridge_records_published_total", "jobs.dlq"] == 1
    assert shown["bridge_publish_duration_seconds_bucket", "0.0025"] == 0
    assert shown["bridge_publish_duration_seconds_bucket", "0.005"] == 1
    assert shown["bridge_publish_duration_seconds_count",] == 1
