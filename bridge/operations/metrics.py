"""
The metrics: their registry, and how they are written down.

Numbers are read when somebody asks; nothing here runs otherwise, and no room
knows of Prometheus. Every label has few values: never a request id. Which metrics
there are stands here and in the modules that end in `_metrics`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import bridge
from bridge.errors import DeadLetterReason
from bridge.operations.account_metrics import of_gaps, of_intakes, of_sessions
from bridge.operations.families import counts, gauge, gauges
from bridge.operations.healing_metrics import of_healing
from bridge.operations.outbox_metrics import of_outbox
from bridge.operations.relay_metrics import of_relay
from bridge.operations.sources import LoopStatistics, RelayStatistics, Sources


__all__ = ["Metrics"]


class Metrics:
    """
    The bridge's registry and its two text formats.

    Args:
        sources: The statistics to read.
        now: Seconds since the epoch, for ages.
    """

    def __init__(
        self, sources: Sources, *, now: Callable[[], float] = time.time
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Bridge(sources, now))
        # Nothing on macOS, where /proc is missing.
        ProcessCollector(registry=self._registry)

    def register(self, collector: Collector) -> None:
        """
        Add the metrics of another room.

        Args:
            collector: Yields its metrics when it is asked, as `prometheus_client`
                defines it; called on the trio loop, so it must not block.
        """
        self._registry.register(collector)

    def read(self, accept: str = "") -> tuple[Callable[[], bytes], str]:
        """
        Read all statistics, now.

        Args:
            accept: The request's `Accept` header: OpenMetrics if it asks for
                that, else Prometheus' own text format.

        Returns:
            What writes them down, which takes seven times as long and may be called in
            any thread; and the content type.
        """
        encode, content_type = choose_encoder(accept)
        return partial(encode, _Reading(list(self._registry.collect()))), content_type

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Do both at once: give the body and its content type, as `read` does."""
        write, content_type = self.read(accept)
        return write(), content_type


class _Reading(CollectorRegistry):
    """What was read, in a registry's place."""

    def __init__(self, families: Sequence[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Yield it."""
        yield from self._families


class _Bridge(Collector):
    """Reads the statistics of the bridge's own rooms."""

    def __init__(self, sources: Sources, now: Callable[[], float]) -> None:
        self._sources = sources
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the bridge, read now."""
        sources = self._sources
        yield InfoMetricFamily(
            "bridge_build",
            "The running version.",
            value={
                "version": bridge.__version__,
                "python": platform.python_version(),
            },
        )
        yield from of_sessions(list(sources.sessions))
        yield from of_intakes(list(sources.intakes))
        yield from _dead_letters(sources)
        yield from of_outbox(sources.outbox, self._now())
        yield from of_relay(sources.relay)
        yield from of_gaps(sources.gaps)
        yield from of_healing(sources.healing)
        yield from _loops(sources.loop, sources.relay)


def _dead_letters(sources: Sources) -> Iterator[Metric]:
    # Every reason from the start: a rate needs the zero before the first one.
    letters = dict.fromkeys(DeadLetterReason, 0)
    for intake in list(sources.intakes):
        for made in (intake.dead_letters, intake.preview_dead_letters):
            for reason, count in dict(made).items():
                letters[reason] += count
    letters[DeadLetterReason.AFTER_TERMINAL] += sources.outbox.late
    letters[DeadLetterReason.REFUSED_BY_BROKER] += sources.relay.dead_letters
    yield counts(
        "bridge_dlq_records",
        "Dead letters, by reason: events, and previews that go alone.",
        "reason",
        values=letters,
    )


def _loops(loop: LoopStatistics, relay: RelayStatistics) -> Iterator[Metric]:
    lag = gauges(
        "bridge_loop_lag_seconds",
        "The longest delay of a task on a loop during the last minute.",
        "loop",
    )
    lag.add_metric(["trio"], loop.lag_seconds)
    lag.add_metric(["kafka"], relay.lag_seconds)
    yield lag
    yield gauge(
        "bridge_loop_tasks",
        "Tasks on the trio loop; some for each account, and no more with time.",
        loop.tasks,
    )
