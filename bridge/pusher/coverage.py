"""
Coverage: which of an account's events have arrived, and which may have been missed.

Frames arrive in the order in which they were sent. So a response proves that everything
that the server sent before the request has arrived. An unsolicited frame proves less:
later frames may still be under way. Measured: on a connection that had become half a
second slower, forty events were lost that were sent before the last one was read.

There are two watermarks. A pong proves that the connection works. The acknowledgement
of a repeated subscription, or an event after a pong, proves that the subscription
exists: a deaf connection answers pings.

A suspended process reads, when it resumes, what was sent long before. So no frame moves
a watermark until a ping that was sent after the resumption is answered. The amount that
was read by then shows whether the server may have dropped anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Final

import msgspec
import structlog
import trio


__all__ = ["Cause", "Coverage", "Interruption", "Stalls"]

# soketi 1.6 keeps 1 MiB for a slow reader, beyond the kernel's buffers, and silently
# drops what doesn't fit (its setting of uWebSockets' maxBackpressure, and measured).
# If no more than that was waiting, then nothing was dropped.
_KEPT_BYTES: Final = 1024 * 1024

# From one beat to the next: short against what counts as late.
_BEAT_SECONDS: Final = 0.25

# A beat so late means a stall. A busy loop is some tenths of a second late, and
# nothing is lost by that: no deadline is shorter than seconds.
_LATE_SECONDS: Final = 1.0

# The loop's own clock stops while a laptop sleeps, so beats are measured by one that
# goes on: CLOCK_BOOTTIME on Linux; CLOCK_MONOTONIC on macOS, which counts sleep there.
# Elsewhere sleep isn't seen, but the lost connection is. The wall clock isn't used: it
# jumps when it is set. Not a function: it is called for each read.
_boot_clock: Final[Callable[[], float]] = partial(
    time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
)

_log = structlog.get_logger("bridge.pusher")


class Cause(StrEnum):
    """Why events may have been missed: causes of gaps that a session finds."""

    # The connection was lost.
    DISCONNECTED = "disconnected"
    # The connection was open, but nothing came through it.
    DEAF = "deaf"
    # DryAPI refused the account while it was subscribed.
    REFUSED = "refused"
    # The process was suspended for so long that something was lost.
    SUSPENDED = "suspended"


class Interruption(msgspec.Struct, frozen=True):
    """A time in which events may have been missed; in microseconds since the epoch."""

    cause: Cause
    # What was sent before this moment had arrived.
    since_us: int
    # What is sent from then on arrives; None if it lasts until the next subscription.
    until_us: int | None = None
    # What ended the connection, if a code did.
    close_code: int | None = None


def _ignore(_: object) -> None:
    """Ignore what no caller wants to know."""


class Coverage:
    """
    One account's watermarks, over all its connections.

    Each subscription's acknowledgement is reported, and each interval in which events
    may have been missed. One without an end is followed by a subscription before the
    next.
    """

    def __init__(
        self,
        on_subscribed: Callable[[int], None] = _ignore,
        on_interrupted: Callable[[Interruption], None] = _ignore,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._on_subscribed = on_subscribed
        self._on_interrupted = on_interrupted
        # The wall clock, in microseconds since the epoch.
        self.now_us = clock
        # All that was sent before had arrived, if the subscription existed; None before
        # the first subscription. And the same by the subscription's own proofs.
        self.connection_us: int | None = None
        self.subscription_us = 0
        # Whether what is read proves nothing, since it may have waited.
        self.suspended = False
        # When the last ping was sent, and the last one that was answered.
        self._pinged_us = self._answered_us = 0
        # Since the wake-up: whether a ping went out, and what was read.
        self._pinged_awake = False
        self._waited_bytes = 0

    def subscribed(self) -> None:
        """Note that a new subscription was acknowledged."""
        now_us = self.now_us()
        # A wall clock that was set back must not make an interruption negative.
        at_us = max(now_us, self.connection_us or now_us)
        self.connection_us = self.subscription_us = at_us
        self._answered_us = 0
        self.suspended = False
        self._on_subscribed(at_us)

    def pinging(self) -> None:
        """Note that a ping is sent now; the one before was answered."""
        now_us = self._pinged_us = self.now_us()
        self._pinged_awake = True
        # The wall clock may have been set back: nothing is proved of the future.
        self.connection_us = min(self.connection_us or 0, now_us)
        self.subscription_us = min(self.subscription_us, now_us)
        self._answered_us = min(self._answered_us, now_us)

    def ponged(self) -> None:
        """Note the last ping's pong, and report what a suspension may have cost."""
        if self.suspended:
            if not self._pinged_awake:
                return
            self.suspended = False
            if self._waited_bytes > _KEPT_BYTES:
                now_us = self.now_us()
                since_us = min(self.connection_us or now_us, now_us)
                self.connection_us = self.subscription_us = now_us
                self._on_interrupted(Interruption(Cause.SUSPENDED, since_us, now_us))
                return
        self._answered_us = self._pinged_us
        self.connection_us = max(self.connection_us or 0, self._pinged_us)

    def event(self) -> None:
        """Note that an event of the channel was read."""
        if self._answered_us > self.subscription_us and not self.suspended:
            self.subscription_us = self._answered_us

    def acknowledged(self, asked_us: int) -> None:
        """Note the acknowledgement of a subscription that was repeated then."""
        if not self.suspended:
            self.connection_us = max(self.connection_us or 0, asked_us)
            self.subscription_us = max(self.subscription_us, asked_us)

    def stalled(self) -> None:
        """Note that nothing was read for a while, before anything is read again."""
        if not self.suspended:
            self.suspended = True
            self._waited_bytes = 0
        self._pinged_awake = False

    def waited(self, messages: Sequence[str | bytes]) -> None:
        """Count what is read while it proves nothing."""
        self._waited_bytes += sum(
            len(message.encode() if isinstance(message, str) else message)
            for message in messages
        )

    def lost(self, cause: Cause, close_code: int | None, *, probed: bool) -> None:
        """
        Report that a subscribed connection ended.

        Unless it was probed, only pongs prove anything of a quiet time: a gap would
        begin at the last event, days ago perhaps.
        """
        deaf = cause is Cause.DEAF and probed
        since_us = self.subscription_us if deaf else self.connection_us
        assert since_us is not None, "it was subscribed"
        if self.suspended and cause is not Cause.REFUSED:
            # It was suspended since the last proof: that explains the end.
            cause = Cause.SUSPENDED
        since_us = min(since_us, self.now_us())
        self.connection_us = self.subscription_us = since_us
        self.suspended = False
        self._on_interrupted(Interruption(cause, since_us, None, close_code))


class Stalls:
    """
    Finds the times in which the whole process was suspended, for all its sessions.

    A process can be stopped (SIGSTOP, a frozen container), a laptop can sleep, and a
    long computation can block the loop: no socket was read. A beat that comes too late
    shows it afterwards. Nothing is found while `run` doesn't run.
    """

    def __init__(self, clock: Callable[[], float] = _boot_clock) -> None:
        self._clock = clock
        self._beaten_at: float | None = None
        self.count = 0
        # Called right after each stall; must return at once.
        self.watchers: set[Callable[[], None]] = set()

    async def run(self) -> None:
        """Beat until cancelled."""
        self._beaten_at = self._clock()
        try:
            while True:
                await trio.sleep(_BEAT_SECONDS)
                self.look()
        finally:
            self._beaten_at = None

    def look(self) -> None:
        """
        Find a stall that has just ended, and notify the watchers.

        After a stall the readers of sockets may wake up before the beat does: they call
        this before what they have read counts as read in time.
        """
        if self._beaten_at is None:
            return
        now = self._clock()
        late_seconds = now - self._beaten_at - _BEAT_SECONDS
        if late_seconds < 0:
            return
        self._beaten_at = now
        if late_seconds > _LATE_SECONDS:
            self.count += 1
            _log.warning("process.stalled", seconds=round(late_seconds, 1))
            for notify in list(self.watchers):
                notify()
