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
from dataclasses import dataclass
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

# With jobs in flight, a silence of this length is probed at once: a running job sends
# events every few seconds.
_PROBE_SILENCE_SECONDS: Final = 60.0

_log = structlog.get_logger("bridge.pusher")


class ProbeOutcome(StrEnum):
    """What came of a repeated subscription: a metric's label."""

    ACKNOWLEDGED = "acknowledged"
    # No acknowledgement, but events of the channel, in the time for it.
    EVENTS = "events"
    # An error: the server doesn't acknowledge repeated subscriptions.
    UNSUPPORTED = "unsupported"
    UNANSWERED = "unanswered"


@dataclass
class KeepAlive:
    """The pings and probes of one connection."""

    client_id: str
    send: Callable[[str], Awaitable[None]]
    abort: Callable[[], None]
    coverage: Coverage
    settings: PusherSettings
    interval_seconds: float
    has_jobs: Callable[[], bool]
    probes: Counter[ProbeOutcome]
    # The frame that is repeated to probe; set before `run`.
    subscription: str = ""

    def __post_init__(self) -> None:
        self.probed = self.settings.probe_interval_seconds > 0
        now = trio.current_time()
        # The next ping is due at its deadline, or at `_soonest` if an event arrives.
        self._wait = trio.CancelScope(deadline=now + self.interval_seconds)
        self._soonest = now
        self._owes_pong = False
        # Set when the answer to what was asked last has come.
        self._ponged = trio.Event()
        self._replied = trio.Event()
        self._refused = False
        self._ponged.set()
        self._replied.set()
        # When the last events came, and when the last probe was sent.
        self._active_at = self._probed_at = now
        self._probed_us = 0

    # -- What the reader reports ----------------------------------------------

    def event(self) -> None:
        """Note events: a ping sent soon proves what came before them too."""
        self._active_at = trio.current_time()
        self._hasten(self._soonest)

    def hasten(self) -> None:
        """Have a ping sent at once, or as soon as the last one's pong has come."""
        self._hasten(trio.current_time())

    def _hasten(self, at: float) -> None:
        self._wait.deadline = min(self._wait.deadline, at)

    def pong(self) -> None:
        """Note the server's pong; without a ping it means nothing."""
        if not self._ponged.is_set():
            self._ponged.set()
            self.coverage.ponged()

    def ping(self) -> None:
        """Note that the server wants a pong: it is sent with a ping."""
        self._owes_pong = True
        self._hasten(self._soonest)

    def acknowledged(self) -> None:
        """Note an acknowledgement; without a probe it means nothing."""
        if not self._replied.is_set():
            self._replied.set()
            self.coverage.acknowledged(self._probed_us)

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
                await trio.sleep_forever()
            await self._ping()
            # Right behind a pong: the connection is known to be alive.
            if self.probed and self._is_probe_due():
                await self._probe()
            self._wait = trio.CancelScope(deadline=self._wait.deadline)

    async def _ping(self) -> None:
        now = trio.current_time()
        self._soonest = now + _PROOF_SECONDS
        # Entered when the pong has come; an event may arrive before.
        self._wait = trio.CancelScope(deadline=now + self.interval_seconds)
        frames = [PONG, PING] if self._owes_pong else [PING]
        self._owes_pong = False
        self._ponged = trio.Event()
        self.coverage.pinging()
        timeout_seconds = self.settings.timeout_seconds
        if not await self._answered(frames, self._ponged, timeout_seconds):
            # A close frame would not be answered either.
            self.abort()
            raise EndedError(
                f"no pong within {timeout_seconds:g} s", Action.RETRY_NOW, deaf=True
            )

    def _is_probe_due(self) -> bool:
        """Decide whether the subscription is to be repeated now."""
        now, settings = trio.current_time(), self.settings
        quiet_seconds = now - max(self._active_at, self._probed_at)
        return now - self._probed_at >= settings.probe_interval_seconds or (
            quiet_seconds >= _PROBE_SILENCE_SECONDS and self.has_jobs()
        )

    async def _probe(self) -> None:
        """Repeat the subscription, and end the connection that is deaf."""
        timeout_seconds = self.settings.timeout_seconds
        self._probed_at = trio.current_time()
        self._probed_us = self.coverage.now_us()
        self._replied, self._refused = trio.Event(), False
        outcome = ProbeOutcome.UNANSWERED
        for _ in range(_TRIES):
            frames = [self.subscription]
            if await self._answered(frames, self._replied, timeout_seconds):
                outcome = ProbeOutcome.ACKNOWLEDGED
                if self._refused:
                    outcome = ProbeOutcome.UNSUPPORTED
                break
            # An acknowledgement may wait behind a flood of events; each of them
            # came through the subscription.
            if self._active_at > self._probed_at:
                outcome = ProbeOutcome.EVENTS
                break
        self._replied.set()
        self.probes[outcome] += 1
        if outcome is ProbeOutcome.UNSUPPORTED:
            self.probed = False
            _log.info("session.probe_unsupported", client_id=self.client_id)
        elif outcome is ProbeOutcome.UNANSWERED:
            raise EndedError(
                f"no answer to {_TRIES} repeated subscriptions within"
                f" {timeout_seconds:g} s each",
                Action.RETRY_NOW,
                deaf=True,
            )

    async def _answered(
        self, frames: list[str], answer: trio.Event, timeout_seconds: float
    ) -> bool:
        """Send frames and wait for the answer, as long as both may take."""
        deadline = trio.current_time() + timeout_seconds
        with trio.move_on_at(deadline):
            for frame in frames:
                await self.send(frame)
            await answer.wait()
        if trio.current_time() - deadline > _STALL_SECONDS:
            with trio.move_on_after(timeout_seconds):
                await answer.wait()
        return answer.is_set()
