"""
A clock for how long webhooks are held: it tells the time, and never jumps.

The wall clock is set by others, some seconds or hours at once; what was to be held for
ten seconds would be released at once, or after hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio


__all__ = ["steady_clock"]

_US_PER_SECOND: Final = 1_000_000
_NS_PER_US: Final = 1000


def steady_clock(
    now_ns: Callable[[], int] = time.time_ns,
) -> Callable[[], int]:
    """
    Make a clock that goes on from the wall clock's time of now; within trio's run.

    Args:
        now_ns: The wall clock, nanoseconds since the epoch; asked once.

    Returns:
        The clock: microseconds since the epoch, as if the wall clock were never set.
    """
    begun_us, begun = now_ns() // _NS_PER_US, trio.current_time()

    def now_us() -> int:
        return begun_us + int((trio.current_time() - begun) * _US_PER_SECOND)

    return now_us
