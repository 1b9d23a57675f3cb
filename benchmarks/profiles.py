"""
What a bridge's CPU went into: two samplers and the system's own clock put together.

The clock says what a thread takes for an event, in runs that nobody looked into. perf
says which part of it is the kernel's or SQLite's; the rest holds the interpreter's
lock, and is dealt to Python's functions as py-spy met them. Owns that arithmetic, and
the file in which a profile is kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property

import msgspec

from benchmarks.machine import Machine
from benchmarks.measuring import MAIN_THREAD
from benchmarks.rooms import UNLOCKED, beyond_loops
from benchmarks.sampling import KERNEL, Samples


__all__ = ["THREADS", "Counts", "Profile", "counted"]

THREADS = {
    MAIN_THREAD: "reader",
    "outbox": "outbox's thread",
    "kafka": "Kafka's thread",
}
"""The bridge's threads, and what they are called in reports."""

# Functions are frames of `function (file:line)`; no name of one has this in it.
_BETWEEN = ";"

Counts = dict[str, dict[str, int]]
"""Samples as they are kept: by thread, each stack folded into one line."""


@dataclass(frozen=True)
class Profile:
    """
    Where a bridge's CPU went in runs of one kind.

    Attributes:
        machine: Where.
        moment: When, in UTC.
        rate: Events a second; None for a flood.
        events: Of one run.
        event_bytes: How long an event is on the wire.
        preview_bytes: How long its preview is; 0 for none.
        load_average: Of the last minute, the highest before any run.
        cpu_us: By thread, CPU us an event in runs that nobody looked into: medians.
        watched_us: The same in those that were looked into.
        locked: Samples by py-spy of threads that held the interpreter's lock.
        processor: Samples by perf of threads that were running; none without perf.
        floors: CPU us of what an event needs at the least, step by step.
    """

    machine: Machine
    moment: str
    rate: float | None
    events: int
    event_bytes: int
    preview_bytes: int
    load_average: float
    cpu_us: dict[str, float]
    watched_us: dict[str, float]
    locked: Counts
    processor: Counts
    floors: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, text: bytes) -> Profile:
        """
        Read a profile that was kept.

        Raises:
            msgspec.DecodeError: It is none.
        """
        return msgspec.json.decode(text, type=cls)

    def json(self) -> str:
        """Write all that was measured."""
        return json.dumps(asdict(self), indent=1)

    @property
    def us(self) -> float:
        """CPU us an event of the bridge's threads."""
        return sum(self.cpu_us.get(thread, 0.0) for thread in THREADS)

    @cached_property
    def stacks(self) -> dict[str, dict[tuple[str, ...], float]]:
        """CPU us an event by thread and stack, of all that is known."""
        return {
            thread: {
                stack: share * self.cpu_us.get(thread, 0.0)
                for stack, share in self._shares(thread)
            }
            for thread in THREADS
        }

    @cached_property
    def libraries(self) -> dict[str, dict[str, float]]:
        """CPU us an event by thread and library, the kernel among them, by perf."""
        libraries: dict[str, dict[str, float]] = {}
        for thread in THREADS:
            seen = self.processor.get(thread, {})
            counts: Counter[str] = Counter()
            for line, count in seen.items():
                counts[line.split(_BETWEEN)[0]] += count
            libraries[thread] = {
                name: self.cpu_us.get(thread, 0.0) * count / counts.total()
                for name, count in counts.items()
            }
        return libraries

    def _shares(self, thread: str) -> Iterator[tuple[tuple[str, ...], float]]:
        """Give what part of a thread's CPU each stack has."""
        seen = self.processor.get(thread, {})
        unlocked = {
            stack: count / sum(seen.values())
            for line, count in seen.items()
            if (stack := _unlocked(line.split(_BETWEEN))) is not None
        }
        yield from unlocked.items()
        rest = 1.0 - sum(unlocked.values())
        stacks: Counter[tuple[str, ...]] = Counter()
        for line, count in self.locked.get(thread, {}).items():
            stacks[beyond_loops(tuple(line.split(_BETWEEN)))] += count
        for stack, count in stacks.items():
            yield stack, rest * count / stacks.total()


def _unlocked(frames: list[str]) -> tuple[str, ...] | None:
    if frames[0] == KERNEL:
        return tuple(frames)
    name = UNLOCKED.get(frames[0])
    return None if name is None else (name,)


def counted(samples: Samples) -> Counts:
    """Fold samples as a profile keeps them, the most frequent first."""
    return {
        thread: {
            _BETWEEN.join(stack): count
            for stack, count in sorted(
                stacks.items(), key=lambda item: (-item[1], item[0])
            )
        }
        for thread, stacks in samples.items()
        if thread in THREADS
    }
