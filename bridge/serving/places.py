"""
The places of a port: how many clients are there, and who makes room for the next.

Nothing here knows HTTP or TLS. Each wait for a client is made within `waiting`: that
gives it its deadline, and lets it be ended early while somebody else waits for a place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import trio

from bridge.serving.limits import Limits


__all__ = ["Door", "Places", "TooLateError"]


_log = structlog.get_logger("bridge.serving")

# A crowd that stays is told of now and then, not for each who is ended.
_TELL_SECONDS: Final = 60.0


class TooLateError(Exception):
    """A client kept the port waiting for too long: end its connection."""


class Places:
    """
    Counts the connections, and knows for whom each of them waits.

    Args:
        limits: How many there may be, and for how long one may hold up others.
        setting: The setting of the port, for the log.
    """

    def __init__(self, limits: Limits, setting: str) -> None:
        self._limits = limits
        self._setting = setting
        self._taken = 0
        # Since when each wait keeps its place.
        self._waits: dict[trio.CancelScope, float] = {}
        self._left = trio.Event()
        self._ended = 0
        self._told_at = -math.inf

    def take(self) -> None:
        """Take a place."""
        self._taken += 1

    def leave(self) -> None:
        """Give a place back."""
        self._taken -= 1
        self._left.set()
        self._left = trio.Event()

    @contextmanager
    def waiting(self, seconds: float, *, since: float) -> Iterator[None]:
        """
        Wait for a client, within the block.

        Args:
            seconds: How long it may take.
            since: When that began: many waits may share it.

        Raises:
            TooLateError: It took longer, or others needed the place.
        """
        with trio.CancelScope(deadline=since + seconds) as scope:
            self._waits[scope] = since
            try:
                yield
            finally:
                self._waits.pop(scope, None)
        if scope.cancelled_caught:
            raise TooLateError

    async def free(self) -> None:
        """
        Wait until a place is free for somebody who is there.

        Whoever has kept the port waiting longest is ended for it, once that is
        `crowded_seconds`. A connection whose request is being worked on never is: then
        the wait is as long as the application's.
        """
        while self._taken >= self._limits.max_connections:
            left = self._left
            longest = min(self._waits, key=self._waits.__getitem__, default=None)
            since = trio.current_time() if longest is None else self._waits[longest]
            with trio.move_on_at(since + self._limits.crowded_seconds):
                await left.wait()
                continue
            if longest is not None and self._waits.pop(longest, None) is not None:
                longest.cancel()
                self._tell()
                # It leaves at once, unless the application has something to clear up.
                with trio.move_on_after(self._limits.crowded_seconds):
                    await left.wait()

    def _tell(self) -> None:
        """Say, if not just now, that somebody was ended for others."""
        self._ended += 1
        now = trio.current_time()
        if now < self._told_at + _TELL_SECONDS:
            return
        _log.warning(
            "port.crowded",
            setting=self._setting,
            max_connections=self._limits.max_connections,
            ended=self._ended,
        )
        self._told_at, self._ended = now, 0


class Door(trio.abc.Listener[trio.SocketStream]):
    """
    A listener that lets in as many as have a place.

    Each connection that it gives has taken one, and must give it back. The others stay
    in the backlog.

    Args:
        listener: What listens.
        places: The places behind it.
    """

    def __init__(self, listener: trio.SocketListener, places: Places) -> None:
        self._listener = listener
        self._places = places

    async def accept(self) -> trio.SocketStream:
        """Wait for somebody, then for a place, and let the client in."""
        await trio.lowlevel.wait_readable(self._listener.socket)
        await self._places.free()
        stream = await self._listener.accept()
        self._places.take()
        return stream

    async def aclose(self) -> None:
        """Close the listener."""
        await self._listener.aclose()
