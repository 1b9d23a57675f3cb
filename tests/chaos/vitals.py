"""What a bridge takes of the machine: memory, descriptors, threads, tasks, rows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import psutil
import trio

from tests.kit.bridge_process import BridgeProcess
from tests.kit.process import ProcessError


MIB = 2**20

# Measured: under a steady load memory rises by 4 MiB within the first 80 s, while
# buffers, caches and partitions are used for the first time.
_WARM_SECONDS = 80.0

# Two loops' sockets, a pool's threads and calls of the status endpoint come and go: of
# so many samples, the least counts.
_LAST = 5
_FEW = 4

# Python's allocator gives memory back by the MiB. Fifty restarts of a leak that
# matters, a connection's buffers of 256 KiB, would be 12 MiB.
_FLAT_BYTES = 12 * MIB


@dataclass(frozen=True)
class Sample:
    """One look; what its health port didn't answer is None."""

    at: float
    pid: int
    rss_bytes: int
    descriptors: int
    threads: int
    tasks: int | None = None
    connects: int | None = None
    waiting: int | None = None

    def __str__(self) -> str:
        return (
            f"{self.rss_bytes / MIB:.1f} MiB, {self.descriptors} descriptors,"
            f" {self.threads} threads, {self.tasks} tasks"
        )


class Watch:
    """Samples of a bridge, at an interval."""

    def __init__(self, bridge: BridgeProcess, pause_seconds: float) -> None:
        self._bridge = bridge
        self._pause_seconds = pause_seconds
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Look at the bridge, if it lives, until cancelled."""
        while True:
            await self.look()
            await trio.sleep(self._pause_seconds)

    async def look(self) -> Sample | None:
        """Look once; None if it has just died."""
        tasks = connects = waiting = None
        try:
            metrics = await self._bridge.metrics()
        except ProcessError:
            pass  # it was stopped, or has died
        else:
            tasks, waiting = metrics.total("bridge_loop_tasks"), metrics.waiting
            connects = metrics.total("bridge_connects_total", outcome="subscribed")
        try:
            process = psutil.Process(self._bridge.pid)
            with process.oneshot():
                rss, descriptors = process.memory_info().rss, process.num_fds()
                threads = process.num_threads()
        except (ProcessError, psutil.Error):
            return None
        own = time.time(), process.pid, rss, descriptors, threads
        self.samples.append(Sample(*own, tasks, connects, waiting))
        return self.samples[-1]


def lives(samples: Iterable[Sample]) -> list[tuple[Sample, list[Sample]]]:
    """Give the lives that outlast warming up: when warm, and the last looks."""
    found = []
    for _, group in groupby(samples, key=lambda sample: sample.pid):
        life = list(group)
        # One that is ending has closed its sockets, and answers no more.
        warm = [
            each
            for each in life
            if each.at - life[0].at >= _WARM_SECONDS and each.tasks is not None
        ]
        if warm:
            found.append((warm[0], warm[-_LAST:]))
    return found


def growth(
    first: Sample,
    last: Sequence[Sample],
    *,
    few: int = _FEW,
    flat_bytes: int = _FLAT_BYTES,
) -> Iterable[str]:
    """Name what a life has more of at its end than when it was warm."""
    for name in ("descriptors", "threads", "tasks"):
        # A leak is in all of the last ones.
        before, after = getattr(first, name), min(getattr(one, name) for one in last)
        if after > before + few:
            yield f"{name}: {before}, then {after}"
    end = last[-1]
    grown = end.rss_bytes - first.rss_bytes
    if grown > flat_bytes:
        yield f"memory grew by {grown / MIB:.1f} MiB in {end.at - first.at:.0f} s"
