"""Looks at a running bridge every second: its memory, its log, its numbers.

Owns the samples and what is said about a span of them. Records' latencies are
computed here too, from when an event was emitted and when the broker appended it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import psutil
import trio

from tests.chaos.traffic import read_event
from tests.kit.bridge_process import BridgeProcess
from tests.kit.reader import Record


__all__ = ["Latency", "Sample", "Span", "Watch", "latency"]

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Sample:
    """
    One look.

    Attributes:
        at: Seconds since the epoch.
        rss_bytes: The process's resident memory.
        lines: Lines in its log.
        connects: How often it was subscribed.
        waiting: Rows in the outbox.
    """

    at: float
    rss_bytes: int
    lines: int
    connects: int
    waiting: int


@dataclass(frozen=True)
class Span:
    """From when to when something lasted, in seconds since the epoch."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.end - self.begin


class Watch:
    """
    The samples of one bridge.

    Args:
        bridge: The bridge, which runs as long as `run` does.

    Attributes:
        samples: All, in order.
    """

    def __init__(self, bridge: BridgeProcess) -> None:
        self._bridge = bridge
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Look until cancelled."""
        process = psutil.Process(self._bridge.pid)
        while True:
            await self.look(process)
            await trio.sleep(_LOOK_SECONDS)

    async def look(self, process: psutil.Process | None = None) -> Sample:
        """Look once more."""
        process = process or psutil.Process(self._bridge.pid)
        numbers = await self._bridge.metrics()
        sample = Sample(
            time.time(),
            process.memory_info().rss,
            self._bridge.all_output.count("\n"),
            numbers.total("bridge_connects_total", outcome="subscribed"),
            numbers.waiting,
        )
        self.samples.append(sample)
        return sample

    def within(self, span: Span) -> list[Sample]:
        """Give the samples of a span."""
        return [each for each in self.samples if span.begin <= each.at <= span.end]


@dataclass(frozen=True)
class Latency:
    """
    How long events took from their emission to the log, in seconds.

    Attributes:
        count: Of how many events.
        p50: Half of them took less.
        p99: All but one in a hundred did.
        longest: The longest.
    """

    count: int
    p50: float
    p99: float
    longest: float

    def __str__(self) -> str:
        return (
            f"{1000 * self.p50:,.0f} / {1000 * self.p99:,.0f} /"
            f" {1000 * self.longest:,.0f} ms"
        )


def latency(
    records: Iterable[Record], span: Span, partitions: Collection[int]
) -> Latency | None:
    """Tell the latency of events that were emitted within a span; None without any."""
    taken: list[float] = []
    for record in records:
        assert record.value is not None
        emitted_at = read_event(record.value).emitted_at
        if record.partition in partitions and span.begin <= emitted_at <= span.end:
            taken.append(record.timestamp / 1000 - emitted_at)
    if not taken:
        return None
    taken.sort()
    return Latency(len(taken), _share(taken, 0.5), _share(taken, 0.99), taken[-1])


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
