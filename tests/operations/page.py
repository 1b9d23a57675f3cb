"""The page that lists every metric, made from what `/metrics` says of itself.

python -m tests.operations.page            writes docs/metrics.md
python -m tests.operations.page --check    reports a stale page, exits 1
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric

from bridge.operations.metrics import Metrics
from tests.operations.statistics import Statistics, families


_FILE = Path(__file__).parents[2] / "docs" / "metrics.md"

_HEAD = """\
# Metrics

<!-- Written by `make docs` from bridge/operations: change it there, not here. -->

`/metrics` on `operations.listen` answers in Prometheus' text format, and in OpenMetrics
to whoever accepts that. What is worth an alert stands in
[operations](operations.md#health).

The last word of a name but `total` is its unit. Numbers are of this process, and begin
at 0 with it. No label has a value for each job: there are as many series as accounts,
topics and words of closed lists make, and no more with time. `client_id` is an
account's, `topic` a topic's name.

What came is in each scrape what became of it and what is on its way. Of records that
were offered, the rest is in the buffer:

    bridge_outbox_accepted_total
      = bridge_outbox_committed_total + bridge_outbox_superseded_total
      + bridge_outbox_withdrawn_total + bridge_events_dropped_total
      + bridge_preview_records_dropped_total + the buffer

Of each topic's rows, gaps included:

    bridge_rows_found_total + bridge_rows_committed_total + bridge_rows_resent_total
      = bridge_rows_acknowledged_total + bridge_rows_refused_total + bridge_rows_waiting

And both are connected, by the rows of all topics but that of gaps, where a refused
record counts only if nothing takes it:

    found + bridge_outbox_held_at_start + bridge_outbox_committed_total + resent
      = acknowledged + bridge_outbox_unsendable + bridge_outbox_discarded_total
      + waiting + bridge_outbox_held

A webhook that is held for the socket's own event is committed, and no row yet. One that
the outbox has no room for is withdrawn, or not accepted; it comes again. What is sent
again because a log lost it is acknowledged twice: `bridge_rows_resent_total` says how
much that is.

Beside these there are `process_*`: memory, processor time, open files and start of the
process, as Prometheus' own client gives them on Linux.

| metric | type | labels | meaning |
|---|---|---|---|
"""

_SUFFIXES = {"counter": "_total", "info": "_info"}


def build() -> str:
    """Make the page's text, with a newline at its end."""
    accept = "application/openmetrics-text; version=1.0.0"
    body, _ = Metrics(Statistics().sources()).render(accept)
    rows = [
        _row(family)
        for family in families(body.decode()).values()
        if family.name.startswith("bridge_")
    ]
    return "".join([_HEAD, *rows])


def _row(family: Metric) -> str:
    name = family.name + _SUFFIXES.get(family.type, "")
    labels = ", ".join(f"`{label}`" for label in _labels(family))
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n"


def _labels(family: Metric) -> Iterator[str]:
    # The bounds of a histogram's buckets are no label of ours.
    yield from (label for label in family.samples[0].labels if label != "le")


def main() -> int:
    """Write the page, or check the one on disk; gives the exit code."""
    text = build()
    if _FILE.read_text(encoding="utf-8") == text:
        return 0
    if "--check" in sys.argv:
        sys.stdout.write(f"{_FILE} is stale: run `make docs`\n")
        return 1
    _FILE.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
