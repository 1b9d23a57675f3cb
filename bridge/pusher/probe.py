"""
The subscription probe: repeats the subscription to see that it still stands.

A connection can answer pings and be deaf: the server forgot the subscription, or
one of its nodes no longer hears the others. soketi and Reverb acknowledge a
subscription that is repeated (measured; Reverb's source), with the same signature,
which is valid as long as the socket id. So the bridge repeats it every few minutes,
and sooner when jobs are known to run and nothing comes.

Pusher's own servers don't acknowledge it; they answer with an error ("Existing
subscription"). Which kind a server is, the session learns with one early probe.

Only a missing acknowledgement counts. Errors prove nothing: whoever may publish to
the channel can forge one.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

from bridge.errors import ConnectionLostError
from bridge.pusher.closing import Verdict
from bridge.pusher.continuity import Continuity
from bridge.pusher.ending import Ending
from bridge.pusher.keepalive import KeepAlive
from bridge.pusher.patience import answered
from bridge.pusher.statistics import Clock, ProbeOutcome, Probing, Statistics
from bridge.settings import PusherSettings


__all__ = ["Habit", "Probe"]

# From the acknowledgement to the probe that a session learns from: out of the way
# of a new connection's first messages, and soon enough to be of use.
_LEARN_AFTER_SECONDS: Final = 5.0

# soketi drops answers to a slow reader, so one missing answer means nothing.
_TRIES: Final = 2

# Silence on a repeat is deafness: soketi and Reverb acknowledge it, Pusher's own
# servers complain. A server that keeps silent on so many connections in a row, and
# answers pings, is of another kind, and connecting anew changes nothing.
_MOST_DEAF: Final = 3

_log = structlog.get_logger("bridge.pusher")


class Habit:
    """
    What a session knows of its server: whether it acknowledges a repeat.

    Args:
        statistics: Where it is shown.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._deaf_in_a_row = 0

    @property
    def state(self) -> Probing:
        """What is known."""
        return self._statistics.probing

    def acknowledged(self) -> None:
        """Note that the server does it."""
        self._deaf_in_a_row = 0
        self._statistics.probing = Probing.ON

    @property
    def is_hopeless(self) -> bool:
        """Whether so many connections were deaf that it must be the server's kind."""
        return self._deaf_in_a_row >= _MOST_DEAF

    def refrains(self) -> None:
        """Note that the server doesn't do it, though it answers pings."""
        if self.state is not Probing.OFF:
            _log.info(
                "session.not_probed",
                client_id=self._statistics.client_id,
                reason="the server doesn't acknowledge a repeated subscription",
            )
        self._statistics.probing = Probing.OFF

    def missed(self) -> None:
        """Note that an acknowledgement didn't come, nor anything in its place."""
        self._deaf_in_a_row += 1
        if self.is_hopeless:
            self._statistics.probing = Probing.UNKNOWN


class Probe:
    """
    One subscribed connection's probes.

    Args:
        repeat: Sends the subscription once more.
        habit: What the session knows of the server.
        keep_alive: The connection's pings.
        has_jobs: Whether jobs are known to be in flight.
        settings: How often, and how long an answer may take.
        continuity: Where acknowledgements are noted.
        statistics: What to count in.
        clock: The wall clock.
    """

    def __init__(  # noqa: PLR0913 - a connection's parts, each given once
        self,
        repeat: Callable[[], Awaitable[None]],
        *,
        habit: Habit,
        keep_alive: KeepAlive,
        has_jobs: Callable[[], bool],
        settings: PusherSettings,
        continuity: Continuity,
        statistics: Statistics,
        clock: Clock,
    ) -> None:
        self._repeat = repeat
        self._habit = habit
        self._keep_alive = keep_alive
        self._has_jobs = has_jobs
        self._timeout_seconds = settings.subscribe_timeout_seconds
        self._interval_seconds = settings.probe_interval_seconds
        self._silence_seconds = settings.probe_silence_seconds
        self._continuity = continuity
        self._statistics = statistics
        self._clock = clock
        self._pending: trio.Event | None = None
        self._asked_at_us = 0
        # Monotonic: the last probe; the last event, or look at the jobs without one.
        self._asked_at = self._quiet_since = trio.current_time()
        self._patience_seconds = self._silence_seconds

    def acknowledged(self) -> None:
        """Take an acknowledgement; one that nobody waits for means nothing."""
        if self._pending is not None and not self._pending.is_set():
            self._pending.set()
            self._habit.acknowledged()
            self._continuity.confirmed(self._asked_at_us)

    async def run(self) -> Ending | None:
        """
        Probe for as long as acknowledgements come.

        Returns:
            The end, when one doesn't; None if the connection ended by itself, or
            its server acknowledges nothing.
        """
        try:
            # What was off on one connection is learnt anew on the next.
            if self._habit.state is not Probing.ON and await self._is_deaf():
                return self._deaf()
            while self._habit.state is Probing.ON:
                await self._due()
                if await self._ask() is ProbeOutcome.UNANSWERED:
                    return self._deaf()
        except ConnectionLostError:
            pass
        return None

    async def _is_deaf(self) -> bool:
        """Learn whether the server acknowledges; True if nothing comes of a probe."""
        await trio.sleep(_LEARN_AFTER_SECONDS)
        statistics, habit = self._statistics, self._habit
        while True:
            errors, events = statistics.server_errors, statistics.events
            if await self._ask() is ProbeOutcome.ACKNOWLEDGED:
                return False
            # The answer is missing for sure only if the connection lives.
            await self._keep_alive.proof()
            if habit.state is Probing.ON:
                return False
            if statistics.server_errors > errors or (
                statistics.events == events and habit.is_hopeless
            ):
                habit.refrains()
                return False
            if statistics.events == events:
                return True
            # Events come, so all is well, and the answer may have been dropped.
            await trio.sleep(self._interval_seconds)

    def _deaf(self) -> Ending:
        self._habit.missed()
        return Ending(
            f"no answer to {_TRIES} repeated subscriptions within"
            f" {self._timeout_seconds:g} s each",
            Verdict.RETRY_NOW,
            deaf=True,
        )

    async def _due(self) -> None:
        """Wait for the moment of the next probe."""
        while True:
            now = trio.current_time()
            heard_at = self._statistics.last_event_at or -math.inf
            if heard_at > self._quiet_since:
                self._quiet_since = heard_at
                self._patience_seconds = self._silence_seconds
            regular_at = self._asked_at + self._interval_seconds
            quiet_at = self._quiet_since + self._patience_seconds
            if now >= quiet_at:
                self._quiet_since = now
                if self._has_jobs():
                    self._patience_seconds = min(
                        self._patience_seconds * 2, self._interval_seconds
                    )
                    return
            if now >= regular_at:
                return
            # An event may come meanwhile, and then the silence begins anew.
            look_at = now + self._silence_seconds
            await trio.sleep_until(min(regular_at, quiet_at, look_at))

    async def _ask(self) -> ProbeOutcome:
        pending = self._pending = trio.Event()
        self._asked_at = trio.current_time()
        self._asked_at_us = self._clock()
        events = self._statistics.events
        outcome = ProbeOutcome.UNANSWERED
        for _ in range(_TRIES):
            if await answered(self._repeat, pending, self._timeout_seconds):
                outcome = ProbeOutcome.ACKNOWLEDGED
                break
            # An acknowledgement may wait behind a flood of events; each of them
            # came through the subscription.
            if self._statistics.events > events and self._habit.state is Probing.ON:
                outcome = ProbeOutcome.HEARD
                break
        self._statistics.probes[outcome] += 1
        return outcome
