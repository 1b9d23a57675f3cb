"""
The hearing of one account: the gaps in which nobody heard it.

Owns when such a gap opens and closes: from a start, or an interruption, to the next
subscription. What an interruption is, is the session's to find; what the outbox gave
up of what was heard goes to the ledger without coming by here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from bridge.recovery.gap import GapCause
from bridge.recovery.ledger import Ledger


__all__ = ["Hearing", "Interruption"]

_log = structlog.get_logger("bridge.recovery")


class Interruption(Protocol):
    """What is read of an interval in which events may have been missed."""

    @property
    def cause(self) -> str:
        """Why: the value of a `GapCause`."""

    @property
    def since_us(self) -> int:
        """What was sent before this moment had arrived."""

    @property
    def until_us(self) -> int | None:
        """What is sent from then on arrives; None if a subscription is to tell."""

    @property
    def close_code(self) -> int | None:
        """What ended the connection, if a code did."""


class Hearing:
    """
    Tells the ledger when an account is not heard; a session's listener.

    At most one gap of it is open: whatever else interrupts an account that isn't
    heard lies in the same interval. It has no state beside the ledger's, so that it
    goes on with a gap that the process before left open.

    Args:
        client_id: Whose hearing.
        ledger: Where its gaps stand.
        jobs_in_flight: How many jobs are unfinished, if that is known; asked when a
            gap opens.
    """

    def __init__(
        self, client_id: str, ledger: Ledger, jobs_in_flight: Callable[[], int | None]
    ) -> None:
        self._client_id = client_id
        self._ledger = ledger
        self._jobs_in_flight = jobs_in_flight

    def begin(
        self,
        proved_us: int | None,
        was_stopped: bool,  # noqa: FBT001 - both are what `Memory` says
    ) -> None:
        """
        Open the gap of the start, unless the process before left one open.

        Args:
            proved_us: What was sent before had arrived and was on disk, as the process
                before proved; None if nothing is known of any.
            was_stopped: Whether that process ended in order.
        """
        if self._ledger.hearing_of(self._client_id) is not None:
            return
        if proved_us is None:
            self._open(GapCause.FIRST_START, None)
        else:
            self._open(GapCause.STOPPED if was_stopped else GapCause.CRASHED, proved_us)

    def subscribed(self, at_us: int) -> None:
        """
        Close the open gap: what is sent from now on arrives.

        Args:
            at_us: When the subscription's acknowledgement was read.
        """
        gap = self._ledger.hearing_of(self._client_id)
        if gap is not None:
            self._ledger.close(gap.gap_id, at_us)

    def interrupted(self, interruption: Interruption) -> None:
        """
        Open a gap, and close it at once if it is over already.

        Args:
            interruption: Since when, and why.
        """
        open_gap = self._ledger.hearing_of(self._client_id)
        if open_gap is not None:
            _log.debug("gap.goes_on", gap_id=open_gap.gap_id, cause=interruption.cause)
            return
        gap_id = self._open(
            GapCause(interruption.cause), interruption.since_us, interruption.close_code
        )
        if interruption.until_us is not None:
            self._ledger.close(gap_id, interruption.until_us)

    def _open(
        self, cause: GapCause, since_us: int | None, close_code: int | None = None
    ) -> str:
        return self._ledger.open(
            self._client_id,
            cause,
            since_us,
            close_code=close_code,
            jobs_in_flight=self._jobs_in_flight(),
        )
