"""Reads OpenMetrics back, with Prometheus' own strict parser."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families


def families(text: str) -> dict[str, Metric]:
    """Parse a text in which each family must occur once, by its name."""
    parsed: Iterable[Metric] = text_string_to_metric_families(  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        text
    )
    return {family.name: family for family in parsed}
