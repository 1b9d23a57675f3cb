"""
One connection of an account's channel.

`Connection.run` is the whole of a connection: connect, expect the server's greeting,
authorize, subscribe, expect the acknowledgement, keep alive. The reading task
(`Connection._receive`) delivers events without waiting. The table of `close_codes`
decides what an end means, and the session what follows it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, NoReturn, TypeAlias

import structlog
import trio

from bridge.errors import AuthorizationError, ConnectError, ConnectionLostError
from bridge.metric import counter, gauge
from bridge.pusher import protocol
from bridge.pusher.close_codes import (
    Action,
    EndedError,
    lost,
    refused_subscription,
    unanswered,
)
from bridge.pusher.coverage import Cause, Coverage, Stalls
from bridge.pusher.keepalive import KeepAlive, ProbeOutcome
from bridge.pusher.protocol import (
    JOB_EVENT,
    ChannelEvent,
    ControlEvent,
    Established,
    decode,
)
from bridge.pusher.websocket import Backpressure, Message, Receive, WebSocket
from bridge.settings import PusherSettings


__all__ = [
    "Authorize",
    "Channel",
    "Connect",
    "Connection",
    "Deliver",
    "Note",
    "State",
    "Statistics",
]

Authorize: TypeAlias = Callable[[str, str], Awaitable[str]]
"""Signs a socket id for a channel, as `authorizer.authorize` does."""

Connect: TypeAlias = Callable[
    [str, Receive, Backpressure], AbstractAsyncContextManager[WebSocket]
]
"""Opens a WebSocket to a URL that delivers what is read, as `open_websocket` does."""

Deliver: TypeAlias = Callable[[Sequence[ChannelEvent], int], None]
"""
Takes a read's job events and when they were read (microseconds since the epoch).

It returns at once and doesn't raise.
"""

Note: TypeAlias = Callable[..., None]
"""Takes what happens on one connection: `note(kind, text=None, **members)`."""

# A subscription is sent once more before the connection is abandoned: soketi drops
# answers to a slow reader, and a signature may meet a restarting server.
_TRIES: Final = 2

# Between a refused subscription and the next: time for what is being rolled out.
_PAUSE_SECONDS: Final = 1.0

# soketi and Reverb send `pusher:error` and end the connection in the same moment. An
# error that came long before the end doesn't explain it.
_ERROR_BEFORE_END_SECONDS: Final = 5.0

# Backpressure of this length counts as a stall of the process: a server that sends more
# than a megabyte a second drops what it can't send.
_LONG_PAUSE_SECONDS: Final = 1.0

_log = structlog.get_logger("bridge.pusher")


class State(StrEnum):
    """How far a connection has come."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    ESTABLISHING = "establishing"
    AUTHORIZING = "authorizing"
    SUBSCRIBING = "subscribing"
    SUBSCRIBED = "subscribed"


# How far a connection came before it ended: a metric's label.
_OUTCOMES: Final = {
    State.CONNECTING: "unreachable",
    State.ESTABLISHING: "not_established",
    State.AUTHORIZING: "not_authorized",
    State.SUBSCRIBING: "not_subscribed",
    State.SUBSCRIBED: "subscribed",
}


@dataclass
class Statistics:
    """One channel's numbers; no logic reads them."""

    client_id: str
    state: State = State.DISCONNECTED
    # Messages of every kind, and what became of them.
    frames: Annotated[
        int, counter("bridge_frames_received", "Text frames read from the socket.")
    ] = 0
    unrecognized: Annotated[
        int, counter("bridge_frames_unrecognized", "Text frames that can't be decoded.")
    ] = 0
    events: Annotated[
        int, counter("bridge_events_received", "Job-status events read.")
    ] = 0
    other_events: Annotated[
        int, counter("bridge_events_filtered", "Events of another name or channel.")
    ] = 0
    # `subscribed` is counted when it begins, the others at the connection's end.
    connects: Annotated[
        Counter[str],
        counter(
            "bridge_connects",
            "Attempts to connect and subscribe, by outcome.",
            "outcome",
        ),
    ] = field(default_factory=Counter)
    probes: Annotated[
        Counter[ProbeOutcome],
        counter(
            "bridge_probes",
            "Subscriptions repeated to check that they are still valid, by outcome.",
            "outcome",
        ),
    ] = field(default_factory=Counter)
    # A text without secrets; None again as soon as the account is subscribed.
    refused_reason: str | None = None
    last_frame_at_us: Annotated[
        int | None,
        gauge(
            "bridge_last_frame_timestamp_seconds",
            "When the last text frame was read, since the epoch; absent before the"
            " first.",
            divisor=1_000_000,
        ),
    ] = None
    last_close_code: int | None = None

    @property
    def subscribed(
        self,
    ) -> Annotated[
        bool, gauge("bridge_subscribed", "Whether the channel is subscribed (1).")
    ]:
        """Whether events can arrive at this moment."""
        return self.state is State.SUBSCRIBED

    @property
    def is_refused(
        self,
    ) -> Annotated[
        bool, gauge("bridge_account_refused", "Whether dryAPI refuses the account (1).")
    ]:
        """Whether dryAPI has refused the account, and it wasn't subscribed since."""
        return self.refused_reason is not None


def _ignore(*_: object, **__: object) -> None:
    """Ignore what no caller wants to know."""


@dataclass
class Channel:
    """One account's channel: what its connections use, and what they find out."""

    client_id: str
    settings: PusherSettings
    authorize: Authorize
    connect: Connect
    deliver: Deliver = _ignore
    coverage: Coverage = field(default_factory=Coverage)
    # Awaited before more is read.
    backpressure: Backpressure = trio.lowlevel.checkpoint_if_cancelled
    # Whether jobs of the account are known to be in flight.
    has_jobs: Callable[[], bool] = lambda: False
    # Finds suspensions of the process; one for all channels.
    stalls: Stalls = field(default_factory=Stalls)
    # Refused for good, and not subscribed since.
    is_refused: bool = False

    def __post_init__(self) -> None:
        self.name = protocol.channel_of(self.client_id)
        self.url = protocol.connect_url(self.settings.url, self.settings.app_key)
        self.statistics = Statistics(self.client_id)


class Connection:
    """One connection; `subscribed_at` (monotonic) is None if it never was."""

    def __init__(self, channel: Channel, note: Note | None = None) -> None:
        self._channel = channel
        self._statistics = channel.statistics
        self._note = note or _ignore
        self._state = State.DISCONNECTED
        self.subscribed_at: float | None = None
        # What the linear part waits for: the first control event of its state.
        self._answer: ControlEvent | None = None
        self._answered = trio.Event()
        self._error: protocol.ServerError | None = None
        self._error_at = 0.0
        self._websocket: WebSocket | None = None
        self._keep_alive: KeepAlive | None = None

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """
        Connect, subscribe and stay subscribed; `started` when it is.

        Raises:
            EndedError: The connection ended, for whatever reason but cancellation.
        """
        stalls = self._channel.stalls
        stalls.watchers.add(self._stalled)
        try:
            try:
                await self._run(task_status)
            except (AuthorizationError, ConnectError, ConnectionLostError) as error:
                since_error = trio.current_time() - self._error_at
                is_recent = since_error < _ERROR_BEFORE_END_SECONDS
                raise lost(error, self._error if is_recent else None) from error
            finally:
                # A stall that explains the end may not have been found yet.
                stalls.look()
        except EndedError as ended:
            self._ended(ended)
            raise
        finally:
            stalls.watchers.remove(self._stalled)
            self._enter(State.DISCONNECTED)
            self._note("closed")

    async def _run(self, task_status: trio.TaskStatus[None]) -> NoReturn:
        channel, settings = self._channel, self._channel.settings
        self._enter(State.CONNECTING)
        self._note("dialed", scheme=channel.url.partition(":")[0])
        # Name, TCP, TLS, upgrade and greeting together.
        seconds = settings.timeout_seconds
        with trio.move_on_after(seconds) as opening:
            async with channel.connect(
                channel.url, self._receive, self._hold_back
            ) as websocket:
                self._websocket = websocket
                self._enter(State.ESTABLISHING)
                self._note("opened")
                established = await self._greeting()
                opening.deadline = math.inf
                self._keep_alive = KeepAlive(
                    channel.client_id,
                    self._send,
                    websocket.abort,
                    channel.coverage,
                    settings,
                    min(
                        settings.activity_timeout_seconds,
                        established.activity_timeout_seconds,
                    ),
                    channel.has_jobs,
                    self._statistics.probes,
                )
                frame = await self._subscribe(established.socket_id)
                self._keep_alive.subscription = frame
                task_status.started()
                await self._keep_alive.run()
        is_open = self._state is not State.CONNECTING
        missing = "connection_established" if is_open else "connection"
        raise unanswered(f"no {missing} within {seconds:g} s", self._error)

    async def _greeting(self) -> Established:
        """Wait for the socket id; the caller has a deadline."""
        await self._answered.wait()
        answer = self._answer
        if isinstance(answer, Established):
            return answer
        reason = (
            answer.reason
            if isinstance(answer, protocol.Unrecognized)
            else "another event"
        )
        raise EndedError(
            f"the server opened with {reason} instead of connection_established",
            Action.RETRY_LATER,
        )

    async def _subscribe(self, socket_id: str) -> str:
        """Authorize and subscribe; give the frame that the server acknowledged."""
        seconds = self._channel.settings.timeout_seconds
        frame = ""
        for _ in range(_TRIES):
            if isinstance(self._answer, protocol.SubscriptionError):
                # The signature is what the server refused: get another one.
                frame = ""
                await trio.sleep(_PAUSE_SECONDS)
            frame = frame or await self._signed(socket_id)
            self._enter(State.SUBSCRIBING)
            self._expect()
            with trio.move_on_after(seconds):
                await self._send(frame)
                await self._answered.wait()
            if isinstance(self._answer, protocol.SubscriptionSucceeded):
                return frame
        if isinstance(self._answer, protocol.SubscriptionError):
            raise refused_subscription(self._answer)
        missing = f"no answer to {_TRIES} subscriptions within {seconds:g} s each"
        raise unanswered(missing, self._error)

    async def _signed(self, socket_id: str) -> str:
        """Get a signature and build the subscription with it."""
        channel = self._channel
        self._enter(State.AUTHORIZING)
        self._note("authorizing")
        auth = await channel.authorize(socket_id, channel.name)
        self._note("authorized")
        return protocol.subscribe(channel.name, auth)

    async def _send(self, frame: str) -> None:
        assert self._websocket is not None
        # Before: its answer must come behind it.
        self._note("sent", text=frame)
        await self._websocket.send(frame)

    def _expect(self) -> None:
        self._answer, self._answered = None, trio.Event()

    def _enter(self, state: State) -> None:
        self._state = self._statistics.state = state

    def _count(self) -> None:
        self._statistics.connects[_OUTCOMES[self._state]] += 1

    def _ended(self, ended: EndedError) -> None:
        """Report the end, and what may be missed from then on."""
        error = type(ended.__cause__ or ended).__name__
        self._note("ended", error=error, code=ended.code)
        self._statistics.last_close_code = ended.code
        if self.subscribed_at is None or self._keep_alive is None:
            self._count()
            return
        cause = Cause.DEAF if ended.deaf else Cause.DISCONNECTED
        if ended.action is Action.TERMINAL:
            cause = Cause.REFUSED
        probed = self._keep_alive.probed
        self._channel.coverage.lost(cause, ended.code, probed=probed)

    # -- What is read, in the reading task ------------------------------------

    def _receive(self, messages: Sequence[Message]) -> bool:
        """Deliver job events and act on the others; never waits."""
        channel, statistics = self._channel, self._statistics
        coverage, name = channel.coverage, channel.name
        received_at_us = coverage.now_us()
        # Before any of it counts as read in time.
        channel.stalls.look()
        if coverage.suspended:
            coverage.waited(messages)
        if self._note is not _ignore:
            for message in messages:
                self._note("received", text=message)
        statistics.frames += len(messages)
        statistics.last_frame_at_us = received_at_us
        jobs = []
        for message in messages:
            event = decode(message)
            if type(event) is not ChannelEvent:
                self._control(event)
            elif event.event == JOB_EVENT and event.channel == name:
                jobs.append(event)
                # Each by itself: a pong may come between two of a read.
                coverage.event()
            else:
                statistics.other_events += 1
        if jobs:
            statistics.events += len(jobs)
            # Without one, the server sent an event before its greeting.
            if self._keep_alive is not None:
                self._keep_alive.event()
            channel.deliver(jobs, received_at_us)
        return bool(jobs)

    def _control(self, event: ControlEvent) -> None:
        """Act on what isn't an event of a channel; what isn't expected is ignored."""
        keep_alive, name = self._keep_alive, self._channel.name
        if isinstance(event, protocol.Unrecognized):
            self._statistics.unrecognized += 1
        match event:
            case protocol.ServerError():
                self._server_error(event)
            case _ if keep_alive is None:
                self._take(event)
            case protocol.Pong():
                keep_alive.pong()
            case protocol.Ping():
                keep_alive.ping()
            case protocol.SubscriptionSucceeded(channel) if channel != name:
                pass
            case protocol.SubscriptionSucceeded() if self._state is State.SUBSCRIBED:
                # Only the server can send it, but errors of this name can be forged.
                keep_alive.acknowledged()
            case protocol.SubscriptionSucceeded() if self._state is State.SUBSCRIBING:
                self._subscribed()
                self._take(event)
            case protocol.SubscriptionError(channel) if (
                channel == name and self._state is State.SUBSCRIBING
            ):
                self._take(event)

    def _take(self, event: ControlEvent) -> None:
        """Hand the first answer to the linear part."""
        if not self._answered.is_set():
            self._answer = event
            self._answered.set()

    def _subscribed(self) -> None:
        # At once: the next event of the same read came through the subscription.
        channel, statistics = self._channel, self._statistics
        self._enter(State.SUBSCRIBED)
        self.subscribed_at = trio.current_time()
        self._count()
        statistics.refused_reason = None
        channel.is_refused = False
        channel.coverage.subscribed()
        _log.info(
            "session.subscribed",
            client_id=channel.client_id,
            channel=channel.name,
            subscriptions=statistics.connects[_OUTCOMES[State.SUBSCRIBED]],
        )

    def _server_error(self, event: protocol.ServerError) -> None:
        self._error, self._error_at = event, trio.current_time()
        if self._keep_alive is not None:
            self._keep_alive.error()
        _log.warning(
            "session.server_error",
            client_id=self._channel.client_id,
            code=event.code,
            message=event.message,
        )

    async def _hold_back(self) -> None:
        since = trio.current_time()
        await self._channel.backpressure()
        if trio.current_time() - since > _LONG_PAUSE_SECONDS:
            self._stalled()

    def _stalled(self) -> None:
        """Take nothing as a proof until a new ping is answered."""
        self._channel.coverage.stalled()
        if self._keep_alive is not None:
            self._keep_alive.hasten()
