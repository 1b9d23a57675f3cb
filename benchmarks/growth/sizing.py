"""
What a load needs, on paper: measured costs times what the load is.

Pure: owns the formulas and their constants. Which costs were measured is `axes`', how
the answer is written `page`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.growth.axes import Fit, Point, fit, medians


__all__ = ["Costs", "Load", "Needs", "costs_of", "needs_of"]

_DAY_SECONDS = 86_400
_HOUR_SECONDS = 3_600

# What a small event takes in Kafka, with key, headers and its share of the batch: by
# `make bench-previews`.
_RECORD_BYTES = 540

# How the turns of accounts go that connect: ten at once, then a hundred a second.
_AT_ONCE, _CONNECTS_A_SECOND = 10, 100

# Kept in memory of an ended job (`outbox.max_ended_jobs`: 28 MB for 2,000,000), and of
# one in flight (measured: 45 MiB for 50,000).
_ENDED_BYTES, _IN_FLIGHT_BYTES = 14, 940

# Jobs that have ended are remembered for 25 h.
_REMEMBERED_DAYS = 25 / 24

# While an account has events it is pinged so often, and not more often than they come.
_PING_SECONDS = 2


@dataclass(frozen=True)
class Load:
    """
    A load of jobs.

    Attributes:
        accounts: How many accounts they are of.
        jobs_a_day: How many jobs.
        events_a_job: Events of each.
        previews_a_job: How many of these have a preview.
        preview_bytes: Length of a preview.
        peak: Events/s of the busiest hour, in mean ones.
        job_seconds: How long a job runs.
    """

    accounts: int
    jobs_a_day: int
    events_a_job: int
    previews_a_job: int
    preview_bytes: int
    peak: float
    job_seconds: float


@dataclass(frozen=True)
class Costs:
    """
    What was measured.

    Attributes:
        base_bytes: Memory of a bridge with one account, at rest.
        account_bytes: Memory of each account more.
        rate_us: CPU of a small event at 1,000 a second, of the largest bridge.
        size: CPU of an event of a flood, by its size.
        row_bytes: What a waiting row of a small event takes on disk.
        drained_a_second: How many small rows a second go to Kafka afterwards.
    """

    base_bytes: float
    account_bytes: float
    rate_us: float
    size: Fit
    row_bytes: float
    drained_a_second: float


def costs_of(points: Sequence[Point]) -> Costs:
    """
    Take costs from what was measured.

    Args:
        points: Of all axes, with two sizes of sessions, payload and pending at least.
    """
    memory = medians(points, "sessions", "rest_bytes")
    few, many = min(memory), max(memory)
    rates = medians(points, "sessions", "rate_us")
    disk = medians(points, "pending", "disk_bytes")
    drained = medians(points, "pending", "drained_a_second")
    sizes = medians(points, "payload", "event_bytes")
    of_sizes = medians(points, "payload", "flood_us")
    return Costs(
        base_bytes=memory[few],
        account_bytes=(memory[many] - memory[few]) / (many - few),
        rate_us=rates[many],
        size=fit({sizes[value]: cost for value, cost in of_sizes.items()}),
        row_bytes=disk[max(disk)] / max(disk),
        drained_a_second=drained[max(drained)],
    )


@dataclass(frozen=True)
class Needs:
    """
    What a load needs.

    Attributes:
        mean: Events a second over the day.
        peak: Of the busiest hour.
        kafka_bytes: Into Kafka a second at the peak, without a codec.
        day_bytes: Into Kafka a day, likewise.
        cores: CPU cores at the peak, at most.
        memory_bytes: At rest, with all that is remembered of jobs.
        outage_bytes: What an hour without Kafka takes on disk at the peak.
        outage_rows: How many rows wait then.
        drain_seconds: How long the bridge takes to bring them to Kafka, beside events.
        sockets: Connections to dryAPI that stand.
        pings: Pings a second at the peak, at most.
        start_seconds: From the first connect until all are subscribed.
        in_flight: Jobs in flight at the peak.
    """

    mean: float
    peak: float
    kafka_bytes: float
    day_bytes: float
    cores: float
    memory_bytes: float
    outage_bytes: float
    outage_rows: float
    drain_seconds: float
    sockets: int
    pings: float
    start_seconds: float
    in_flight: float


# At this rate an event's cost was measured; a lower one has no more wake-ups.
_RATE = 1_000


def needs_of(load: Load, costs: Costs) -> Needs:
    """Work out what a load needs."""
    mean = load.jobs_a_day * load.events_a_job / _DAY_SECONDS
    peak = mean * load.peak
    shared = load.previews_a_job * load.preview_bytes / load.events_a_job
    # The wake-ups of small events at 1,000/s, and what previews cost beside.
    wake_ups = costs.rate_us * max(peak, _RATE)
    previews = costs.size.kilobyte * shared / 1_000 * peak
    waiting = peak * _HOUR_SECONDS
    # What previews add to a row's cost slows the draining as it does a flood.
    drain_us = 1e6 / costs.drained_a_second + costs.size.kilobyte * shared / 1_000
    in_flight = peak / load.events_a_job * load.job_seconds
    record_bytes = _RECORD_BYTES + shared
    return Needs(
        mean=mean,
        peak=peak,
        kafka_bytes=peak * record_bytes,
        day_bytes=mean * _DAY_SECONDS * record_bytes,
        cores=(wake_ups + previews) / 1e6,
        memory_bytes=costs.base_bytes
        + (load.accounts - 1) * costs.account_bytes
        + load.jobs_a_day * _REMEMBERED_DAYS * _ENDED_BYTES
        + in_flight * _IN_FLIGHT_BYTES,
        outage_bytes=waiting * (costs.row_bytes + shared),
        outage_rows=waiting,
        drain_seconds=waiting / (1e6 / drain_us - peak),
        sockets=load.accounts,
        pings=min(load.accounts / _PING_SECONDS, peak),
        start_seconds=max(load.accounts - _AT_ONCE, 0) / _CONNECTS_A_SECOND,
        in_flight=in_flight,
    )
