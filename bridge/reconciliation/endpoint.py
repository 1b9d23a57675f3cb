"""
Whether the status endpoint answers, as far as one token's calls tell.

Owns the lines in the log about it: one when it ceases to, and one when it does again.
"""

from __future__ import annotations

from typing import Final

import structlog

from bridge.reconciliation.client import Answer, Outcome


__all__ = ["Endpoint"]

_log = structlog.get_logger("bridge.reconciliation")

# One call may meet a broken connection, and two a restart: that is no news.
_AWAY_AFTER: Final = 3


class Endpoint:
    """
    What the last calls with one token say of the endpoint.

    Attributes:
        unanswered_since: When the first call failed of those that no answer came
            after, by the clock of `heard`; None while it answers.
        is_refused: Whether it refuses the token.
    """

    def __init__(self) -> None:
        self.unanswered_since: float | None = None
        self.is_refused = False
        self._failures = 0
        self._away_since: float | None = None

    def heard(self, client_id: str, answer: Answer, at: float) -> None:
        """
        Note what came of a call.

        Args:
            client_id: For whom it was asked.
            answer: What came.
            at: Now.
        """
        if answer.outcome in {Outcome.ANSWERED, Outcome.NOT_FOUND}:
            self._answered(at)
            return
        if self.unanswered_since is None:
            self.unanswered_since = at
        if answer.outcome is Outcome.REFUSED:
            self._refused(client_id, answer)
        elif answer.outcome is Outcome.FAILED:
            self._failed(answer, at)

    def begin_again(self, at: float) -> None:
        """
        Let the time in which nothing was answered begin now, if it has begun.

        Args:
            at: Now.
        """
        if self.unanswered_since is not None:
            self.unanswered_since = at

    def _answered(self, at: float) -> None:
        if self._away_since is not None:
            _log.info(
                "reconciliation.back", away_seconds=round(at - self._away_since, 1)
            )
        elif self.is_refused:
            _log.info("reconciliation.back")
        self.unanswered_since = self._away_since = None
        self.is_refused = False
        self._failures = 0

    def _failed(self, answer: Answer, at: float) -> None:
        self._failures += 1
        if self._failures == _AWAY_AFTER:
            self._away_since = self.unanswered_since or at
            _log.warning("reconciliation.away", reason=answer.reason)

    def _refused(self, client_id: str, answer: Answer) -> None:
        if not self.is_refused:
            self.is_refused = True
            _log.warning(
                "reconciliation.refused",
                client_id=client_id,
                reason=answer.reason,
            )
