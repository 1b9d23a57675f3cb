"""
Whether a session heard everything, and what it tells its listener about that.

It is told what happened on the connections and makes interruptions of it: one for
each subscription that ended, and one where the process stood still so long that the
server may have dropped something. What is proved by what stands in `proofs`.

A process that stood still reads, when it wakes, what was sent long before. So
nothing that is read counts as a proof until a ping that was sent after the wake-up
is answered; how much was read by then tells whether the server may have dropped
anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bridge.pusher.interruption import Cause, Interruption, Listener
from bridge.pusher.statistics import Clock, Probing, Statistics
from bridge.pusher.websocket import Message


__all__ = ["Continuity"]

# soketi 1.6 keeps 1 MiB for a slow reader, beyond the kernel's buffers, and drops
# what doesn't fit without a word (its setting of uWebSockets' maxBackpressure, and
# measured). If no more than that was waiting, then nothing was dropped.
_KEPT_BYTES: Final = 1024 * 1024


class Continuity:
    """
    One session's hearing.

    Args:
        listener: Who is told.
        statistics: Where the proofs are.
        clock: The wall clock.
    """

    def __init__(
        self, listener: Listener, statistics: Statistics, clock: Clock
    ) -> None:
        self._listener = listener
        self._statistics = statistics
        self._proofs = statistics.proofs
        self._clock = clock
        self._pinged_at_us = 0
        # Whether a ping went out since the process woke; what was read since then.
        self._pinged_awake = False
        self._waited_bytes = 0

    def subscribed(self) -> int:
        """
        Note and tell that a new subscription was acknowledged.

        Returns:
            The acknowledgement's receipt.
        """
        now_us = self._clock()
        # A wall clock that was set back doesn't make an interruption negative.
        at_us = max(now_us, self._proofs.proved_us or now_us)
        self._proofs.begin(at_us)
        self._listener.subscribed(at_us)
        return at_us

    def confirmed(self, asked_at_us: int) -> None:
        """
        Note that a repeated subscription was acknowledged.

        Args:
            asked_at_us: When it was repeated first.
        """
        self._proofs.confirm(asked_at_us)

    def pinging(self) -> None:
        """Note that a ping goes out now; the one before was answered."""
        self._pinged_at_us = now_us = self._clock()
        self._proofs.believe(now_us)
        self._pinged_awake = True

    def ponged(self) -> None:
        """Note the last ping's pong, and tell of what a stall may have cost."""
        now_us = self._clock()
        self._proofs.answered_us = self._pinged_at_us
        if not (self._proofs.held and self._pinged_awake):
            return
        if self._waited_bytes <= _KEPT_BYTES:
            self._proofs.release()
            return
        since_us = self._proofs.release(floor_us=now_us)
        self._listener.interrupted(
            Interruption(Cause.SUSPENDED, min(since_us, now_us), now_us)
        )

    def stalled(self) -> None:
        """Note that nothing was read for a while, before anything is read again."""
        if not self._proofs.held:
            self._proofs.hold()
            self._waited_bytes = 0
        self._pinged_awake = False

    def waited(self, run: Sequence[Message]) -> None:
        """
        Note what was read while proofs are held.

        Args:
            run: The messages.
        """
        self._waited_bytes += sum(
            len(message.encode() if isinstance(message, str) else message)
            for message in run
        )

    def closed(self) -> None:
        """Keep what is proved: the connection is gone, whatever the reason."""
        self._proofs.end()

    def interrupted(self, cause: Cause, close_code: int | None) -> None:
        """
        Tell that a subscribed connection ended, after `closed`.

        Args:
            cause: What it looked like.
            close_code: The code that ended it, if one did.
        """
        # Where the server isn't probed, nothing but pongs tells anything of a silence:
        # without them a gap would begin at the last event, days ago perhaps.
        deaf = cause is Cause.DEAF and self._statistics.probing is not Probing.OFF
        since_us = self._proofs.heard_us if deaf else self._proofs.proved_us
        assert since_us is not None, "it was subscribed"
        if self._proofs.held and cause is not Cause.REFUSED:
            # It stood still since the last proof: that is what it looked like.
            cause = Cause.SUSPENDED
        since_us = min(since_us, self._clock())
        self._proofs.doubt(since_us)
        self._listener.interrupted(Interruption(cause, since_us, None, close_code))
