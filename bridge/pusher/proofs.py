"""
Up to when a session has heard everything: the proofs, and the moment they prove.

Frames come in the order in which they were sent. So the answer to a question proves
that whatever the server had sent when it was asked has arrived. A frame that nobody
asked for proves less than it seems to: what was sent behind it may still be on its
way, and how long that is can't be known (measured: with a line that had become half a
second slower, forty events were lost that were sent before the last one was read).

There are two grades. A pong proves that the connection carries what is sent. That the
subscription stands is proved by the acknowledgement of a repeated one, or by an event
that comes behind a pong: a deaf connection answers pings.

No clock, no listener: the writers give the times, `continuity` draws conclusions.
"""

from __future__ import annotations


__all__ = ["Proofs"]


class Proofs:
    """
    One session's proofs; microseconds since the epoch.

    Attributes:
        answered_us: When the last ping was sent whose pong came since the subscription
            was acknowledged; 0 if there was none.
        echoed_us: The same of the last ping behind whose pong an event came.
        held: Whether what is read proves nothing at present, because it may have
            waited long.
    """

    def __init__(self) -> None:
        self.answered_us = 0
        self.echoed_us = 0
        self.held = False
        self._standing = False
        self._floor_us = self._confirmed_us = 0
        # Proved and heard, as they were when they were held or it ended.
        self._settled: tuple[int, int] | None = None

    @property
    def proved_us(self) -> int | None:
        """Up to when everything had arrived; None before the first subscription."""
        if self._standing and not self.held:
            return max(self._floor_us, self.answered_us)
        return None if self._settled is None else self._settled[0]

    @property
    def heard_us(self) -> int | None:
        """The same by the subscription's own proofs alone."""
        if self._standing and not self.held:
            return max(self._floor_us, self.echoed_us, self._confirmed_us)
        return None if self._settled is None else self._settled[1]

    def begin(self, at_us: int) -> None:
        """
        Begin with a new subscription.

        Args:
            at_us: Receipt of its acknowledgement.
        """
        self._standing = True
        self.held = False
        self._floor_us = at_us
        self.answered_us = self.echoed_us = self._confirmed_us = 0

    def confirm(self, asked_at_us: int) -> None:
        """
        Take an acknowledgement of a repeated subscription.

        Args:
            asked_at_us: When the subscription was repeated.
        """
        self._confirmed_us = asked_at_us

    def believe(self, now_us: int) -> None:
        """
        Give up what lies in the future: the wall clock was set back since.

        Args:
            now_us: What the clock says.
        """
        self._floor_us = min(self._floor_us, now_us)
        self.answered_us = min(self.answered_us, now_us)
        self.echoed_us = min(self.echoed_us, now_us)
        self._confirmed_us = min(self._confirmed_us, now_us)

    def hold(self) -> None:
        """Stay with what is proved until `release`: old things are being read."""
        if self._standing and not self.held:
            self._settle()
            self.held = True

    def release(self, floor_us: int | None = None) -> int:
        """
        Take what is read for a proof again.

        Args:
            floor_us: From when on everything arrives, if something before may not
                have.

        Returns:
            What was proved while it was held.
        """
        assert self._settled is not None, "released what was held"
        self.held = False
        if floor_us is not None:
            self._floor_us = floor_us
        return self._settled[0]

    def end(self) -> None:
        """Keep what is proved: the subscription ended."""
        if self._standing and not self.held:
            self._settle()
        self._standing = False

    def doubt(self, since_us: int) -> None:
        """
        Take proofs of an ended subscription back.

        Args:
            since_us: Up to when everything had arrived after all.
        """
        self._settled = (since_us, since_us)
        self.held = False

    def _settle(self) -> None:
        proved_us, heard_us = self.proved_us, self.heard_us
        assert proved_us is not None
        assert heard_us is not None
        self._settled = (proved_us, heard_us)
