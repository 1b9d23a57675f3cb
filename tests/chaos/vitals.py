"""What a bridge takes of the machine: memory, descriptors, threads and tasks.

Owns the samples and what is said of them. Each start of the bridge begins a life of
its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import psutil
import trio

from tests.kit.bridge_process import BridgeProcess
from tests.kit.process import ProcessError


__all__ = ["Life", "Vitals", "lives"]

_LOOK_SECONDS = 2.0

# Measured: under a steady load memory rises by 4 MiB within the first 80 s, while
# buffers, caches and lanes are used for the first time.
_WARM_SECONDS = 80.0

# Over less time a slope is noise.
_LEAST_SECONDS = 60.0

_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Vitals:
    """
    One look.

    Attributes:
        at: Seconds since the epoch.
        pid: Which life.
        rss_bytes: Resident memory.
        descriptors: Open files and sockets.
        threads: Threads.
        tasks: Tasks on its loop; None where it didn't say.
    """

    at: float
    pid: int
    rss_bytes: int
    descriptors: int
    threads: int
    tasks: int | None = None


@dataclass(frozen=True)
class Life:
    """
    A bridge from its start, or from when it was warm, to its end.

    Attributes:
        first: The first look.
        last: The last look.
        rss_bytes_per_hour: The slope of a line through all looks at its memory; None
            for a short life.
    """

    first: Vitals
    last: Vitals
    rss_bytes_per_hour: float | None

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.last.at - self.first.at


async def watch(bridge: BridgeProcess, looks: list[Vitals]) -> None:
    """Look at a bridge every two seconds, if it lives, until cancelled."""
    while True:
        try:
            tasks = (await bridge.metrics()).total("bridge_loop_tasks")
        except ProcessError:
            tasks = None  # it was stopped, or has died
        try:
            process = psutil.Process(bridge.pid)
            with process.oneshot():
                look = Vitals(
                    time.time(),
                    process.pid,
                    process.memory_info().rss,
                    process.num_fds(),
                    process.num_threads(),
                    tasks,
                )
            looks.append(look)
        except (ProcessError, psutil.Error):
            pass  # it has just died
        await trio.sleep(_LOOK_SECONDS)


def lives(looks: Iterable[Vitals]) -> list[Life]:
    """Tell the lives that lasted longer than it takes to get warm."""
    found = []
    for _, group in groupby(looks, key=lambda look: look.pid):
        life = list(group)
        warm = [look for look in life if look.at - life[0].at >= _WARM_SECONDS]
        if warm:
            found.append(Life(warm[0], warm[-1], _slope_per_hour(warm)))
    return found


def _slope_per_hour(looks: Sequence[Vitals]) -> float | None:
    """Fit a line by least squares."""
    begin = looks[0].at
    if looks[-1].at - begin < _LEAST_SECONDS:
        return None
    mean_at = sum(look.at - begin for look in looks) / len(looks)
    mean_rss = sum(look.rss_bytes for look in looks) / len(looks)
    offsets = [(look.at - begin - mean_at, look.rss_bytes - mean_rss) for look in looks]
    slope = sum(x * y for x, y in offsets) / sum(x * x for x, _ in offsets)
    return slope * _SECONDS_PER_HOUR
