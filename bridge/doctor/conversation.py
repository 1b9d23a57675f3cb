"""
One WebSocket that several accounts share for a moment: greeting and answers.

It hears what concerns the connection and passes events over: Pusher sends them to
every subscriber, so that a bridge beside it misses none.
"""

from __future__ import annotations

from typing import TypeAlias

import trio

from bridge.errors import ConnectionLostError
from bridge.pusher import outgoing
from bridge.pusher.closing import Verdict
from bridge.pusher.ending import Ending, LastWords
from bridge.pusher.protocol import (
    Established,
    ServerError,
    SubscriptionError,
    SubscriptionSucceeded,
    Unrecognised,
    decode,
)
from bridge.pusher.websocket import Connection


__all__ = ["Answer", "Conversation"]

Answer: TypeAlias = SubscriptionSucceeded | SubscriptionError | Ending


class Conversation:
    """
    What is said over a connection.

    Args:
        connection: The open WebSocket.

    Attributes:
        last_words: What the server complained of.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.last_words = LastWords()
        self._answers: dict[str, Answer] = {}
        self._lost: Ending | None = None
        self._news = trio.Event()

    async def greeting(self) -> Established | Ending:
        """Wait for the server's greeting; the caller has a deadline."""
        try:
            while True:
                for message in await self._connection.receive_run():
                    event = decode(message)
                    if isinstance(event, Established):
                        return event
                    if not isinstance(event, ServerError):
                        return _misfit(event)
                    self.last_words.hear(event, trio.current_time())
        except ConnectionLostError as error:
            return self.last_words.lost(error, trio.current_time())

    async def listen(self) -> None:
        """Hear answers until the connection ends; the caller ends it."""
        try:
            # No deadline: whoever waits for an answer has one.
            while True:
                for message in await self._connection.receive_run():
                    self._hear(decode(message))
        except ConnectionLostError as error:
            self._lost = self.last_words.lost(error, trio.current_time())
            self._wake()

    def _hear(self, event: object) -> None:
        if isinstance(event, ServerError):
            self.last_words.hear(event, trio.current_time())
        elif isinstance(event, SubscriptionSucceeded | SubscriptionError):
            self._answers[event.channel] = event
            self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    async def subscribe(self, channel: str, auth: str) -> Answer:
        """Ask for a channel and wait for the answer; the caller has a deadline."""
        try:
            await self._connection.send(outgoing.subscribe(channel, auth))
        except ConnectionLostError as error:
            return self.last_words.lost(error, trio.current_time())
        while channel not in self._answers:
            if self._lost is not None:
                return self._lost
            await self._news.wait()
        return self._answers[channel]


def _misfit(event: object) -> Ending:
    reason = event.reason if isinstance(event, Unrecognised) else "another event"
    return Ending(
        f"the server opened with {reason} instead of connection_established",
        Verdict.RETRY_LATER,
    )
