"""
How long dryAPI has refused a session, and when that is final.

A session that was never subscribed is refused for good by the first refusal: a
setting is wrong. One that has worked is refused for good when that lasted for
`pusher.refused_timeout_seconds`: an incident, or a deployment that answers 401 for
some minutes, ends no process.

The first refusal starts the time, a subscription ends it. What else goes wrong in
between (a reset, a server that can't be reached) neither ends nor proves a refusal:
the time goes on, but two refusals in a row are needed for a final one. So a network
that fails for an hour between a refusal and the next ends nothing, and an incident
with refusals and resets mixed ends the session as soon as it is refused twice after
the time.
"""

from __future__ import annotations

from bridge.pusher.statistics import Statistics


__all__ = ["Refusal"]


class Refusal:
    """
    One session's refusal.

    Args:
        timeout_seconds: How long a session that has worked is refused before that
            is final.
        statistics: Where health reads of it.

    Attributes:
        is_final: Whether a refusal was final and nothing was subscribed since.
    """

    def __init__(self, timeout_seconds: float, statistics: Statistics) -> None:
        self._timeout_seconds = timeout_seconds
        self._statistics = statistics
        self._worked = False
        self._since: float | None = None
        self._in_a_row = False
        self.is_final = False

    def worked(self) -> None:
        """Note a subscription."""
        self._worked = True
        self._since = None
        self._in_a_row = False
        self.is_final = False
        self._statistics.refused_reason = None

    def failed(self) -> None:
        """Note an end that is no refusal."""
        self._in_a_row = False

    def refused(self, reason: str, now: float) -> bool:
        """
        Note a refusal.

        Args:
            reason: A sentence for health.
            now: When, monotonic.

        Returns:
            Whether it is final: once it is, each further one is.
        """
        self._statistics.refused_reason = reason
        if self._since is None:
            self._since = now
            self._in_a_row = True
        lasts = self._in_a_row and now - self._since >= self._timeout_seconds
        self._in_a_row = True
        self.is_final = self.is_final or not self._worked or lasts
        return self.is_final
