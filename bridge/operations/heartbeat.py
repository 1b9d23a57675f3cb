"""
The trio loop's pulse: a task that wakes once a second and notes how late.

Threads of other rooms note their own beats; what is too late is judged in
`health`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import trio


__all__ = ["LoopHeartbeat"]

_INTERVAL_SECONDS = 1.0

# A minute of beats: longer than the usual scrape interval of 15 to 60 s, so
# that a stall between two scrapes is seen by the second one.
_BEATS_KEPT = 60


class LoopHeartbeat:
    """
    Measures the trio loop; `beat` runs as a task of it.

    Args:
        clock: Monotonic seconds, the same clock as that of `Health`.

    Attributes:
        last_beat: When it beat last.
        tasks: How many tasks lived then.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lags: deque[float] = deque([0.0], maxlen=_BEATS_KEPT)
        self.last_beat: float | None = None
        self.tasks = 0

    @property
    def lag_seconds(self) -> float:
        """The longest delay of a beat during the last minute."""
        return max(self._lags)

    async def beat(self) -> None:
        """
        Beat until cancelled.

        A lag is the time between the moment that a beat was due and the moment
        that the loop came to it: what any other task would have waited, too.
        """
        while True:
            self.last_beat = self._clock()
            self.tasks = trio.lowlevel.current_statistics().tasks_living
            await trio.sleep(_INTERVAL_SECONDS)
            late = self._clock() - self.last_beat - _INTERVAL_SECONDS
            self._lags.append(max(0.0, late))
