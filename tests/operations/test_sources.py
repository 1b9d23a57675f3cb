"""Tests that the rooms count what operations reads."""

from __future__ import annotations

from dataclasses import replace

from bridge.errors import DeadLetterReason
from bridge.intake import IntakeStatistics
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.operations.healing_sources import HealingSources
from bridge.operations.health import Health
from bridge.operations.heartbeat import LoopHeartbeat
from bridge.operations.metrics import Metrics
from bridge.operations.sources import Sources
from bridge.outbox import OutboxStatistics
from bridge.pusher.state import State
from bridge.pusher.statistics import Outcome, ProbeOutcome, Statistics
from bridge.reconciliation.budget import Budget
from bridge.reconciliation.client import Outcome as Asked
from bridge.reconciliation.statistics import ReconciliationStatistics
from bridge.record import Origin
from bridge.recovery.gap import GapCause
from bridge.recovery.statistics import GapStatistics
from bridge.webhooks.statistics import Release, WebhookStatistics
from tests.operations import statistics as operations
from tests.operations.exposition import families


def _nothing_healed() -> HealingSources:
    return HealingSources(
        ReconciliationStatistics(["client-1"]),
        {"client-1": Budget(reserve_percent=25, now_us=lambda: 0)},
        WebhookStatistics(["client-1"]),
        lambda _: 7,
        ("client-1",),
    )


def _shown(body: bytes) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(body.decode()).values()
        for sample in family.samples
    }


async def test_statistics_of_the_rooms_fit() -> None:
    """What the rooms count in fits the protocols, and shows when it is read."""
    session, intake = Statistics("client-1"), IntakeStatistics()
    outbox, relay = OutboxStatistics(), RelayStatistics()
    gaps = GapStatistics(["client-1"])
    asked, taken = (
        ReconciliationStatistics(["client-1"]),
        WebhookStatistics(["client-1"]),
    )
    budget = Budget(reserve_percent=25, now_us=lambda: 0)
    healing = HealingSources(
        asked, {"client-1": budget}, taken, lambda _: 7, ("client-1",)
    )
    sources = Sources(
        [session], [intake], outbox, relay, gaps, LoopHeartbeat(), healing
    )
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
    shown = _shown(body)
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


async def test_statistics_of_what_heals_fit() -> None:
    """The same of reconciliation and webhooks."""
    healing = _nothing_healed()
    asked, taken = healing.reconciliation, healing.webhooks
    assert isinstance(asked, ReconciliationStatistics)
    assert isinstance(taken, WebhookStatistics)
    asked.requests["client-1", Asked.NOT_FOUND] += 1
    taken.released[Release.SUPERSEDED] += 2
    taken.last_terminal_at_us["client-1"] = 5_000_000
    sources = replace(operations.Statistics().sources(), healing=healing)
    accept = "application/openmetrics-text; version=1.0.0"
    body, _ = Metrics(sources).render(accept)
    shown = _shown(body)
    assert shown["bridge_jobs_finished_total", "client-1"] == 7
    assert shown["bridge_reconciliation_requests_total", "client-1", "not_found"] == 1
    assert shown["bridge_reconciliation_requests_total", "client-1", "answered"] == 0
    assert shown["bridge_reconciliation_remaining", "client-1", "minute"] == 37
    assert shown["bridge_webhook_deliveries_total", "client-1", "taken"] == 0
    assert shown["bridge_webhook_released_total", "superseded"] == 2
    assert shown["bridge_webhook_last_terminal_timestamp_seconds", "client-1"] == 5
