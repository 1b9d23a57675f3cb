"""What was done to the bridge and to everything around it, and when.

Owns the names of faults, the causes of gaps that each may bring about, and the log.
How a fault is brought about is for `soak_faults`, `restarts` and `healing_faults`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


__all__ = ["EXPLAINS", "Fault", "FaultLog"]

EXPLAINS = {
    "soketi terminated": {"disconnected", "deaf"},
    "soketi killed": {"disconnected", "deaf"},
    "soketi paused": {"disconnected", "deaf"},
    "cable reset": {"disconnected"},
    "cable lost": {"disconnected", "deaf"},
    "cable stopped up": {"disconnected", "deaf"},
    "cable cut": {"disconnected", "deaf"},
    # It is slower than that of a satellite, and breaks nothing.
    "cable slow": set[str](),
    "bridge killed": {"crashed"},
    "bridge terminated": {"stopped"},
    "bridge paused": {"suspended", "disconnected", "deaf"},
    # A start that the auth endpoint refuses ends by design, and is started again.
    "bridge ended": {"stopped", "crashed"},
    # Kafka's faults cost no event.
    "kafka killed": set[str](),
    "kafka stopped": set[str](),
    "kafka paused": set[str](),
    # It keeps a session away that something else has ended.
    "auth 500": {"refused"},
    "auth 401": {"refused"},
    "auth 403": {"refused"},
    # It tells of jobs, and brings no event.
    "status endpoint failing": set[str](),
}
"""The causes of gaps that each kind of fault may bring about."""


@dataclass
class Fault:
    """
    One fault that happened; times are seconds since the epoch.

    Attributes:
        kind: Its name, of `EXPLAINS`.
        begun: When it began.
        ended: When everything was as before; None while it lasts.
        up: When the server accepted connections again, where that was looked for.
    """

    kind: str
    begun: float
    ended: float | None = None
    up: float | None = None


class FaultLog:
    """
    What happened when.

    Args:
        say: Takes a line about each fault.

    Attributes:
        faults: All, in the order in which they began.
        findings: What the bridge did that nothing explains.
    """

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        self.faults: list[Fault] = []
        self.findings: list[str] = []
        self._say = say

    @contextmanager
    def during(self, kind: str) -> Iterator[Fault]:
        """Note a fault that lasts as long as the block."""
        assert kind in EXPLAINS
        fault = Fault(kind, time.time())
        self.faults.append(fault)
        self._say(f"{kind} ...")
        try:
            yield fault
        finally:
            fault.ended = time.time()
            self._say(f"... {kind}, for {fault.ended - fault.begun:.1f} s")

    def under_way(self, kind: str, within_seconds: float) -> bool:
        """Tell whether such a fault lasts, or has lasted until a moment ago."""
        least = time.time() - within_seconds
        return any(
            each.kind == kind and (each.ended is None or each.ended >= least)
            for each in self.faults
        )
