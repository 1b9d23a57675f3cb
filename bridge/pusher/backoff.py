"""
How long to wait before the next connection.

Actions come from `close_codes`; here they become seconds. The first retry follows at
once where the server's code allows it. For the first half minute of an outage no wait
is longer than two seconds, so that a server that was restarted is found quickly; after
that waits double up to the cap. A `Retry-After` is honored.

No clock of its own: the caller gives each moment, in seconds of one monotonic clock.
"""

from __future__ import annotations

import random
from typing import Final

from bridge.pusher.close_codes import Action


__all__ = ["Backoff"]

# Of the two seconds within which a returned server is to be found, two tenths
# are left for connecting, authorizing and subscribing.
_SHORT_CAP_SECONDS: Final = 1.8
_SHORT_OUTAGE_SECONDS: Final = 30.0

# Jitter takes up to a quarter off. With the cap above, ten seconds of immediate
# refusals see at most ten connects: at 0, 0, 0.4, 1.1, 2.5, ... s.
_LEAST_SHARE: Final = 0.75

# Pusher protocol, 4100-4199: wait at least a second.
_LATER_SECONDS: Final = 1.0

# A rate that no server minds, when only an operator can change the answer.
_SLOWLY_SECONDS: Final = 30.0


class Backoff:
    """
    The waits of one session.

    Args:
        initial_seconds: The first wait after the immediate retry.
        max_seconds: The longest wait, once an outage is older than 30 s.
        spread_seconds: Waits that many sessions of a process begin in the same moment
            (a server restarts, or asks all to retry later) are spread over this.
        jitter: The source of randomness.
    """

    def __init__(
        self,
        initial_seconds: float,
        max_seconds: float,
        *,
        spread_seconds: float = 0.0,
        jitter: random.Random,
    ) -> None:
        self._initial_seconds = initial_seconds
        self._max_seconds = max_seconds
        self._spread_seconds = spread_seconds
        self._jitter = jitter
        self._next_seconds = initial_seconds
        self._at_once = True

    def reset(self) -> None:
        """Begin again: a connection was up long enough to be called stable."""
        self._next_seconds = self._initial_seconds
        self._at_once = True

    def spread(self) -> float:
        """Give a wait that spreads what all sessions would do in the same moment."""
        return self._jitter.uniform(0.0, self._spread_seconds)

    def delay(
        self,
        action: Action,
        *,
        outage_seconds: float,
        retry_after_seconds: float | None = None,
    ) -> float:
        """
        Give the seconds until the next connection.

        Args:
            action: What the end of the last connection meant.
            outage_seconds: For how long the account hasn't been subscribed.
            retry_after_seconds: How long the server asks to wait, if it does.
        """
        at_once, self._at_once = self._at_once, False
        if action in {Action.RETRY_NOW, Action.USE_TLS}:
            seconds = 0.0 if at_once else self._double(outage_seconds)
        elif action is Action.RETRY_LATER:
            least = _LATER_SECONDS / _LEAST_SHARE
            seconds = max(least, self._double(outage_seconds))
        else:
            seconds = max(_SLOWLY_SECONDS, self._max_seconds)
        seconds *= self._jitter.uniform(_LEAST_SHARE, 1.0)
        return max(seconds, retry_after_seconds or 0.0) + self.spread()

    def _double(self, outage_seconds: float) -> float:
        cap = self._max_seconds
        if outage_seconds < _SHORT_OUTAGE_SECONDS:
            cap = min(cap, _SHORT_CAP_SECONDS)
        seconds = min(self._next_seconds, cap)
        self._next_seconds = seconds * 2
        return seconds
