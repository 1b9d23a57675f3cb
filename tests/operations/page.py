"""
Writes the page of all metrics, and the alerts of docs/operate/monitoring.md.

The metrics are those that `/metrics` has, the alerts those of the chart's rules.

    python -m tests.operations.page            writes both
    python -m tests.operations.page --check    exits with 1 if one is stale
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics_core import Metric

from bridge.generated import write_or_check
from tests.operations.statistics import Statistics, families


_ROOT = Path(__file__).parents[2]
_METRICS = _ROOT / "docs" / "reference" / "metrics.md"
_MONITORING = _ROOT / "docs" / "operate" / "monitoring.md"
_RULES = _ROOT / "helm" / "bridge" / "files" / "rules.yaml"

_HEAD = """\
# Metrics

<!-- Written by `make docs` from statistics in bridge/: change it there, not here. -->

`/metrics` on `operations.listen` responds in Prometheus' text format, or in OpenMetrics
if the client asks for it. [Monitoring](../operate/monitoring.md) has health and alerts.

`..._total` is a counter, `..._duration_seconds` a histogram, and `bridge_build_info` is
always 1; all others are gauges. Numbers start at 0 with the process. No label has a
value per job, so the number of series doesn't grow with time.

The numbers of one scrape add up. Of the records that were offered:

    bridge_outbox_accepted_total
      = bridge_outbox_committed_total + bridge_outbox_superseded_total
      + bridge_outbox_withdrawn_total + bridge_events_dropped_total
      + bridge_preview_records_dropped_total + records in the buffer

Of the rows of each topic, gaps included:

    bridge_rows_found_total + bridge_rows_committed_total + bridge_rows_resent_total
      = bridge_rows_acknowledged_total + bridge_rows_refused_total + bridge_rows_waiting

Of the rows of all topics except that of gaps:

    found + bridge_outbox_held_at_start + bridge_outbox_committed_total + resent
      = acknowledged + bridge_outbox_unsendable + bridge_outbox_discarded_total
      + waiting + bridge_outbox_held

A held webhook counts as committed and isn't a row yet. A webhook without room counts as
withdrawn, or isn't accepted. A record that Kafka lost is acknowledged twice.

On Linux there are the `process_*` metrics of Prometheus' client, too.

| metric | labels | meaning |
|---|---|---|
"""

_SUFFIXES = {"counter": "_total", "info": "_info"}

# The rows of the table with this head.
_HEAD_OF_ALERTS = "| alert | severity | for | window | meaning |\n"
_ALERTS = re.compile(re.escape(_HEAD_OF_ALERTS) + r"(\|.*\n)+")


def _metrics() -> str:
    rows = [
        _row(family)
        for family in families(Statistics()).values()
        if family.name.startswith("bridge_")
    ]
    return "".join([_HEAD, *rows])


def _row(family: Metric) -> str:
    name = family.name + _SUFFIXES.get(family.type, "")
    labels = ", ".join(f"`{label}`" for label in _labels(family))
    return f"| `{name}` | {labels} | {family.documentation} |\n"


def _labels(family: Metric) -> Iterator[str]:
    # The bounds of a histogram's buckets aren't a label of ours.
    yield from (label for label in family.samples[0].labels if label != "le")


def alerts() -> list[dict[str, Any]]:
    """Return the alerts of the chart's rules."""
    rules = yaml.safe_load(_RULES.read_text("utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


def _monitoring() -> str:
    head = _HEAD_OF_ALERTS + "| --- | --- | --- | --- | --- |\n"
    table = head + "".join(map(_alert, alerts()))
    text, tables = _ALERTS.subn(lambda _: table, _MONITORING.read_text("utf-8"))
    assert tables == 1
    return text


def _alert(rule: dict[str, Any]) -> str:
    name, annotations = rule["alert"], rule["annotations"]
    # A condition looks back in all its parts equally far.
    windows = set(re.findall(r"(?:\[|offset )(\d+[mh])", rule["expr"]))
    meaning = re.sub(r"{{ \$labels\.(\w+) }}", r"`\1`", annotations["summary"])
    cells = (
        f"[{name}](runbook.md#{name.lower()})",
        rule["labels"]["severity"],
        rule.get("for", ""),
        " ".join(sorted(windows)),
        meaning,
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    pages = {_METRICS: _metrics(), _MONITORING: _monitoring()}
    sys.exit(write_or_check(pages, "make docs"))
