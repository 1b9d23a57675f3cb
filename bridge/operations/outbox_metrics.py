"""The metrics of the outbox: what came in, what waits, what went."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from bridge.operations.families import US_PER_SECOND, counter, counts, gauge, levels
from bridge.operations.sources import OutboxStatistics


__all__ = ["of_outbox"]


def of_outbox(outbox: OutboxStatistics, now: float) -> Iterator[Metric]:
    """Yield what the outbox counts; `now` is in seconds since the epoch."""
    # What must add up is read at one moment.
    outbox = outbox.copied()
    yield counter(
        "bridge_outbox_accepted",
        "Records taken into the outbox's buffer.",
        outbox.accepted,
    )
    yield counter(
        "bridge_outbox_committed",
        "Records committed to the outbox's database.",
        outbox.committed,
    )
    yield counter(
        "bridge_outbox_superseded",
        "Records not needed: the job's own event was there first.",
        outbox.superseded,
    )
    yield counter(
        "bridge_outbox_withdrawn",
        "Webhooks and status answers that found no room: they come again.",
        outbox.withdrawn,
    )
    yield from _of_topics(outbox)
    yield counts(
        "bridge_events_dropped",
        "Events given up by a policy, by cause.",
        "cause",
        values=outbox.dropped,
    )
    yield counter(
        "bridge_previews_dropped",
        "Previews given up for want of room; no event was lost with them.",
        outbox.dropped_previews + outbox.dropped_pictures,
    )
    yield counter(
        "bridge_preview_records_dropped",
        "Those of them that were records of their own.",
        outbox.dropped_pictures,
    )
    yield counts(
        "bridge_anomalies",
        "Events marked for the state of their job: the words of bridge_anomaly.",
        "anomaly",
        values=outbox.anomalies,
    )
    yield gauge(
        "bridge_jobs_ended",
        "Jobs of which it is known that they have ended: nothing may follow.",
        outbox.ended_jobs,
    )
    yield counter(
        "bridge_jobs_forgotten",
        "Unfinished jobs that were too many or too old to be remembered.",
        outbox.forgotten_jobs,
    )
    yield counter(
        "bridge_jobs_ended_forgotten",
        "Ended jobs forgotten early, being too many: what follows them isn't noticed.",
        outbox.forgotten_ends,
    )
    yield gauge(
        "bridge_outbox_unsendable",
        "Rows kept in the outbox unsent: Kafka takes them on no topic.",
        outbox.unsendable,
    )
    yield gauge(
        "bridge_outbox_rows",
        "Committed records that Kafka has not acknowledged.",
        outbox.rows,
    )
    yield gauge(
        "bridge_outbox_held",
        "Webhooks on disk that wait for the socket's own event of their job.",
        outbox.held,
    )
    yield gauge(
        "bridge_outbox_held_at_start",
        "Webhooks that were held when this process opened the outbox.",
        outbox.held_at_start,
    )
    yield counter(
        "bridge_outbox_discarded",
        "Held webhooks that were not needed: the job's own event was there first.",
        outbox.discarded,
    )
    yield gauge(
        "bridge_outbox_bytes",
        "Size of the outbox's database and write-ahead log.",
        outbox.bytes,
    )
    yield gauge(
        "bridge_outbox_oldest_age_seconds",
        "Age of the oldest record that Kafka has not acknowledged; 0 without one.",
        _age_seconds(outbox.oldest_received_at_us, now),
    )
    yield gauge(
        "bridge_outbox_full",
        "Whether the outbox is at its limit (1) or accepts records (0).",
        outbox.full,
    )


# What became of rows, by topic: found + committed + resent = acknowledged + refused +
# waiting, after each commit.
_OF_TOPICS = {
    "found": "Rows that waited when this process opened the outbox.",
    "committed": "Rows that this process committed.",
    "resent": "Rows that a truncated log lost, so that they wait again.",
    "acknowledged": "Rows that Kafka has.",
    "refused": "Rows that the broker refused for good.",
}


def _of_topics(outbox: OutboxStatistics) -> Iterator[Metric]:
    topics = outbox.topics
    for name, text in _OF_TOPICS.items():
        values = {topic: getattr(one, name) for topic, one in topics.items()}
        yield counts(f"bridge_rows_{name}", text, "topic", values=values)
    yield levels(
        "bridge_rows_waiting",
        "Rows that wait for Kafka.",
        "topic",
        values={topic: one.waiting for topic, one in topics.items()},
    )


def _age_seconds(received_at_us: int | None, now: float) -> float:
    """Tell an age; never below zero, though the wall clock may be set back."""
    if received_at_us is None:
        return 0.0
    return max(0.0, now - received_at_us / US_PER_SECOND)
