"""
How a metric is put together, for Prometheus' client.

Which metrics there are stands in the modules that use this one: a name says its unit
as its last word, and what is written tells the unit by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric

from bridge.operations.sources import Histogram


__all__ = [
    "US_PER_SECOND",
    "counter",
    "counters",
    "counts",
    "gauge",
    "gauges",
    "histogram",
    "histograms",
    "levels",
]

US_PER_SECOND = 1_000_000

_UNITS = ("seconds", "bytes")


def counter(name: str, text: str, value: float) -> Metric:
    """Give a counter without labels; Prometheus' client adds `_total`."""
    return CounterMetricFamily(name, text, value=value, unit=_unit(name))


def counters(name: str, text: str, *labels: str) -> CounterMetricFamily:
    """Give a counter whose samples, with these labels, are still to be added."""
    return CounterMetricFamily(name, text, labels=labels, unit=_unit(name))


def counts(
    name: str, text: str, *labels: str, values: Mapping[Any, float]
) -> CounterMetricFamily:
    """Give a counter whose labels' values are a mapping's keys: see `_fill`."""
    metric = counters(name, text, *labels)
    _fill(metric, values)
    return metric


def gauge(name: str, text: str, value: float) -> Metric:
    """Give a gauge without labels."""
    return GaugeMetricFamily(name, text, value=value, unit=_unit(name))


def gauges(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """Give a gauge whose samples, with these labels, are still to be added."""
    return GaugeMetricFamily(name, text, labels=labels, unit=_unit(name))


def levels(
    name: str, text: str, *labels: str, values: Mapping[Any, float]
) -> GaugeMetricFamily:
    """Give a gauge whose labels' values are a mapping's keys: see `_fill`."""
    metric = gauges(name, text, *labels)
    _fill(metric, values)
    return metric


def histogram(name: str, text: str, values: Histogram) -> Metric:
    """Give a histogram without labels."""
    metric = HistogramMetricFamily(name, text, unit=_unit(name))
    metric.add_metric([], _buckets(values), values.sum)
    return metric


def histograms(
    name: str, text: str, label: str, values: Mapping[str, Histogram]
) -> Metric:
    """Give a histogram with one label, whose values are a mapping's keys."""
    metric = HistogramMetricFamily(name, text, labels=[label], unit=_unit(name))
    for value, distribution in values.items():
        metric.add_metric([value], _buckets(distribution), distribution.sum)
    return metric


def _fill(
    metric: CounterMetricFamily | GaugeMetricFamily, values: Mapping[Any, float]
) -> None:
    """Add a sample for each key, a tuple where there are several labels."""
    # The copy first: another thread may add a key meanwhile.
    for key, value in dict(values).items():
        parts = key if isinstance(key, tuple) else (key,)
        metric.add_metric([str(part) for part in parts], value)


def _buckets(values: Histogram) -> Sequence[tuple[str, float]]:
    # The copy first: buckets that grow while they are added up would not add up.
    copied = list(values.counts)
    bounds = [*(repr(float(bound)) for bound in values.bounds), "+Inf"]
    return list(zip(bounds, accumulate(copied), strict=True))


def _unit(name: str) -> str:
    last = name.rpartition("_")[2]
    return last if last in _UNITS else ""
