"""
Finds the times in which the whole process stood still.

A process can be stopped (SIGSTOP, a frozen container), a laptop can sleep, and a
loop can be blocked by one long computation. For the sessions these are one thing:
nobody read the sockets. A beat that comes too late shows it afterwards. What a
session makes of it is `continuity`'s business.

The clock decides what is found. A loop's own clock stands while a laptop sleeps,
so the beats are measured with one that goes on: `CLOCK_BOOTTIME` on Linux;
`CLOCK_MONOTONIC` on macOS, which counts sleep there, unlike the clock of the same
name on Linux. Elsewhere sleep isn't seen, and the lost connection tells of it. The
wall clock is not asked: it jumps when it is set, and nobody stood still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import structlog
import trio


__all__ = ["Stalls"]

# From one beat to the next: short against what counts as late.
_BEAT_SECONDS: Final = 0.25

# A beat so late means a stall. A busy loop is some tenths of a second late, and
# nothing is lost by that: a deadline of seconds hangs on nothing shorter.
_LATE_SECONDS: Final = 1.0

# Not a function around it: it is asked once for each run of messages.
_clock: Final[Callable[[], float]] = partial(
    time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
)

_log = structlog.get_logger("bridge.pusher")


class Stalls:
    """
    Watches one process for all its sessions.

    Nothing is found while `run` doesn't run.

    Args:
        clock: Seconds, of a clock that goes on while the process stands still.

    Attributes:
        count: How many stalls there were.
        last_seconds: How long the last one was.
    """

    def __init__(self, clock: Callable[[], float] = _clock) -> None:
        self._clock = clock
        self._beaten_at: float | None = None
        self._watchers: dict[object, Callable[[], None]] = {}
        self.count = 0
        self.last_seconds = 0.0

    async def run(self) -> None:
        """Beat until cancelled."""
        self._beaten_at = self._clock()
        try:
            while True:
                await trio.sleep(_BEAT_SECONDS)
                self.look()
        finally:
            self._beaten_at = None

    def look(self) -> None:
        """
        Find a stall that has just ended, and tell whoever watches.

        After a stall the readers of sockets may wake before the beat does. They
        call this before they take anything for read in time: it costs one look
        at a clock.
        """
        beaten_at = self._beaten_at
        if beaten_at is None:
            return
        now = self._clock()
        if now - beaten_at < _BEAT_SECONDS:
            return
        self._beaten_at = now
        if now - beaten_at > _BEAT_SECONDS + _LATE_SECONDS:
            self.count += 1
            self.last_seconds = now - beaten_at
            _log.warning("process.stalled", seconds=round(self.last_seconds, 1))
            for tell in list(self._watchers.values()):
                tell()

    @contextmanager
    def watched(self, tell: Callable[[], None]) -> Iterator[None]:
        """
        Have stalls told.

        Args:
            tell: Called right after each; must return at once and not raise.
        """
        key = object()
        self._watchers[key] = tell
        try:
            yield
        finally:
            del self._watchers[key]
