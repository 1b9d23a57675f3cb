"""
The metric of a statistic: an annotation of an attribute, or of a property's result.

    accepted: Annotated[int, counter("bridge_outbox_accepted", "Accepted records.")] = 0

The value is a number, or None for no sample; of a histogram it has `bounds`, `counts`
(one more, each of its bucket only) and `sum`. With labels it is a mapping of such
values: a key is the label's value, or a tuple of several. An attribute may have several
metrics, and a metric several attributes: samples with the same labels add up.

`bridge.operations.metrics` reads them all. Only it imports Prometheus' client.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_type_hints

import msgspec


__all__ = ["Metric", "counter", "gauge", "histogram", "metrics_of"]


class Metric(msgspec.Struct, frozen=True):
    """
    A metric.

    Attributes:
        kind: Its type for Prometheus.
        name: Its name, without `_total`; the last word may be a unit.
        help: What it counts or shows, in a sentence.
        labels: The labels of a mapping's keys.
        fixed: Labels with one value for all samples of the statistic.
        divisor: The value is divided by it, to convert it to the metric's unit.
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    fixed: dict[str, str] = msgspec.field(default_factory=dict)
    divisor: int = 1

    def of(self, **fixed: str) -> Metric:
        """Return it for a statistic for which some labels have one value."""
        labels = tuple(one for one in self.labels if one not in fixed)
        return msgspec.structs.replace(self, labels=labels, fixed=fixed)


def counter(name: str, text: str, *labels: str) -> Metric:
    """Return the metric of a number that only grows."""
    return Metric("counter", name, text, labels)


def gauge(name: str, text: str, *labels: str, divisor: int = 1) -> Metric:
    """Return the metric of a number that rises and falls."""
    return Metric("gauge", name, text, labels, divisor=divisor)


def histogram(name: str, text: str, *labels: str) -> Metric:
    """Return the metric of a distribution."""
    return Metric("histogram", name, text, labels)


@cache
def metrics_of(kind: type) -> tuple[tuple[str, Metric], ...]:
    """Return the metrics of a class, each with its attribute's name."""
    hints = get_type_hints(kind, include_extras=True)
    for name, member in vars(kind).items():
        if isinstance(member, property):
            hints |= {name: get_type_hints(member.fget, include_extras=True)["return"]}
    return tuple(
        (name, metric)
        for name, hint in hints.items()
        for metric in getattr(hint, "__metadata__", ())
        if isinstance(metric, Metric)
    )
