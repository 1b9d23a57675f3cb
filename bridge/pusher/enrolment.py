"""
From a socket id to a subscription: authorise, subscribe, wait for the answer.

It may take several requests and two subscribe frames. Each signature is asked
for the socket id that this object was made with, and the object dies with the
connection.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, TypeAlias

import structlog
import trio

from bridge.errors import AuthorizationError, ConnectionLostError
from bridge.pusher import outgoing
from bridge.pusher.authorizer import ChannelAuthorizer
from bridge.pusher.backoff import Backoff
from bridge.pusher.closing import Verdict, judge
from bridge.pusher.ending import Ending, LastWords
from bridge.pusher.protocol import SubscriptionError, SubscriptionSucceeded
from bridge.pusher.statistics import Statistics
from bridge.pusher.websocket import Connection
from bridge.settings import PusherSettings


__all__ = ["Answer", "Enrolment", "refused"]

Answer: TypeAlias = SubscriptionSucceeded | SubscriptionError

# A subscription is sent once more before the connection is given up: soketi
# drops answers to a slow reader, and a signature may meet a restarting server.
_TRIES: Final = 2

# Between a refused subscription and the next: time for what is being rolled out.
_PAUSE_SECONDS: Final = 1.0

# A server that says when to ask again says the same to all accounts of a process.
# 200 of them spread over this come as slowly as their connects do (see `turns`).
_SPREAD_SECONDS: Final = 2.0

_log = structlog.get_logger("bridge.pusher")


class Enrolment:
    """
    One connection's way to its subscription.

    Args:
        connection: The open WebSocket.
        socket_id: The identity that the server gave it.
        channel: The channel to subscribe.
        authorizer: Signs the socket id.
        settings: Deadlines and waits.
        sending: Called before each subscribe frame.
        last_words: What the server complained of on this connection.
        statistics: What to count in.
        jitter: Where chance comes from.

    Attributes:
        auth: The last signature for the channel; good as long as the socket id.
    """

    def __init__(  # noqa: PLR0913 - a connection's parts, each given once
        self,
        connection: Connection,
        *,
        socket_id: str,
        channel: str,
        authorizer: ChannelAuthorizer,
        settings: PusherSettings,
        sending: Callable[[], None],
        last_words: LastWords,
        statistics: Statistics,
        jitter: random.Random,
    ) -> None:
        self._connection = connection
        self._socket_id = socket_id
        self._channel = channel
        self._authorizer = authorizer
        self._settings = settings
        self._sending = sending
        self._last_words = last_words
        self._statistics = statistics
        self._jitter = jitter
        self.auth: str | None = None
        self._answer: Answer | None = None
        self._answered = trio.Event()

    def answer(self, answer: Answer) -> None:
        """
        Take the server's answer to the subscription.

        Args:
            answer: Success or error, for this channel.
        """
        self._answer = answer
        self._answered.set()

    async def run(self) -> Ending | None:
        """
        Subscribe.

        Returns:
            None when the server has acknowledged the subscription, or the
            connection ended by itself; else why it has to end.
        """
        for _ in range(_TRIES):
            if isinstance(self._answer, SubscriptionError):
                # The signature is what the server refused: get another.
                self.auth = None
                await trio.sleep(_PAUSE_SECONDS)
            try:
                self.auth = self.auth or await self._authorize()
                await self._subscribe(self.auth)
            except AuthorizationError as error:
                return Ending(str(error), Verdict.TERMINAL, error.status)
            except ConnectionLostError:
                return None
            if isinstance(self._answer, SubscriptionSucceeded):
                return None
        if isinstance(self._answer, SubscriptionError):
            return refused(self._answer)
        return self._last_words.unanswered(
            f"no answer to {_TRIES} subscriptions within"
            f" {self._settings.subscribe_timeout_seconds:g} s each"
        )

    async def _subscribe(self, auth: str) -> None:
        """Send the subscription and wait for an answer, as long as it may take."""
        self._answer = None
        self._answered = trio.Event()
        self._sending()
        with trio.move_on_after(self._settings.subscribe_timeout_seconds):
            await self._connection.send(outgoing.subscribe(self._channel, auth))
            await self._answered.wait()

    async def _authorize(self) -> str:
        """
        Get a signature, however long it takes: the connection can wait.

        Raises:
            AuthorizationError: Another request would be pointless.
        """
        backoff = Backoff(
            self._settings.backoff_initial_seconds,
            self._settings.backoff_max_seconds,
            self._jitter,
        )
        since = trio.current_time()
        while True:
            try:
                return await self._authorizer.authorize(self._socket_id, self._channel)
            except AuthorizationError as error:
                self._statistics.authorization_failures += 1
                if error.terminal:
                    raise
                delay_seconds = backoff.delay(
                    Verdict.RETRY_LATER, now=trio.current_time(), outage_since=since
                )
                if error.retry_after_seconds is not None:
                    spread_seconds = self._jitter.uniform(0.0, _SPREAD_SECONDS)
                    delay_seconds = max(
                        delay_seconds, error.retry_after_seconds + spread_seconds
                    )
                _log.warning(
                    "authorization.failed",
                    client_id=self._statistics.client_id,
                    reason=str(error),
                    status=error.status,
                    delay_seconds=round(delay_seconds, 3),
                )
            await trio.sleep(delay_seconds)


def refused(error: SubscriptionError) -> Ending:
    """
    Judge a refused subscription: soketi sends HTTP statuses or Pusher codes.

    Args:
        error: The server's answer.

    Returns:
        The end of a connection that tried for nothing.
    """
    status, words = error.status, " ".join(filter(None, (error.kind, error.message)))
    message = f"the server refused channel {error.channel} ({words!r}, {status})"
    if status in {401, 403, 4009}:
        return Ending(
            message,
            Verdict.TERMINAL,
            status,
            "check that pusher.url (BRIDGE_PUSHER_URL), pusher.app_key"
            " (BRIDGE_PUSHER_APP_KEY) and api_url (BRIDGE_API_URL) belong to the same"
            " deployment",
        )
    if status is not None and 4100 <= status < 4200:
        return Ending(message, judge(status).verdict, status)
    return Ending(message, Verdict.RETRY_SLOWLY, status)
