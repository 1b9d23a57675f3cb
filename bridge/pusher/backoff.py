"""
How long to wait before the next connect.

Verdicts come from `closing`; here they become seconds. The promises: the first
retry goes out at once where the server's code allows it; for the first half
minute of an outage no wait is longer than two seconds, so that a server that
was restarted is found quickly; after that waits double up to the cap; and no
ten seconds see more than ten connects, whatever happens.

No clock of its own: every moment is given by the caller, in seconds of one
monotonic clock.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from bridge.pusher.closing import Verdict


__all__ = ["Backoff"]

# Of the two seconds within which a returned server is to be found, two tenths
# are left for connecting, authorising and subscribing.
_SHORT_CAP_SECONDS: Final = 1.8
_SHORT_OUTAGE_SECONDS: Final = 30.0

# Jitter takes up to a quarter off. With the cap above, that alone keeps ten
# seconds of immediate refusals at ten connects: at 0, 0, 0.4, 1.1, 2.5, ... s.
_LEAST_SHARE: Final = 0.75

# Pusher protocol, 4100-4199: wait at least a second.
_LATER_SECONDS: Final = 1.0

# A pace that no operator minds, when only a person can change the answer.
_SLOWLY_SECONDS: Final = 30.0

_MOST_CONNECTS: Final = 10
_WINDOW_SECONDS: Final = 10.0


class Backoff:
    """
    The waits of one session.

    Args:
        initial_seconds: The first wait after the immediate retry.
        max_seconds: The longest wait, once an outage is older than 30 s.
        jitter: Where chance comes from.
    """

    def __init__(
        self, initial_seconds: float, max_seconds: float, jitter: random.Random
    ) -> None:
        self._initial_seconds = initial_seconds
        self._max_seconds = max_seconds
        self._jitter = jitter
        self._next_seconds = initial_seconds
        self._at_once = True
        self._connects: deque[float] = deque(maxlen=_MOST_CONNECTS)

    def reset(self) -> None:
        """Begin again: a connection was up long enough to be called stable."""
        self._next_seconds = self._initial_seconds
        self._at_once = True

    def connecting(self, now: float) -> None:
        """Note that a connect goes out."""
        self._connects.append(now)

    def delay(self, verdict: Verdict, *, now: float, outage_since: float) -> float:
        """
        Say how long to wait.

        Args:
            verdict: What the end of the last connection meant.
            now: This moment.
            outage_since: Since when nothing is subscribed.

        Returns:
            Seconds until the next connect may go out.
        """
        if verdict in {Verdict.RETRY_NOW, Verdict.USE_TLS}:
            if self._at_once:
                self._at_once = False
                return self._within_limit(0.0, now)
            seconds = self._double(now - outage_since)
        elif verdict is Verdict.RETRY_LATER:
            least = _LATER_SECONDS / _LEAST_SHARE
            seconds = max(least, self._double(now - outage_since))
        else:
            seconds = max(_SLOWLY_SECONDS, self._max_seconds)
        self._at_once = False
        share = self._jitter.uniform(_LEAST_SHARE, 1.0)
        return self._within_limit(seconds * share, now)

    def _double(self, outage_seconds: float) -> float:
        cap = self._max_seconds
        if outage_seconds < _SHORT_OUTAGE_SECONDS:
            cap = min(cap, _SHORT_CAP_SECONDS)
        seconds = min(self._next_seconds, cap)
        self._next_seconds = seconds * 2
        return seconds

    def _within_limit(self, seconds: float, now: float) -> float:
        if len(self._connects) < _MOST_CONNECTS:
            return seconds
        return max(seconds, self._connects[0] + _WINDOW_SECONDS - now)
