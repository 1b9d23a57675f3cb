"""
Pings on a clock, pongs in time, and a probe of the subscription now and then.

soketi closes a connection after 120 s without a `pusher:ping`, however busy it is, and
WebSocket pings don't count (measured); other servers prune clients that only listen. So
a ping is sent at every interval, whatever arrives. A missing pong is the only sign of a
connection that died silently. While events arrive there are more pings: a gap begins
where the last answered ping was sent.

A connection can answer pings and be deaf: the server forgot the subscription, or one of
its nodes no longer receives from the others. soketi and Reverb acknowledge a repeated
subscription (measured; Reverb's source), with the same signature, which is valid as
long as the socket id. So the bridge repeats it every few minutes, and sooner when jobs
are in flight and nothing arrives. Pusher's own servers answer with an error ("Existing
subscription"): then this connection is probed no more. Silence twice means deaf.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, NoReturn

import structlog
import trio

from bridge.pusher.close_codes import Action, EndedError
from bridge.pusher.coverage import Coverage
from bridge.pusher.protocol import PING, PONG
from bridge.settings import PusherSettings


__all__ = ["KeepAlive", "ProbeOutcome"]

# How much too early a gap may begin for want of a newer ping, while events arrive. Half
# as much would be twice the pings for every account that gets events.
_PROOF_SECONDS: Final = 2.0

# soketi drops answers to a slow reader, so one missing answer means nothing.
_TRIES: Final = 2

# Waking up so long after a deadline means that the whole process was suspended: what
# has arrived meanwhile has to be read before it is judged.
_STALL_SECONDS: Final = 1.0

_log = structlog.get_logger("bridge.pusher")


class ProbeOutcome(StrEnum):
    """What came of a repeated subscription: a metric's label."""

    ACKNOWLEDGED = "acknowledged"
    EVENTS = "events"
    """No acknowledgement, but events of the channel, in the time for it."""
    UNSUPPORTED = "unsupported"
    """An error: the server doesn't acknowledge repeated subscriptions."""
    UNANSWERED = "unanswered"


class KeepAlive:
    """
    The pings and probes of one connection.

    Attributes:
        subscription: The frame that is repeated to probe; set before `run`.
        probed: Whether this connection is probed.
    """

    def __init__(  # noqa: PLR0913 - a connection's parts, each given once
        self,
        client_id: str,
        send: Callable[[str], Awaitable[None]],
        abort: Callable[[], None],
        coverage: Coverage,
        settings: PusherSettings,
        *,
        activity_timeout_seconds: float,
        has_jobs: Callable[[], bool],
        probes: Counter[ProbeOutcome],
    ) -> None:
        self._client_id = client_id
        self.subscription = ""
        self.probed = settings.probe_interval_seconds > 0
        self._send = send
        self._abort = abort
        self._coverage = coverage
        self._settings = settings
        self._has_jobs = has_jobs
        self._probes = probes
        self._interval_seconds = min(
            settings.activity_timeout_seconds, activity_timeout_seconds
        )
        now = trio.current_time()
        # When the next ping is due, and when it is due if an event arrives before.
        self._soonest = now
        self._due = now + self._interval_seconds
        self._wait = trio.CancelScope(deadline=self._due)
        self._wakeup = trio.Event()
        self._pong_owed = False
        # Set when the answer to what was asked last has come.
        self._ponged = trio.Event()
        self._replied = trio.Event()
        self._refused = False
        self._ponged.set()
        self._replied.set()
        self._events = 0
        self._probed_at = self._quiet_since = now
        self._probed_us = 0
        self._silence_seconds = settings.probe_silence_seconds

    # -- What the reader reports ----------------------------------------------

    def event(self) -> None:
        """Note events: a ping sent soon proves what came before them too."""
        self._events += 1
        if self._due > self._soonest:
            self._wait.deadline = self._due = self._soonest

    def hasten(self) -> None:
        """Have a ping sent at once, or as soon as the last one's pong has come."""
        self._wait.deadline = self._due = trio.current_time()

    def pong(self) -> None:
        """Note the server's pong; without a ping it means nothing."""
        if not self._ponged.is_set():
            self._ponged.set()
            self._coverage.ponged()

    def ping(self) -> None:
        """Note that the server wants a pong."""
        self._pong_owed = True
        self._wakeup.set()

    def acknowledged(self) -> None:
        """Note an acknowledgement; without a probe it means nothing."""
        if not self._replied.is_set():
            self._replied.set()
            self._coverage.acknowledged(self._probed_us)

    def error(self) -> None:
        """Note a `pusher:error`, which is a reply if a probe waits for one."""
        if not self._replied.is_set():
            self._refused = True
            self._replied.set()

    # -- The connection's own task --------------------------------------------

    async def run(self) -> NoReturn:
        """
        Ping and probe until cancelled, which the end of the connection does.

        Raises:
            EndedError: An answer doesn't come.
            ConnectionLostError: The connection ended.
        """
        while True:
            with self._wait:
                # A server may ping while an answer is awaited: seconds don't matter.
                await self._wakeup.wait()
            self._wakeup = trio.Event()
            if self._pong_owed:
                self._pong_owed = False
                with trio.move_on_after(self._settings.pong_timeout_seconds) as sending:
                    await self._send(PONG)
                if sending.cancelled_caught:
                    raise self._dead()
            if trio.current_time() >= self._due:
                await self._ping()
                # Right behind a pong: the connection is known to be alive.
                if self.probed and self._is_probe_due():
                    await self._probe()
            self._wait = trio.CancelScope(deadline=self._due)

    async def _ping(self) -> None:
        now = trio.current_time()
        self._soonest = now + _PROOF_SECONDS
        self._due = now + self._interval_seconds
        # Entered when the pong has come; an event may arrive before.
        self._wait = trio.CancelScope(deadline=self._due)
        self._ponged = trio.Event()
        self._coverage.pinging()
        timeout_seconds = self._settings.pong_timeout_seconds
        if not await self._answered(PING, self._ponged, timeout_seconds):
            raise self._dead()

    def _dead(self) -> EndedError:
        # A close frame would not be answered either.
        self._abort()
        seconds = self._settings.pong_timeout_seconds
        return EndedError(f"no pong within {seconds:g} s", Action.RETRY_NOW, deaf=True)

    def _is_probe_due(self) -> bool:
        """Decide whether the subscription is to be repeated now."""
        now = trio.current_time()
        if self._events:
            self._events, self._quiet_since = 0, now
            self._silence_seconds = self._settings.probe_silence_seconds
        is_quiet = now - self._quiet_since >= self._silence_seconds and self._has_jobs()
        if is_quiet:
            self._quiet_since = now
            self._silence_seconds *= 2
        return is_quiet or (
            now - self._probed_at >= self._settings.probe_interval_seconds
        )

    async def _probe(self) -> None:
        """Repeat the subscription, and end the connection that is deaf."""
        timeout_seconds = self._settings.subscribe_timeout_seconds
        self._probed_at = trio.current_time()
        self._probed_us = self._coverage.now_us()
        self._replied, self._refused = trio.Event(), False
        outcome = ProbeOutcome.UNANSWERED
        for _ in range(_TRIES):
            if await self._answered(self.subscription, self._replied, timeout_seconds):
                outcome = (
                    ProbeOutcome.UNSUPPORTED
                    if self._refused
                    else ProbeOutcome.ACKNOWLEDGED
                )
                break
            # An acknowledgement may wait behind a flood of events; each of them
            # came through the subscription.
            if self._events:
                outcome = ProbeOutcome.EVENTS
                break
        self._replied.set()
        self._probes[outcome] += 1
        if outcome is ProbeOutcome.UNSUPPORTED:
            self.probed = False
            _log.info("session.probe_unsupported", client_id=self._client_id)
        elif outcome is ProbeOutcome.UNANSWERED:
            raise EndedError(
                f"no answer to {_TRIES} repeated subscriptions within"
                f" {timeout_seconds:g} s each",
                Action.RETRY_NOW,
                deaf=True,
            )

    async def _answered(
        self, frame: str, answer: trio.Event, timeout_seconds: float
    ) -> bool:
        """Send a frame and wait for its answer, as long as both may take."""
        deadline = trio.current_time() + timeout_seconds
        with trio.move_on_at(deadline):
            await self._send(frame)
            await answer.wait()
        if trio.current_time() - deadline > _STALL_SECONDS:
            with trio.move_on_after(timeout_seconds):
                await answer.wait()
        return answer.is_set()
