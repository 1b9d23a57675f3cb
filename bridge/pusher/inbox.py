"""
Where messages wait between trio_websocket's reader and the session.

It takes the place of both ends of the memory channel that trio_websocket hands
messages through; why, `websocket` says. What a message says is not looked at here.
"""

from __future__ import annotations

from typing import Final, Self, TypeAlias

import trio


__all__ = ["Inbox", "Message"]

# Messages that wait for the session, in characters. The session takes a run
# within the same pass of the scheduler, so one read's worth is the rule; the
# limit is there for a session that is held back, and then reading the socket
# stops too, which is the only backpressure that TCP knows. What waits here comes
# out as one run: as records, small messages weigh twice as much, and they must
# find room in the buffer that the session was held back for.
_MOST_CHARACTERS: Final = 1024 * 1024

# What a message costs beside its characters, rounded: an entry of the list and the
# object. Without it empty messages could wait in any number.
_MESSAGE_CHARACTERS: Final = 64

Message: TypeAlias = str | bytes


class Inbox:
    """
    Where messages wait, in the place of both ends of a memory channel.

    The reader task calls what a `trio.MemorySendChannel` would be called for,
    the session calls `take`.
    """

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._characters = 0
        self._closed = False
        self._taker = trio.lowlevel.ParkingLot()
        self._sender = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def put(self, message: Message) -> bool:
        """Add a message; False if it has to wait, and `send` must do it."""
        if self._closed:
            return True
        characters = self._characters + len(message) + _MESSAGE_CHARACTERS
        if characters > _MOST_CHARACTERS:
            return False
        if not self._messages:
            self._taker.unpark()
        self._messages.append(message)
        self._characters = characters
        return True

    async def send(self, message: Message) -> None:
        """Add a message; wait only while too much waits already."""
        if self.put(message):
            return
        if not self._messages:
            self._taker.unpark()
        self._messages.append(message)
        self._characters += len(message) + _MESSAGE_CHARACTERS
        # Until `take` or `close`: trio_websocket reads nothing meanwhile.
        await self._sender.park()

    async def aclose(self) -> None:
        """End it, as `close`; both ends of a channel are closed this way."""
        self.close()

    def close(self) -> None:
        """Take no more messages and wake everyone."""
        self._closed = True
        self._taker.unpark_all()
        self._sender.unpark_all()

    async def ready(self) -> int:
        """Wait until something waits; give its characters, or 0 for the end."""
        if self._messages or self._closed:
            await trio.lowlevel.checkpoint()
        while not self._messages and not self._closed:
            # No deadline: a quiet channel is no fault. The session's pings find
            # out whether the server is still there.
            await self._taker.park()
        return self._characters

    def take(self) -> list[Message]:
        """Give all that waits; nothing if that was the end."""
        run, self._messages = self._messages, []
        self._characters = 0
        self._sender.unpark_all()
        return run
