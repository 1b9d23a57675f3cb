"""
Pings on a clock, pongs in time.

soketi closes a connection after 120 s without a `pusher:ping`, however busy it
is, and WebSocket pings don't count (measured); other servers drop listeners
that only listen. So a ping goes out at every interval, whatever comes in. A
pong that doesn't come is the only sign of a connection that died without a word.

While events come, there are more: a gap begins where the last answered ping was sent,
and with events on their way it matters how long ago that was.

What the end of a connection leads to is not decided here.
"""

from __future__ import annotations

from typing import Final

import trio

from bridge.errors import ConnectionLostError
from bridge.pusher import outgoing
from bridge.pusher.closing import Verdict
from bridge.pusher.continuity import Continuity
from bridge.pusher.ending import Ending
from bridge.pusher.patience import answered
from bridge.pusher.websocket import Connection


__all__ = ["KeepAlive"]

# How much too early a gap may begin for want of a newer ping, while events come. Half
# as much would be twice the pings for every account that is heard of at all.
_PROOF_SECONDS: Final = 2.0


class KeepAlive:
    """
    The pings of one connection.

    Args:
        connection: The open WebSocket.
        interval_seconds: From one ping to the next.
        pong_timeout_seconds: From a ping to its pong.
        continuity: Where proofs of life are noted.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        interval_seconds: float,
        pong_timeout_seconds: float,
        continuity: Continuity,
    ) -> None:
        self._connection = connection
        self._interval_seconds = interval_seconds
        self._pong_timeout_seconds = pong_timeout_seconds
        self._continuity = continuity
        # When the next ping is due, and when it is due if an event comes before.
        self._proof_due = trio.current_time()
        self._due = self._proof_due + interval_seconds
        self._wait = trio.CancelScope(deadline=self._due)
        self._urged = trio.Event()
        self._ponged: trio.Event | None = None
        self._pong_owed = trio.Event()
        self._pings = 0
        self._pongs = 0
        self._proof = trio.lowlevel.ParkingLot()

    def urge(self) -> None:
        """Have a ping sent at once, or as soon as the last one's pong has come."""
        self._urged.set()

    def heard(self) -> None:
        """Have a ping sent soon, so that it proves what came before the event too."""
        if self._due > self._proof_due:
            self._wait.deadline = self._due = self._proof_due

    def ponged(self) -> bool:
        """
        Note the server's pong.

        Returns:
            Whether a ping was waiting for it.
        """
        if self._ponged is None or self._ponged.is_set():
            return False
        self._ponged.set()
        self._continuity.ponged()
        self._pongs = self._pings
        self._proof.unpark_all()
        return True

    async def proof(self) -> None:
        """Wait until a ping is answered that is sent from now on."""
        # No deadline: a pong that doesn't come ends the connection.
        pings = self._pings
        while self._pongs <= pings:
            await self._proof.park()

    def pinged(self) -> None:
        """Note that the server wants a pong; `answer` sends it."""
        self._pong_owed.set()

    async def ping(self) -> Ending | None:
        """
        Ping for as long as pongs come.

        Returns:
            The end, when one doesn't; None if the connection ended by itself.
        """
        while True:
            with self._wait:
                await self._urged.wait()
            now = trio.current_time()
            self._proof_due = now + _PROOF_SECONDS
            self._due = now + self._interval_seconds
            # Entered when the pong has come; an event may be heard before.
            self._wait = trio.CancelScope(deadline=self._due)
            self._urged = trio.Event()
            ponged = self._ponged = trio.Event()
            self._pings += 1
            self._continuity.pinging()
            try:
                in_time = await answered(
                    lambda: self._connection.send(outgoing.ping()),
                    ponged,
                    self._pong_timeout_seconds,
                )
            except ConnectionLostError:
                return None
            if not in_time:
                # Nobody would answer a close frame either.
                self._connection.abort()
                return Ending(
                    f"no pong within {self._pong_timeout_seconds:g} s",
                    Verdict.RETRY_NOW,
                    deaf=True,
                )
            self._ponged = None

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
