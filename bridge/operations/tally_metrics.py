"""
The metrics that add up: what came, what became of it, and what is still on its way.

Of each kind and origin, in each scrape:

    offered + found + resent = published + dead-lettered + quarantined + lost
                               + superseded + dropped + buffered + waiting

What was sent again is counted twice where it went to: published for the first time is
`published - resent`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import Metric

from bridge.operations.families import counters, gauges
from bridge.operations.sources import IntakeStatistics, OutboxStatistics


__all__ = ["of_tallies"]

_LABELS = ("kind", "origin")

# Name, help text and, in the same words, the attribute of a tally.
_ROWS = (
    ("committed", "Rows committed of what this process has read."),
    ("found", "Rows that were there at the start, counted as they leave."),
    ("resent", "Rows that a log had lost, so that they wait and count once more."),
    ("published", "Rows that Kafka has on their topic."),
    ("dead_lettered", "Rows of dead letters that Kafka has."),
    ("quarantined", "Rows put aside: Kafka takes them on no topic."),
    ("lost", "Rows that could not be read of a damaged outbox."),
    ("superseded", "Records not needed: the job's own event was there first."),
)


def of_tallies(
    intakes: Sequence[IntakeStatistics], outbox: OutboxStatistics
) -> Iterator[Metric]:
    """
    Yield what became of records, by kind and origin.

    It is called on the trio loop, where events are offered: between the two readings
    nothing is, and what the outbox does meanwhile is in one reading as a whole.
    """
    offered = _offered(intakes)
    tallies = outbox.tallies.read()
    came = counters(
        "bridge_records_offered",
        "Records made of what was read, dead letters included; no gap's.",
        *_LABELS,
    )
    buffered = gauges(
        "bridge_records_buffered",
        "Records read that are neither on disk yet nor given up.",
        *_LABELS,
    )
    for cell, count in offered.items():
        came.add_metric(cell, count)
        known = tallies.get(cell)
        gone = 0 if known is None else known.committed + known.dropped
        buffered.add_metric(cell, count - gone)
    dropped = counters(
        "bridge_records_dropped",
        "Records given up before they were on disk.",
        *_LABELS,
    )
    waiting = gauges(
        "bridge_rows_waiting",
        "Rows that Kafka has not acknowledged and webhooks that are held, but for those"
        " still to be found.",
        *_LABELS,
    )
    rows = {
        name: counters(f"bridge_rows_{name}", text, *_LABELS) for name, text in _ROWS
    }
    for cell, tally in tallies.items():
        dropped.add_metric(cell, tally.dropped)
        waiting.add_metric(cell, tally.waiting)
        for name, metric in rows.items():
            metric.add_metric(cell, getattr(tally, name))
    yield from (came, buffered, dropped, *rows.values(), waiting)


def _offered(intakes: Sequence[IntakeStatistics]) -> Counter[tuple[str, str]]:
    offered: Counter[tuple[str, str]] = Counter()
    for intake in intakes:
        origin = str(intake.origin)
        letters = sum(dict(intake.dead_letters).values())
        offered["event", origin] += intake.accepted + letters
        letters = sum(dict(intake.preview_dead_letters).values())
        offered["preview", origin] += intake.previews + letters
    return offered
