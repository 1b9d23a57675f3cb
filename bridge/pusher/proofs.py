"""
Up to when a session has heard everything: the proofs, and the moment they prove.

Frames come in the order in which they were sent. So each one proves that whatever
the server sent before it has arrived. It was sent a trip before it was read, and
what was sent meanwhile may still get lost; the last measured round trip stands for
that trip, with the time that the reader has been busy since: so much longer what
comes may have waited to be read. For a pong this comes to the sending of its ping.

There are two grades. Any frame proves that the connection carries what is sent.
Only an event of the channel, or an acknowledgement, proves that the subscription
stands as well: a deaf connection answers pings.

No clock, no listener: the writers give the times, `continuity` draws conclusions.
"""

from __future__ import annotations


__all__ = ["Proofs"]


class Proofs:
    """
    One session's proofs; microseconds since the epoch.

    Attributes:
        frame_us: Receipt of the last message.
        event_us: Receipt of the last job event.
        trip_us: The last measured time from a question to its answer, and how long
            the reader has been busy since.
        held: Whether what is read proves nothing at present, because it may have
            waited long.
    """

    def __init__(self) -> None:
        self.frame_us: int | None = None
        self.event_us: int | None = None
        self.trip_us = 0
        self.held = False
        self._standing = False
        self._floor_us = 0
        self._confirmed_us: int | None = None
        # Proved and heard, as they were when they were held or it ended.
        self._settled: tuple[int, int] | None = None

    @property
    def proved_us(self) -> int | None:
        """Up to when everything had arrived; None before the first subscription."""
        if self._standing and not self.held:
            return self._latest(self.frame_us)
        return None if self._settled is None else self._settled[0]

    @property
    def heard_us(self) -> int | None:
        """The same by the subscription's own proofs alone."""
        if self._standing and not self.held:
            latest_us = self._latest(self.event_us)
            return max(latest_us, self._confirmed_us or latest_us)
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
        self.frame_us = self.event_us = self._confirmed_us = None

    def confirm(self, asked_at_us: int) -> None:
        """
        Take an acknowledgement of a repeated subscription.

        Args:
            asked_at_us: When the subscription was repeated.
        """
        self._confirmed_us = asked_at_us

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

    def _latest(self, receipt_us: int | None) -> int:
        if receipt_us is None:
            return self._floor_us
        sent_us = receipt_us - self.trip_us
        if receipt_us < self._floor_us:
            # The wall clock was set back since: only its new time means anything.
            return sent_us
        return max(self._floor_us, sent_us)
