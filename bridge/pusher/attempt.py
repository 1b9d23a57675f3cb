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
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import structlog
import trio

from bridge.errors import ConnectError, ConnectionLostError
from bridge.pusher.authorizer import ChannelAuthorizer
from bridge.pusher.closing import Verdict
from bridge.pusher.ending import Ending, LastWords
from bridge.pusher.enrolment import Enrolment
from bridge.pusher.keepalive import KeepAlive
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
from bridge.pusher.statistics import Clock, Outcome, Statistics
from bridge.pusher.websocket import Connect, Connection
from bridge.settings import PusherSettings


__all__ = ["JOB_EVENT", "Attempt", "Deliver", "Pause"]

JOB_EVENT: Final = "request.status.updated"
"""The event that dryAPI publishes for a job (its documentation, WebSocket)."""

Deliver: TypeAlias = Callable[[Sequence[ChannelEvent], int], None]
"""
Takes a run's job events and when they were read (microseconds since the epoch).

It is called for each run of the socket, returns at once and doesn't raise.
"""

Pause: TypeAlias = Callable[[], Awaitable[None]]
"""
Awaited after each delivery, before more is read: slows down what comes too fast.

It returns at once as a rule, and within seconds always: while it lasts no
ping is answered, and what a server can't send it drops some time.
"""

_Task: TypeAlias = Callable[[], Awaitable[Ending | None]]
_Start: TypeAlias = Callable[[_Task], None]

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
        channel: The channel to subscribe.
        url: Where to connect to.
        settings: Deadlines and limits.
        connect: Opens a WebSocket.
        authorizer: Signs the socket id.
        deliver: Takes job events.
        pause: Awaited after each delivery.
        statistics: What to count in.
        clock: The wall clock.
        jitter: Where chance comes from.

    Attributes:
        subscribed_at: When the subscription was acknowledged (monotonic); None
            if it never was.
    """

    def __init__(  # noqa: PLR0913 - the session's parts, each given once
        self,
        *,
        channel: str,
        url: str,
        settings: PusherSettings,
        connect: Connect,
        authorizer: ChannelAuthorizer,
        deliver: Deliver,
        pause: Pause,
        statistics: Statistics,
        clock: Clock,
        jitter: random.Random,
    ) -> None:
        self._channel = channel
        self._url = url
        self._settings = settings
        self._connect = connect
        self._authorizer = authorizer
        self._deliver = deliver
        self._pause = pause
        self._statistics = statistics
        self._clock = clock
        self._jitter = jitter
        self._lifecycle = Lifecycle()
        self._last_words = LastWords()
        self._opening = trio.CancelScope()
        self._ending: Ending | None = None
        self._keep_alive: KeepAlive | None = None
        self._enrolment: Enrolment | None = None
        self.subscribed_at: float | None = None

    async def run(self) -> Ending:
        """
        Connect and stay connected as long as it goes.

        Returns:
            How it ended.
        """
        self._step(LocalStep.DIALLED)
        timeout_seconds = self._settings.connect_timeout_seconds
        # Name, TCP, TLS, upgrade and socket id together; lifted by the last.
        self._opening.deadline = trio.current_time() + timeout_seconds
        try:
            with self._opening:
                async with self._connect(self._url) as connection:
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
        self._statistics.last_ended_at_us = self._clock()
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

            start(lambda: self._receive(connection, start))

    async def _receive(self, connection: Connection, start: _Start) -> Ending:
        """Read until the connection ends; the only loop that sees each event."""
        statistics, channel = self._statistics, self._channel
        while True:
            try:
                # No deadline: a quiet channel is no fault, and pings watch it.
                run = await connection.receive_run()
            except ConnectionLostError as error:
                return self._last_words.lost(error, trio.current_time())
            received_at_us = self._clock()
            statistics.frames += len(run)
            statistics.last_frame_at = trio.current_time()
            statistics.last_frame_at_us = received_at_us
            jobs = []
            ending = None
            for message in run:
                event = decode(message)
                if type(event) is not ChannelEvent:
                    ending = ending or self._control(event, connection, start)
                elif event.event == JOB_EVENT and event.channel == channel:
                    jobs.append(event)
                else:
                    statistics.other_events += 1
            if jobs:
                statistics.events += len(jobs)
                statistics.last_event_at_us = received_at_us
                self._deliver(jobs, received_at_us)
            if ending is not None:
                return ending
            if jobs:
                await self._pause()

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
        self._keep_alive = KeepAlive(
            connection,
            interval_seconds=min(
                self._settings.activity_timeout_seconds, event.activity_timeout_seconds
            ),
            pong_timeout_seconds=self._settings.pong_timeout_seconds,
            clock=self._clock,
            statistics=self._statistics,
        )
        self._enrolment = Enrolment(
            connection,
            socket_id=event.socket_id,
            channel=self._channel,
            authorizer=self._authorizer,
            settings=self._settings,
            sending=self._sending,
            last_words=self._last_words,
            statistics=self._statistics,
            jitter=self._jitter,
        )
        start(self._keep_alive.ping)
        start(self._keep_alive.answer)
        start(self._enrolment.run)

    def _sending(self) -> None:
        self._step(LocalStep.SUBSCRIBE_SENT)

    def _answered(self, event: SubscriptionSucceeded | SubscriptionError) -> bool:
        """Take an answer to a subscription, if one to this channel is awaited."""
        if event.channel != self._channel or self._enrolment is None:
            return False
        succeeded = isinstance(event, SubscriptionSucceeded)
        if not self._step(
            RemoteStep.ACKNOWLEDGED if succeeded else RemoteStep.REJECTED
        ):
            return False
        if succeeded and self.subscribed_at is None:
            self.subscribed_at = trio.current_time()
            self._statistics.last_subscribed_at = self.subscribed_at
            self._statistics.last_subscribed_at_us = self._clock()
            self._statistics.connects[Outcome.SUBSCRIBED] += 1
            _log.info(
                "session.subscribed",
                client_id=self._statistics.client_id,
                channel=self._channel,
                subscriptions=self._statistics.connects[Outcome.SUBSCRIBED],
            )
        self._enrolment.answer(event)
        return True

    def _complained(self, event: ServerError) -> None:
        self._statistics.server_errors += 1
        self._last_words.hear(event, trio.current_time())
        _log.warning(
            "session.server_error",
            client_id=self._statistics.client_id,
            code=event.code,
            message=event.message,
        )
