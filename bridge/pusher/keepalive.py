"""
Pings on a clock, pongs in time.

soketi closes a connection after 120 s without a `pusher:ping`, however busy it
is, and WebSocket pings don't count (measured); other servers drop listeners
that only listen. So a ping goes out at every interval, whatever comes in. A
pong that doesn't come is the only sign of a connection that died without a word.

What the end of a connection leads to is not decided here.
"""

from __future__ import annotations

from typing import Final

import trio

from bridge.errors import ConnectionLostError
from bridge.pusher import outgoing
from bridge.pusher.closing import Verdict
from bridge.pusher.ending import Ending
from bridge.pusher.statistics import Clock, Statistics
from bridge.pusher.websocket import Connection


__all__ = ["KeepAlive"]

# Waking so long after a deadline means that the whole process stood still
# (suspended, starved): what has arrived meanwhile has to be read first.
_STALL_SECONDS: Final = 1.0


class KeepAlive:
    """
    The pings of one connection.

    Args:
        connection: The open WebSocket.
        interval_seconds: From one ping to the next.
        pong_timeout_seconds: From a ping to its pong.
        clock: The wall clock.
        statistics: Where proofs of life are noted.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        interval_seconds: float,
        pong_timeout_seconds: float,
        clock: Clock,
        statistics: Statistics,
    ) -> None:
        self._connection = connection
        self._interval_seconds = interval_seconds
        self._pong_timeout_seconds = pong_timeout_seconds
        self._clock = clock
        self._statistics = statistics
        self._ponged: trio.Event | None = None
        self._pong_owed = trio.Event()

    def ponged(self) -> bool:
        """
        Note the server's pong.

        Returns:
            Whether a ping was waiting for it.
        """
        if self._ponged is None:
            return False
        self._ponged.set()
        return True

    def pinged(self) -> None:
        """Note that the server wants a pong; `answer` sends it."""
        self._pong_owed.set()

    async def ping(self) -> Ending | None:
        """
        Ping for as long as pongs come.

        Returns:
            The end, when one doesn't; None if the connection ended by itself.
        """
        due = trio.current_time() + self._interval_seconds
        while True:
            await trio.sleep_until(due)
            due = trio.current_time() + self._interval_seconds
            sent_at_us = self._clock()
            self._ponged = trio.Event()
            try:
                answered = await self._exchange(self._ponged)
            except ConnectionLostError:
                return None
            if not answered:
                # Nobody would answer a close frame either.
                self._connection.abort()
                return Ending(
                    f"no pong within {self._pong_timeout_seconds:g} s",
                    Verdict.RETRY_NOW,
                )
            self._ponged = None
            self._statistics.proved_until_us = sent_at_us

    async def _exchange(self, ponged: trio.Event) -> bool:
        deadline = trio.current_time() + self._pong_timeout_seconds
        # The sending has the same deadline: a peer that reads nothing is dead.
        with trio.move_on_at(deadline):
            await self._connection.send(outgoing.ping())
            await ponged.wait()
            return True
        if trio.current_time() - deadline > _STALL_SECONDS:
            with trio.move_on_after(self._pong_timeout_seconds):
                await ponged.wait()
                return True
        return ponged.is_set()

    async def answer(self) -> None:
        """Send a pong whenever one is owed; several pings at once get one."""
        while True:
            # No deadline: soketi never pings, and nothing depends on it.
            await self._pong_owed.wait()
            self._pong_owed = trio.Event()
            try:
                await self._connection.send(outgoing.pong())
            except ConnectionLostError:
                return
