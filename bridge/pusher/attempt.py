"""
One attempt: a connection from dialling to its end.

An attempt connects, waits for the socket id, reads, and lets `enrolment` and
`keepalive` do their part. It never raises what a server or a network can cause:
its end is a value, and whether there is another attempt, and when, is
`session`'s business. Everything that belongs to a connection runs in the
attempt's own nursery, so nothing outlives it: an answer of the auth endpoint
for a socket id that is gone finds no one, because the request was cancelled.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

import structlog
import trio

from bridge.errors import ConnectError, ConnectionLostError
from bridge.pusher import outgoing
from bridge.pusher.closing import Verdict
from bridge.pusher.ending import Ending, LastWords
from bridge.pusher.enrolment import Enrolment
from bridge.pusher.keepalive import KeepAlive
from bridge.pusher.parts import Parts
from bridge.pusher.probe import Probe
from bridge.pusher.protocol import (
    ChannelEvent,
    ControlEvent,
    Established,
    Ping,
    Pong,
    ServerError,
    SubscriptionError,
    SubscriptionSucceeded,
    Unrecognised,
    decode,
)
from bridge.pusher.state import Lifecycle, LocalStep, RemoteStep, State
from bridge.pusher.statistics import Outcome
from bridge.pusher.websocket import Connection


__all__ = ["JOB_EVENT", "Attempt"]

JOB_EVENT: Final = "request.status.updated"
"""The event that dryAPI publishes for a job (its documentation, WebSocket)."""

_Task: TypeAlias = Callable[[], Awaitable[Ending | None]]
_Start: TypeAlias = Callable[[_Task], None]

# A pause of this length is looked at like a stall of the process: a server that
# sends more than a megabyte a second drops what it can't get rid of.
_LONG_PAUSE_SECONDS: Final = 1.0

# Less than this is taken whatever waits to be written: a pong, or a few events.
# The sockets of a thousand accounts may bring 128 KiB each in the same moment.
_LIGHT_CHARACTERS: Final = 2048

# How far an attempt came, by the state that it ended in.
_OUTCOMES: Final = {
    State.CONNECTING: Outcome.UNREACHABLE,
    State.ESTABLISHING: Outcome.NOT_ESTABLISHED,
    State.AUTHORIZING: Outcome.NOT_AUTHORIZED,
    State.SUBSCRIBING: Outcome.NOT_SUBSCRIBED,
}

_log = structlog.get_logger("bridge.pusher")


class Attempt:
    """
    One connection's life.

    Args:
        parts: What the session gives to each.
        url: Where to connect to.

    Attributes:
        subscribed_at: When the subscription was acknowledged (monotonic); None
            if it never was.
    """

    def __init__(self, parts: Parts, url: str) -> None:
        self._parts = parts
        self._url = url
        self._statistics = parts.statistics
        self._continuity = parts.continuity
        self._lifecycle = Lifecycle()
        self._last_words = LastWords()
        self._opening = trio.CancelScope()
        self._ending: Ending | None = None
        self._keep_alive: KeepAlive | None = None
        self._enrolment: Enrolment | None = None
        self._probe: Probe | None = None
        self.subscribed_at: float | None = None

    async def run(self) -> Ending:
        """
        Connect and stay connected as long as it goes.

        Returns:
            How it ended.
        """
        stalls = self._parts.stalls
        with stalls.watched(self._stalled):
            try:
                return await self._run()
            finally:
                # A stall that explains the end may not have been seen yet.
                stalls.look()
                self._continuity.closed()

    async def _run(self) -> Ending:
        self._step(LocalStep.DIALLED)
        timeout_seconds = self._parts.settings.connect_timeout_seconds
        # Name, TCP, TLS, upgrade and socket id together; lifted by the last.
        self._opening.deadline = trio.current_time() + timeout_seconds
        try:
            with self._opening:
                async with self._parts.connect(self._url) as connection:
                    self._step(LocalStep.OPENED)
                    await self._live(connection)
        except ConnectError as error:
            # Never final, whatever the status: while a server is being replaced,
            # its proxy answers anything.
            verdict = Verdict.RETRY_NOW if error.status is None else Verdict.RETRY_LATER
            self._ending = Ending(str(error), verdict, error.status)
        finally:
            reached = self._lifecycle.state
            self._step(LocalStep.ENDED)
        if self._ending is None and self._opening.cancelled_caught:
            self._ending = self._last_words.unanswered(
                f"no connection within {timeout_seconds:g} s"
                if reached is State.CONNECTING
                else f"no connection_established within {timeout_seconds:g} s"
            )
        assert self._ending is not None, "a connection ends for a reason"
        if self.subscribed_at is None:
            self._statistics.connects[_OUTCOMES[reached]] += 1
        self._statistics.last_ended_at_us = self._parts.clock()
        self._statistics.last_close_code = self._ending.code
        return self._ending

    def _step(self, step: LocalStep | RemoteStep) -> bool:
        fits = self._lifecycle.advance(step)
        self._statistics.state = self._lifecycle.state
        return fits

    async def _live(self, connection: Connection) -> None:
        """Run the connection's tasks until one of them ends it."""
        async with trio.open_nursery() as nursery:

            def start(task: _Task) -> None:
                nursery.start_soon(watch, task)

            async def watch(task: _Task) -> None:
                ending = await task()
                # The first reason counts; others are its consequences.
                if ending is not None and self._ending is None:
                    self._ending = ending
                    nursery.cancel_scope.cancel()

            start(lambda: self._read(connection, start))

    async def _read(self, connection: Connection, start: _Start) -> Ending:
        try:
            return await self._receive(connection, start)
        except ConnectionLostError as error:
            return self._last_words.lost(error, trio.current_time())

    async def _receive(self, connection: Connection, start: _Start) -> Ending:
        """Read until there is an end; the only loop that sees each event."""
        parts, statistics = self._parts, self._statistics
        channel, clock = parts.channel, parts.clock
        look, proofs = parts.stalls.look, statistics.proofs
        while True:
            # No deadline: a quiet channel is no fault, and pings watch it.
            if await connection.ready() > _LIGHT_CHARACTERS:
                await self._stand_back()
            run = connection.take_run()
            received_at_us = clock()
            # Before anything of it counts as read in time.
            look()
            if proofs.held:
                self._continuity.waited(run)
            statistics.frames += len(run)
            statistics.last_frame_at = read_at = trio.current_time()
            statistics.last_frame_at_us = received_at_us
            jobs = []
            ending = None
            for message in run:
                event = decode(message)
                if type(event) is not ChannelEvent:
                    ending = ending or self._control(event, connection, start)
                elif event.event == JOB_EVENT and event.channel == channel:
                    jobs.append(event)
                    # Each for itself: a pong may stand between two of a run.
                    proofs.echoed_us = proofs.answered_us
                else:
                    statistics.other_events += 1
            if jobs:
                statistics.events += len(jobs)
                statistics.last_event_at = read_at
                statistics.last_event_at_us = received_at_us
                self._heard()
                parts.deliver(jobs, received_at_us)
            if ending is not None:
                return ending
            if jobs:
                await self._stand_back()

    async def _stand_back(self) -> None:
        """Wait while what was read before can't be written fast enough."""
        since = trio.current_time()
        await self._parts.pause()
        if trio.current_time() - since > _LONG_PAUSE_SECONDS:
            self._stalled()

    def _control(
        self, event: ControlEvent, connection: Connection, start: _Start
    ) -> Ending | None:
        """Act on what isn't an event of a channel; count what means nothing."""
        match event:
            case Established():
                expected = self._step(RemoteStep.ESTABLISHED)
                if expected:
                    self._established(event, connection, start)
            case SubscriptionSucceeded() | SubscriptionError():
                expected = self._answered(event)
            case Pong():
                expected = self._keep_alive is not None and self._keep_alive.ponged()
            case Ping():
                expected = self._keep_alive is not None
                if self._keep_alive is not None:
                    self._keep_alive.pinged()
            case ServerError():
                expected = True
                self._complained(event)
            case Unrecognised():
                expected = True
                self._statistics.unrecognised += 1
        if not expected:
            self._statistics.unexpected += 1
        return self._misfit(event)

    def _misfit(self, event: ControlEvent) -> Ending | None:
        """End a connection that opens with nonsense instead of a socket id."""
        if self._lifecycle.state is not State.ESTABLISHING:
            return None
        if isinstance(event, ServerError):
            # soketi and Reverb say why, and end the connection themselves.
            return None
        reason = event.reason if isinstance(event, Unrecognised) else "another event"
        return Ending(
            f"the server opened with {reason} instead of connection_established",
            Verdict.RETRY_LATER,
        )

    def _established(
        self, event: Established, connection: Connection, start: _Start
    ) -> None:
        self._opening.deadline = math.inf
        parts = self._parts
        settings = parts.settings
        self._keep_alive = KeepAlive(
            connection,
            interval_seconds=min(
                settings.activity_timeout_seconds, event.activity_timeout_seconds
            ),
            pong_timeout_seconds=settings.pong_timeout_seconds,
            continuity=self._continuity,
        )
        self._enrolment = Enrolment(
            connection,
            socket_id=event.socket_id,
            channel=parts.channel,
            authorizer=parts.authorizer,
            settings=settings,
            sending=self._sending,
            last_words=self._last_words,
            statistics=self._statistics,
            jitter=parts.jitter,
        )
        start(self._keep_alive.ping)
        start(self._keep_alive.answer)
        start(partial(self._enrol, connection, self._enrolment, self._keep_alive))

    async def _enrol(
        self, connection: Connection, enrolment: Enrolment, keep_alive: KeepAlive
    ) -> Ending | None:
        """Subscribe, and see from time to time that the subscription stands."""
        ending = await enrolment.run()
        if self.subscribed_at is None:
            return ending
        auth = enrolment.auth
        assert auth is not None, "nobody is subscribed without a signature"

        async def repeat() -> None:
            self._sending()
            await connection.send(outgoing.subscribe(self._parts.channel, auth))

        self._probe = Probe(
            repeat,
            habit=self._parts.habit,
            keep_alive=keep_alive,
            has_jobs=self._parts.has_jobs,
            settings=self._parts.settings,
            continuity=self._continuity,
            statistics=self._statistics,
            clock=self._parts.clock,
        )
        return await self._probe.run()

    def _heard(self) -> None:
        # Without one, the server sent an event before it said who we are.
        if self._keep_alive is not None:
            self._keep_alive.heard()

    def _stalled(self) -> None:
        """Take nothing for a proof until a new ping is answered."""
        self._continuity.stalled()
        if self._keep_alive is not None:
            self._keep_alive.urge()

    def _sending(self) -> None:
        self._step(LocalStep.SUBSCRIBE_SENT)

    def _answered(self, event: SubscriptionSucceeded | SubscriptionError) -> bool:
        """Take an answer to a subscription, if one to this channel is awaited."""
        if event.channel != self._parts.channel or self._enrolment is None:
            return False
        succeeded = isinstance(event, SubscriptionSucceeded)
        if not self._step(
            RemoteStep.ACKNOWLEDGED if succeeded else RemoteStep.REJECTED
        ):
            return False
        if self.subscribed_at is not None:
            # Repeated, because a probe asked for it or for no reason.
            if self._probe is not None:
                self._probe.acknowledged()
            return True
        if succeeded:
            self._subscribed()
        self._enrolment.answer(event)
        return True

    def _subscribed(self) -> None:
        statistics = self._statistics
        self.subscribed_at = trio.current_time()
        statistics.last_subscribed_at = self.subscribed_at
        statistics.connects[Outcome.SUBSCRIBED] += 1
        self._parts.refusal.worked()
        statistics.last_subscribed_at_us = self._continuity.subscribed()
        _log.info(
            "session.subscribed",
            client_id=statistics.client_id,
            channel=self._parts.channel,
            subscriptions=statistics.connects[Outcome.SUBSCRIBED],
        )

    def _complained(self, event: ServerError) -> None:
        self._statistics.server_errors += 1
        self._last_words.hear(event, trio.current_time())
        _log.warning(
            "session.server_error",
            client_id=self._statistics.client_id,
            code=event.code,
            message=event.message,
        )
