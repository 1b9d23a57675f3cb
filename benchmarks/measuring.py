"""
What a run costs, read from the operating system.

Owns CPU time and memory of processes, and how much of the machine others used in
the meantime: on a busy machine absolute figures mean little, and the reader of a
report should see it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil


__all__ = ["MAIN_THREAD", "Meter", "Usage"]

# What a process's first thread is called here; others have the name that the
# process gave them.
MAIN_THREAD = "main"


@dataclass(frozen=True)
class Usage:
    """
    What was used between a meter's start and a reading.

    Attributes:
        cpu_seconds: User and system time of the contender's processes; the system
            counts it in steps of 10 ms.
        others_cores: How many cores, on average, were busy with processes that
            have no part in the benchmark.
        rest_bytes: The contender's resident memory at the start.
        peak_bytes: The largest that was seen.
        thread_seconds: The CPU time by thread; without those that have ended.
    """

    cpu_seconds: float
    others_cores: float
    rest_bytes: int
    peak_bytes: int
    thread_seconds: Mapping[str, float] = field(default_factory=dict)


class Meter:
    """
    Measures a contender from now on.

    Args:
        contender: The process that is measured, with its children.
        helpers: The other processes of the benchmark; this one is added.
    """

    def __init__(self, contender: int, helpers: Iterable[int]) -> None:
        self._contender = psutil.Process(contender)
        self._helpers = [psutil.Process(pid) for pid in (*helpers, os.getpid())]
        self._rest_bytes = self._peak_bytes = self._resident_bytes()
        self._cpu_seconds = self._contender_seconds()
        self._helpers_seconds = self._helper_seconds()
        self._thread_seconds = self._threads()
        self._machine_seconds, self._idle_seconds = _machine()

    def look(self) -> None:
        """Take notice of the memory; call it now and then."""
        self._peak_bytes = max(self._peak_bytes, self._resident_bytes())

    def read(self) -> Usage:
        """Tell what was used until now."""
        self.look()
        cpu_seconds = self._contender_seconds() - self._cpu_seconds
        helpers_seconds = self._helper_seconds() - self._helpers_seconds
        threads = {
            name: seconds - self._thread_seconds.get(name, 0.0)
            for name, seconds in self._threads().items()
        }
        machine, idle = _machine()
        machine, idle = machine - self._machine_seconds, idle - self._idle_seconds
        wall_seconds = machine / (os.cpu_count() or 1)
        others_seconds = machine - idle - cpu_seconds - helpers_seconds
        return Usage(
            cpu_seconds=cpu_seconds,
            others_cores=max(others_seconds / wall_seconds, 0.0),
            rest_bytes=self._rest_bytes,
            peak_bytes=self._peak_bytes,
            thread_seconds=threads,
        )

    def _family(self) -> list[psutil.Process]:
        return [self._contender, *self._contender.children(recursive=True)]

    def _resident_bytes(self) -> int:
        return sum(process.memory_info().rss for process in self._family())

    def _contender_seconds(self) -> float:
        return sum(map(_seconds, self._family()))

    def _threads(self) -> dict[str, float]:
        seconds: defaultdict[str, float] = defaultdict(float)
        pid = self._contender.pid
        for thread in self._contender.threads():
            name = MAIN_THREAD if thread.id == pid else _thread_name(pid, thread.id)
            seconds[name] += thread.user_time + thread.system_time
        return seconds

    def _helper_seconds(self) -> float:
        return sum(map(_seconds, self._helpers))


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _thread_name(pid: int, thread: int) -> str:
    try:
        return Path(f"/proc/{pid}/task/{thread}/comm").read_text().strip()
    except OSError:
        return "other"  # it has just ended, or this isn't Linux


def _machine() -> tuple[float, float]:
    """Give the seconds of all cores since the start, and the idle ones of them."""
    times = psutil.cpu_times()
    # Linux counts a guest's time in `user` as well.
    doubled = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return sum(times) - doubled, times.idle + getattr(times, "iowait", 0.0)
