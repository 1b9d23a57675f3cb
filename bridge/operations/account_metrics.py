"""
The metrics of accounts: what each hears, how it is let in, and what it may miss.

The numbers are those of the sessions, of the intake and of the gap ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import Metric

from bridge.operations.families import (
    US_PER_SECOND,
    counter,
    counters,
    counts,
    gauges,
    levels,
)
from bridge.operations.sources import (
    GapStatistics,
    IntakeStatistics,
    SessionStatistics,
)


__all__ = ["of_gaps", "of_intakes", "of_sessions"]


def of_sessions(sessions: Sequence[SessionStatistics]) -> Iterator[Metric]:
    """Yield what is read of the accounts' sessions."""
    frames = counters(
        "bridge_frames_received", "Text frames read from the socket.", "client_id"
    )
    events = counters("bridge_events_received", "Job-status events read.", "client_id")
    filtered = counters(
        "bridge_events_filtered",
        "Events of another name or channel, passed over; no event of a job is.",
        "client_id",
    )
    unrecognised = counters(
        "bridge_frames_unrecognised",
        "Frames that no reading made sense of.",
        "client_id",
    )
    connects = counters(
        "bridge_connects",
        "Attempts to connect and subscribe, by their outcome.",
        "client_id",
        "outcome",
    )
    probes = counters(
        "bridge_probes",
        "Subscriptions repeated to see whether they stand, by what came of it.",
        "client_id",
        "outcome",
    )
    subscribed = gauges(
        "bridge_subscribed",
        "Whether the account's channel is subscribed (1) or not (0).",
        "client_id",
    )
    refused = gauges(
        "bridge_account_refused",
        "Whether dryAPI refuses the account (1); 0 with its next subscription.",
        "client_id",
    )
    last_frame = gauges(
        "bridge_last_frame_timestamp_seconds",
        "When the last frame was read, since the epoch; absent before the first.",
        "client_id",
    )
    for session in sessions:
        who = [session.client_id]
        frames.add_metric(who, session.frames)
        events.add_metric(who, session.events)
        filtered.add_metric(who, session.other_events)
        unrecognised.add_metric(who, session.unrecognized)
        for outcome, count in dict(session.connects).items():
            connects.add_metric([*who, str(outcome)], count)
        for outcome, count in dict(session.probes).items():
            probes.add_metric([*who, str(outcome)], count)
        subscribed.add_metric(who, session.subscribed)
        refused.add_metric(who, session.refused_reason is not None)
        read_at_us = session.last_frame_at_us
        if read_at_us is not None:
            last_frame.add_metric(who, read_at_us / US_PER_SECOND)
    yield from (frames, unrecognised, events, filtered)
    yield from (connects, probes, subscribed, refused, last_frame)


def of_intakes(intakes: Sequence[IntakeStatistics]) -> Iterator[Metric]:
    """Yield what became of all accounts' events before the outbox."""
    normalized: Counter[str] = Counter()
    accepted = previews = 0
    for intake in intakes:
        accepted += intake.accepted + sum(dict(intake.dead_letters).values())
        previews += intake.previews
        for change, count in dict(intake.normalized).items():
            normalized[str(change)] += count
    yield counter(
        "bridge_events_accepted",
        "Events that the intake took over, dead letters included.",
        accepted,
    )
    yield counts(
        "bridge_events_normalized",
        "Changes made to events, by kind: the words of bridge_normalized.",
        "change",
        values=normalized,
    )
    yield counter(
        "bridge_previews_accepted",
        "Previews that became a record of their own.",
        previews,
    )


def of_gaps(gaps: GapStatistics) -> Iterator[Metric]:
    """Yield what may have been missed."""
    yield counts(
        "bridge_gaps",
        "Times in which events may have been missed, by cause.",
        "client_id",
        "cause",
        values=gaps.gaps,
    )
    yield levels(
        "bridge_gap_open",
        "Gaps that are open now: events may be missed at this moment.",
        "client_id",
        values=gaps.open,
    )
    yield counts(
        "bridge_gap_seconds",
        "How long the gaps were that have closed.",
        "client_id",
        values=gaps.seconds,
    )
    yield from _of_gaps_jobs(gaps)


def _of_gaps_jobs(gaps: GapStatistics) -> Iterator[Metric]:
    """Yield what became of the jobs that gaps may have swallowed."""
    yield counts(
        "bridge_gaps_settled",
        "Gaps of which it was found out what became of their jobs, or given up.",
        "client_id",
        values=gaps.settled,
    )
    yield counts(
        "bridge_gap_jobs_healed",
        "Jobs whose end lay in a gap and was learned after all, by how: "
        "status-endpoint or webhook.",
        "client_id",
        "by",
        values=gaps.healed,
    )
    yield levels(
        "bridge_gap_jobs_unknown",
        "Jobs that were in flight in a gap and of which nobody can tell what became; "
        "for 25 h after the gap, or until they are heard of.",
        "client_id",
        values=gaps.unknown,
    )
