"""The page that lists every metric, made from what `/metrics` says of itself.

python -m tests.operations.page            writes docs/metrics.md
python -m tests.operations.page --check    reports a stale page, exits 1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client.metrics_core import Metric

from bridge.operations.metrics import Metrics
from tests.operations.exposition import families
from tests.operations.statistics import Statistics


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

Of each kind (`event`, `preview`, `gap`) and origin, what came is in each scrape what
became of it and what is on its way; of gaps nothing is `offered`, dropped or buffered:

    bridge_records_offered_total + bridge_rows_found_total + bridge_rows_resent_total
      = bridge_rows_published_total + bridge_rows_dead_lettered_total
      + bridge_rows_quarantined_total + bridge_rows_lost_total
      + bridge_rows_superseded_total + bridge_records_dropped_total
      + bridge_records_buffered + bridge_rows_waiting

A webhook that is held for the socket's own event waits as a row does. One that the
outbox has no room for is dropped; it comes again, and is offered again.

What is sent again is counted again where it goes to: without
`bridge_rows_resent_total`, the right side tells what was there for the first time.

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or check the one on disk; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.operations.page",
        description="Write the page of metrics.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if it is stale"
    )
    parser.add_argument("--file", type=Path, default=_FILE, help="the page")
    options = parser.parse_args(arguments)
    path: Path = options.file
    text = build()
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    if options.check:
        sys.stdout.write(f"{path} is stale: run `make docs`\n")
        return 1
    path.write_text(text, encoding="utf-8", newline="\n")
    sys.stdout.write(f"{path} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
