"""
Who is subscribed to what, and the handing of frames to them.

Synchronous and without I/O: a subscriber takes a frame at once or drops it.
The frames' shapes stand in `frames`.
"""

from __future__ import annotations

from typing import Protocol

import trio


__all__ = ["Channels", "Subscriber"]


class Subscriber(Protocol):
    """One connection, as far as channels know it."""

    socket_id: str

    def offer(self, frame: bytes) -> None:
        """Take a frame to send, or drop it: never wait, never raise."""


class Channels:
    """The channels of the sandbox's own endpoint; empty ones are forgotten."""

    def __init__(self) -> None:
        self._subscribers: dict[str, dict[str, Subscriber]] = {}
        self._changed = trio.Event()

    def subscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Add a subscriber; adding it again changes nothing."""
        self._subscribers.setdefault(channel, {})[subscriber.socket_id] = subscriber
        self._changed.set()
        self._changed = trio.Event()

    def unsubscribe(self, channel: str, subscriber: Subscriber) -> None:
        """Remove a subscriber if it is there."""
        subscribers = self._subscribers.get(channel, {})
        subscribers.pop(subscriber.socket_id, None)
        if not subscribers:
            self._subscribers.pop(channel, None)

    def count(self, channel: str) -> int:
        """Say how many are subscribed."""
        return len(self._subscribers.get(channel, ()))

    def publish(self, channel: str, frame: bytes, *, exclude: str | None = None) -> int:
        """
        Offer a frame to every subscriber of a channel.

        Args:
            channel: The channel's name.
            frame: The event, ready for the wire.
            exclude: The socket id of the publisher, who doesn't get it.

        Returns:
            To how many it was offered.
        """
        offered = 0
        for socket_id, subscriber in self._subscribers.get(channel, {}).items():
            if socket_id != exclude:
                subscriber.offer(frame)
                offered += 1
        return offered

    async def wait_for_subscriber(self, channel: str) -> None:
        """Return when the channel has a subscriber: no deadline, it may never."""
        while not self.count(channel):
            await self._changed.wait()
