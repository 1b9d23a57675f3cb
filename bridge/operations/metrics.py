"""
The metrics: one collector that reads annotated statistics (see `bridge.metric`).

Numbers are read when they are requested; nothing runs otherwise. Each label has few
values: never a request id. Other threads write meanwhile: numbers are read once,
mappings and lists are copied before they are read.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

import bridge
from bridge.metric import Metric, metrics_of
from bridge.operations.health import Sources


__all__ = ["Metrics"]

_UNITS = ("seconds", "bytes")

# Values by those of their labels: numbers, or histograms.
_Samples: TypeAlias = dict[tuple[str, ...], Any]


class Metrics:
    """
    The bridge's registry and its two text formats.

    Args:
        sources: The statistics to read.
    """

    def __init__(self, sources: Sources) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Statistics(sources))
        # Nothing on macOS, where /proc is missing.
        ProcessCollector(registry=self._registry)

    def read(self, accept: str = "") -> tuple[Callable[[], bytes], str]:
        """
        Read all statistics, now.

        Args:
            accept: The request's `Accept` header: OpenMetrics if it asks for
                that, else Prometheus' own text format.

        Returns:
            A function that encodes them, which takes longer and may run in any thread;
            and the content type.
        """
        encode, content_type = choose_encoder(accept)
        return partial(encode, _Reading(list(self._registry.collect()))), content_type


class _Reading(CollectorRegistry):
    """What was read, in a registry's place."""

    def __init__(self, families: Sequence[Family]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Family]:
        """Yield it."""
        yield from self._families


class _Statistics(Collector):
    """Reads all statistics, and adds up the samples that have the same labels."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Family]:
        """Yield every metric of the bridge, read now."""
        yield InfoMetricFamily(
            "bridge_build",
            "The running version.",
            value={
                "version": bridge.__version__,
                "python": platform.python_version(),
            },
        )
        found: dict[str, tuple[Metric, tuple[str, ...], _Samples]] = {}
        for labels, statistics in self._sources.labeled():
            for name, metric in metrics_of(statistics.__class__):
                names = (*labels, *metric.labels, *metric.fixed)
                _, _, samples = found.setdefault(metric.name, (metric, names, {}))
                value = getattr(statistics, name)
                # The copy first: another thread may add a key meanwhile.
                values = dict(value) if metric.labels else {(): value}
                before, after = tuple(labels.values()), tuple(metric.fixed.values())
                for key, one in values.items():
                    parts = key if isinstance(key, tuple) else (key,)
                    given = before + parts + after
                    if given in samples:
                        samples[given] += one
                    elif one is not None:
                        samples[given] = one
        for metric, names, samples in found.values():
            yield _family(metric, names, samples)


def _family(metric: Metric, names: tuple[str, ...], samples: _Samples) -> Family:
    unit = metric.name.rpartition("_")[2]
    given = metric.name, metric.help
    options: Any = {"labels": names, "unit": unit if unit in _UNITS else ""}
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(*given, **options)
        for labels, value in samples.items():
            bounds = [*(repr(float(bound)) for bound in value.bounds), "+Inf"]
            # The copy first: buckets that grow meanwhile would not add up.
            counts = accumulate(list(value.counts))
            buckets = list(zip(bounds, counts, strict=True))
            histogram.add_metric(labels, buckets, value.sum)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = kind(*given, **options)
    for labels, value in samples.items():
        family.add_metric(labels, value / metric.divisor)
    return family
