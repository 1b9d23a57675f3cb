"""
The session: one account's channel, kept subscribed for as long as it runs.

`Connection.run` is one connection from top to bottom: connect, expect the server's
greeting, authorize, subscribe, expect the acknowledgement, keep alive. What is read is
delivered by the reading task (`Connection._receive`), without waiting. `Session.run`
makes one connection after the other. What an end means is decided by the table of
`close_codes`, and how long to wait by its `Backoff`.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NoReturn, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import structlog
import trio

from bridge.errors import (
    AuthorizationError,
    ConnectError,
    ConnectionLostError,
    RefusedError,
)
from bridge.pusher.close_codes import (
    Action,
    Backoff,
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
    Ping,
    Pong,
    ServerError,
    SubscriptionError,
    SubscriptionSucceeded,
    Unrecognized,
    channel_of,
    connect_url,
    decode,
    subscribe,
)
from bridge.pusher.websocket import Backpressure, Message, Receive, WebSocket
from bridge.settings import PusherSettings


__all__ = [
    "Authorize",
    "Connect",
    "Connection",
    "Deliver",
    "Note",
    "Outcome",
    "Session",
    "State",
    "Statistics",
]

Authorize: TypeAlias = Callable[[str, str], Awaitable[str]]
"""Signs a socket id for a channel, as `Authorizer.authorize` does."""

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


class Outcome(StrEnum):
    """How far a connection came before it ended: a metric's label."""

    SUBSCRIBED = "subscribed"
    UNREACHABLE = "unreachable"
    NOT_ESTABLISHED = "not_established"
    NOT_AUTHORIZED = "not_authorized"
    NOT_SUBSCRIBED = "not_subscribed"


_OUTCOMES: Final = {
    State.CONNECTING: Outcome.UNREACHABLE,
    State.ESTABLISHING: Outcome.NOT_ESTABLISHED,
    State.AUTHORIZING: Outcome.NOT_AUTHORIZED,
    State.SUBSCRIBING: Outcome.NOT_SUBSCRIBED,
}


@dataclass
class Statistics:
    """One session's numbers; no logic reads them."""

    client_id: str
    state: State = State.DISCONNECTED
    # Messages of every kind, and what became of them.
    frames: int = 0
    events: int = 0
    other_events: int = 0
    unrecognized: int = 0
    # `subscribed` is counted when it begins, the others at the connection's end.
    connects: Counter[Outcome] = field(default_factory=Counter)
    probes: Counter[ProbeOutcome] = field(default_factory=Counter)
    # A text without secrets; None again as soon as the account is subscribed.
    refused_reason: str | None = None
    last_frame_at_us: int | None = None
    last_close_code: int | None = None

    @property
    def subscribed(self) -> bool:
        """Whether events can arrive at this moment."""
        return self.state is State.SUBSCRIBED


def _ignore(*_: object, **__: object) -> None:
    """Take what nobody wants to know."""


class Connection:
    """
    One connection of one session.

    Attributes:
        state: How far it has come.
        subscribed_at: When the subscription was acknowledged (monotonic); None if it
            never was.
    """

    def __init__(self, session: Session, note: Note | None = None) -> None:
        self._session = session
        self._statistics = session.statistics
        self._is_recorded = note is not None
        self._note = note or _ignore
        self.state = State.DISCONNECTED
        self.subscribed_at: float | None = None
        # What the linear part waits for: the first control event of its state.
        self._answer: ControlEvent | None = None
        self._answered = trio.Event()
        self._error: ServerError | None = None
        self._error_at = 0.0
        self._websocket: WebSocket | None = None
        self._keep_alive: KeepAlive | None = None

    @property
    def is_probed(self) -> bool:
        """Whether the server acknowledges repeated subscriptions, as far as known."""
        return self._keep_alive is not None and self._keep_alive.probed

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """
        Connect, subscribe and stay subscribed; `started` when it is.

        Raises:
            EndedError: The connection ended, for whatever reason but cancellation.
        """
        try:
            try:
                with self._session.stalls.watched(self._stalled):
                    await self._run(task_status)
            except (ConnectError, ConnectionLostError) as error:
                since_error = trio.current_time() - self._error_at
                is_recent = since_error < _ERROR_BEFORE_END_SECONDS
                raise lost(error, self._error if is_recent else None) from error
        except EndedError as ended:
            cause = ended.__cause__ or ended
            self._note("ended", error=type(cause).__name__, code=ended.code)
            self._statistics.last_close_code = ended.code
            if self.subscribed_at is None:
                self._statistics.connects[_OUTCOMES[self.state]] += 1
            raise
        finally:
            self._enter(State.DISCONNECTED)
            self._note("closed")

    async def _run(self, task_status: trio.TaskStatus[None]) -> NoReturn:
        session, settings = self._session, self._session.settings
        self._enter(State.CONNECTING)
        self._note("dialed", scheme=session.url.partition(":")[0])
        # Name, TCP, TLS, upgrade and greeting together.
        with trio.move_on_after(settings.connect_timeout_seconds) as opening:
            async with session.connect(
                session.url, self._receive, self._hold_back
            ) as websocket:
                self._websocket = websocket
                self._enter(State.ESTABLISHING)
                self._note("opened")
                established = await self._greeting()
                opening.deadline = math.inf
                self._keep_alive = KeepAlive(
                    session.client_id,
                    self._send,
                    websocket.abort,
                    session.coverage,
                    settings,
                    activity_timeout_seconds=established.activity_timeout_seconds,
                    has_jobs=session.has_jobs,
                    probes=self._statistics.probes,
                )
                frame = await self._subscribe(established.socket_id)
                self._keep_alive.subscription = frame
                task_status.started()
                await self._keep_alive.run()
        raise unanswered(
            f"no connection within {settings.connect_timeout_seconds:g} s"
            if self.state is State.CONNECTING
            else f"no connection_established within"
            f" {settings.connect_timeout_seconds:g} s",
            self._error,
        )

    async def _greeting(self) -> Established:
        """Wait for the socket id; the caller has a deadline."""
        await self._answered.wait()
        answer = self._answer
        if isinstance(answer, Established):
            return answer
        reason = answer.reason if isinstance(answer, Unrecognized) else "another event"
        raise EndedError(
            f"the server opened with {reason} instead of connection_established",
            Action.RETRY_LATER,
        )

    async def _subscribe(self, socket_id: str) -> str:
        """Authorize and subscribe; give the frame that the server acknowledged."""
        timeout_seconds = self._session.settings.subscribe_timeout_seconds
        frame = ""
        for _ in range(_TRIES):
            if isinstance(self._answer, SubscriptionError):
                # The signature is what the server refused: get another one.
                frame = ""
                await trio.sleep(_PAUSE_SECONDS)
            frame = frame or await self._signed(socket_id)
            self._enter(State.SUBSCRIBING)
            self._expect()
            with trio.move_on_after(timeout_seconds):
                await self._send(frame)
                await self._answered.wait()
            if isinstance(self._answer, SubscriptionSucceeded):
                return frame
        if isinstance(self._answer, SubscriptionError):
            raise refused_subscription(self._answer)
        raise unanswered(
            f"no answer to {_TRIES} subscriptions within {timeout_seconds:g} s each",
            self._error,
        )

    async def _signed(self, socket_id: str) -> str:
        """Get a signature and build the subscription with it."""
        session = self._session
        self._enter(State.AUTHORIZING)
        self._note("authorizing")
        try:
            auth = await session.authorize(socket_id, session.channel)
        except AuthorizationError as error:
            self._note(
                "not_authorized",
                status=error.status,
                retry_after_seconds=error.retry_after_seconds,
                terminal=error.terminal,
            )
            raise EndedError(
                str(error),
                Action.TERMINAL if error.terminal else Action.RETRY_LATER,
                error.status,
                retry_after_seconds=error.retry_after_seconds,
            ) from error
        self._note("authorized")
        return subscribe(session.channel, auth)

    async def _send(self, frame: str) -> None:
        assert self._websocket is not None
        # Before: its answer must come behind it.
        self._note("sent", text=frame)
        await self._websocket.send(frame)

    def _expect(self) -> None:
        self._answer, self._answered = None, trio.Event()

    def _enter(self, state: State) -> None:
        self.state = self._statistics.state = state

    # -- What is read, in the reading task ------------------------------------

    def _receive(self, messages: Sequence[Message]) -> bool:
        """Deliver job events and act on the others; never waits."""
        session, statistics = self._session, self._statistics
        coverage, channel = session.coverage, session.channel
        received_at_us = coverage.now_us()
        # Before any of it counts as read in time.
        session.stalls.look()
        if coverage.suspended:
            coverage.waited(messages)
        if self._is_recorded:
            for message in messages:
                self._note("received", text=message)
        statistics.frames += len(messages)
        statistics.last_frame_at_us = received_at_us
        jobs = []
        for message in messages:
            event = decode(message)
            if type(event) is not ChannelEvent:
                self._control(event)
            elif event.event == JOB_EVENT and event.channel == channel:
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
            session.deliver(jobs, received_at_us)
        return bool(jobs)

    def _control(self, event: ControlEvent) -> None:
        """Act on what isn't an event of a channel; what isn't expected is ignored."""
        keep_alive = self._keep_alive
        if isinstance(event, ServerError):
            self._server_error(event)
            return
        if isinstance(event, Unrecognized):
            self._statistics.unrecognized += 1
        if keep_alive is None:
            self._take(event)
        elif isinstance(event, Pong):
            keep_alive.pong()
        elif isinstance(event, Ping):
            keep_alive.ping()
        elif (
            isinstance(event, SubscriptionSucceeded | SubscriptionError)
            and event.channel == self._session.channel
        ):
            if self.state is State.SUBSCRIBING:
                if isinstance(event, SubscriptionSucceeded):
                    self._subscribed()
                self._take(event)
            elif isinstance(event, SubscriptionSucceeded):
                # Only the server can send it, but errors of this name can be forged.
                keep_alive.acknowledged()

    def _take(self, event: ControlEvent) -> None:
        """Hand the first answer to the linear part."""
        if not self._answered.is_set():
            self._answer = event
            self._answered.set()

    def _subscribed(self) -> None:
        # At once: the next event of the same read came through the subscription.
        session, statistics = self._session, self._statistics
        self._enter(State.SUBSCRIBED)
        self.subscribed_at = trio.current_time()
        statistics.connects[Outcome.SUBSCRIBED] += 1
        statistics.refused_reason = None
        session.coverage.subscribed()
        _log.info(
            "session.subscribed",
            client_id=session.client_id,
            channel=session.channel,
            subscriptions=statistics.connects[Outcome.SUBSCRIBED],
        )

    def _server_error(self, event: ServerError) -> None:
        self._error, self._error_at = event, trio.current_time()
        if self._keep_alive is not None:
            self._keep_alive.error()
        _log.warning(
            "session.server_error",
            client_id=self._session.client_id,
            code=event.code,
            message=event.message,
        )

    async def _hold_back(self) -> None:
        since = trio.current_time()
        await self._session.backpressure()
        if trio.current_time() - since > _LONG_PAUSE_SECONDS:
            self._stalled()

    def _stalled(self) -> None:
        """Take nothing as a proof until a new ping is answered."""
        self._session.coverage.stalled()
        if self._keep_alive is not None:
            self._keep_alive.hasten()


class Session:
    """
    Keeps one account's channel subscribed.

    A refusal (wrong token, unknown app) is final at once for a session that was never
    subscribed: a setting is wrong. One that has worked is refused for good when that
    has lasted for `pusher.refused_timeout_seconds`, since an incident or a deployment
    may answer 401 for some minutes. Other ends in between neither end nor prove a
    refusal: two in a row are needed, so that a network outage between two refusals
    ends nothing.

    Args:
        client_id: The account.
        settings: Where, and how long to wait for what.
        authorize: Signs a socket id for the channel.
        connect: Opens a WebSocket.
        deliver: Takes job events.
        coverage: The account's watermarks.
        backpressure: Awaited before more is read.
        has_jobs: Whether jobs of the account are known to be in flight.
        stalls: Finds suspensions of the process; one for all sessions.
        recording: Makes a connection's `note`, for `--record`.
        spread_seconds: Connects of all sessions in the same moment are spread over it.
        jitter: The source of randomness.

    Attributes:
        statistics: What the session counts.
        coverage: The account's watermarks.

    Raises:
        ConfigError: The client id or the URL can't be used.
    """

    def __init__(  # noqa: PLR0913 - what has a default is a seam or an extra
        self,
        client_id: str,
        settings: PusherSettings,
        authorize: Authorize,
        connect: Connect,
        deliver: Deliver = _ignore,
        *,
        coverage: Coverage | None = None,
        backpressure: Backpressure = trio.lowlevel.checkpoint_if_cancelled,
        has_jobs: Callable[[], bool] = lambda: False,
        stalls: Stalls | None = None,
        recording: Callable[[str], Note] | None = None,
        spread_seconds: float = 0.0,
        jitter: random.Random | None = None,
    ) -> None:
        # What a connection uses.
        self.client_id = client_id
        self.channel = channel_of(client_id)
        self.url = self._configured_url = connect_url(settings.url, settings.app_key)
        self.settings = settings
        self.authorize = authorize
        self.connect = connect
        self.deliver = deliver
        self.backpressure = backpressure
        self.has_jobs = has_jobs
        self.stalls = stalls or Stalls()
        self.statistics = Statistics(client_id)
        self.coverage = coverage or Coverage()
        self._recording = recording
        self._backoff = Backoff(
            settings.backoff_initial_seconds,
            settings.backoff_max_seconds,
            spread_seconds=spread_seconds,
            jitter=jitter or random.Random(),
        )
        self._connection: Connection | None = None
        self._refused_since: float | None = None
        self._refused_last = self._refused_for_good = False

    @property
    def is_refused(self) -> bool:
        """Whether dryAPI refused it for good, and it was not subscribed since."""
        connection = self._connection
        is_subscribed = connection is not None and connection.subscribed_at is not None
        return self._refused_for_good and not is_subscribed

    async def run(self) -> NoReturn:
        """
        Connect, and connect again, until cancelled.

        Cancelling it closes the socket with code 1000 within a second. It may be
        called again after it raised: it waits first, and raises at the next refusal
        unless it was subscribed before.

        Raises:
            RefusedError: DryAPI refuses for good; the message says what to do.
        """
        outage_since = trio.current_time()
        if self.is_refused:
            await trio.sleep(self._backoff.delay(Action.TERMINAL, outage_seconds=0.0))
        else:
            await trio.sleep(self._backoff.spread())
        while True:
            note = self._recording and self._recording(self.client_id)
            connection = self._connection = Connection(self, note)
            try:
                await connection.run()
            except EndedError as error:
                ended = error
            finally:
                self._connection = None
            now = trio.current_time()
            action = self._action(ended)
            if connection.subscribed_at is not None:
                outage_since = now
                if now - connection.subscribed_at >= self.settings.stable_after_seconds:
                    self._backoff.reset()
                self._worked(ended, action, connection)
            elif action is not Action.USE_TLS:
                # The server may no longer ask for TLS, if TLS leads nowhere.
                self.url = self._configured_url
            self._check_refusal(ended, action, now)
            delay_seconds = self._backoff.delay(
                action,
                outage_seconds=now - outage_since,
                retry_after_seconds=ended.retry_after_seconds,
            )
            _log.warning(
                "session.failed"
                if connection.subscribed_at is None
                else "session.lost",
                client_id=self.client_id,
                code=ended.code,
                reason=_reason(ended),
                action=str(action),
                delay_seconds=round(delay_seconds, 3),
            )
            await trio.sleep(delay_seconds)

    def _action(self, ended: EndedError) -> Action:
        """Decide what an end means for this session's address."""
        if ended.action is not Action.USE_TLS:
            return ended.action
        if not self.url.startswith("ws:"):
            return Action.TERMINAL
        self.url = _over_tls(self.url)
        return Action.USE_TLS

    def _worked(
        self, ended: EndedError, action: Action, connection: Connection
    ) -> None:
        """Report what may be missed from the end of a subscribed connection on."""
        self._refused_since = None
        self._refused_last = self._refused_for_good = False
        cause = Cause.DEAF if ended.deaf else Cause.DISCONNECTED
        if action is Action.TERMINAL:
            cause = Cause.REFUSED
        self.coverage.lost(cause, ended.code, probed=connection.is_probed)

    def _check_refusal(self, ended: EndedError, action: Action, now: float) -> None:
        """Raise `RefusedError` if dryAPI refuses for good."""
        refused_before, self._refused_last = (
            self._refused_last,
            action is Action.TERMINAL,
        )
        if not self._refused_last:
            return
        message = f"dryAPI refuses the session: {_reason(ended)}"
        self.statistics.refused_reason = message
        if self._refused_since is None:
            self._refused_since = now
            refused_before = True
        has_worked = self.coverage.connection_us is not None
        has_lasted = (
            refused_before
            and now - self._refused_since >= self.settings.refused_timeout_seconds
        )
        if not self.is_refused and has_worked and not has_lasted:
            return
        if not self._refused_for_good:
            # Once: health and a metric show it for as long as it lasts.
            _log.error(
                "session.refused",
                client_id=self.client_id,
                code=ended.code,
                reason=message,
            )
        self._refused_for_good = True
        raise RefusedError(message, code=ended.code) from ended


def _reason(ended: EndedError) -> str:
    return f"{ended}; {ended.hint}" if ended.hint else str(ended)


def _over_tls(url: str) -> str:
    """Give a `ws://` address its `wss://` form; port 80 becomes the default one."""
    parts = urlsplit(url)
    netloc = parts.netloc.removesuffix(":80")
    return urlunsplit(("wss", netloc, parts.path, parts.query, parts.fragment))
