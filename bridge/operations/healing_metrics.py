"""
The metrics of what heals gaps: the status endpoint, its limits, and webhooks.

Names of the gaps themselves, and of what was healed of them, stand in
`account_metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric

from bridge.gaps.receiver import WebhookStatistics
from bridge.gaps.reconciler import ReconciliationStatistics
from bridge.operations.families import (
    US_PER_SECOND,
    counter,
    counters,
    counts,
    gauges,
    levels,
)
from bridge.operations.healing_sources import HealingSources


__all__ = ["of_healing"]


def of_healing(healing: HealingSources) -> Iterator[Metric]:
    """Yield what was asked and taken beside the socket; of webhooks where they are."""
    yield counts(
        "bridge_jobs_finished",
        "Jobs that have ended, however that was learned.",
        "client_id",
        values={who: healing.finished(who) for who in healing.client_ids},
    )
    yield from _of_reconciliation(healing.reconciliation)
    yield from _of_limits(healing)
    if healing.webhooks is not None:
        yield from _of_webhooks(healing.webhooks, healing.released)


def _of_reconciliation(asked: ReconciliationStatistics) -> Iterator[Metric]:
    yield counts(
        "bridge_reconciliation_requests",
        "Requests to dryAPI's status endpoint, by what came of them.",
        "client_id",
        "outcome",
        values=asked.requests,
    )
    jobs = counters(
        "bridge_reconciliation_jobs",
        "Jobs asked about: healed, superseded by an event, or given up as unknown.",
        "client_id",
        "result",
    )
    for result in ("healed", "superseded", "unknown"):
        for client_id, count in dict(getattr(asked, result)).items():
            jobs.add_metric([client_id, result], count)
    yield jobs
    yield levels(
        "bridge_reconciliation_waiting",
        "Jobs that wait to be asked about, after a gap or because they are stale.",
        "client_id",
        "purpose",
        values=asked.waiting,
    )


def _of_limits(healing: HealingSources) -> Iterator[Metric]:
    remaining = gauges(
        "bridge_reconciliation_remaining",
        "Requests that the bridge may still make; no day where there is no limit.",
        "client_id",
        "window",
    )
    backing_off = gauges(
        "bridge_reconciliation_backing_off",
        "Whether the status endpoint fails, and is left alone for a while (1).",
        "client_id",
    )
    now = healing.now()
    for client_id, limiter in healing.limiters.items():
        windows = {"minute": limiter.minute_left(now), "day": limiter.day_left(now)}
        for window, count in windows.items():
            if count is not None:
                remaining.add_metric([client_id, window], count)
        backing_off.add_metric([client_id], limiter.is_backing_off)
    yield from (remaining, backing_off)


def _of_webhooks(
    webhooks: WebhookStatistics, released: Mapping[str, int]
) -> Iterator[Metric]:
    yield counts(
        "bridge_webhook_deliveries",
        "Webhooks that were answered, by what they were answered with.",
        "client_id",
        "outcome",
        values=webhooks.deliveries,
    )
    yield counts(
        "bridge_webhook_jobs",
        "Genuine webhooks, each counted once, by what they tell.",
        "client_id",
        "event",
        values=webhooks.events,
    )
    last = gauges(
        "bridge_webhook_last_terminal_timestamp_seconds",
        "When a webhook told of a job's end last; absent before the first.",
        "client_id",
    )
    for client_id, at_us in dict(webhooks.last_terminal_at_us).items():
        if at_us is not None:
            last.add_metric([client_id], at_us / US_PER_SECOND)
    yield last
    yield counts(
        "bridge_webhook_released",
        "Webhooks that were held, by whether they were still needed.",
        "result",
        values=released,
    )
    yield counter(
        "bridge_webhook_unknown_account",
        "Webhooks for an account that doesn't exist or has no secret.",
        webhooks.unknown_account,
    )
