"""
Where simulated events go: the seam between simulation and Pusher.

The protocol that both publishers keep, and the one that serves the sandbox's
own channels. The one for another server stands in `remote`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import trio

from bridge.sandbox import frames
from bridge.sandbox.channels import Channels
from bridge.sandbox.config import EVENT_NAME
from bridge.sandbox.statistics import Statistics


__all__ = ["ChannelPublisher", "Emission", "Publisher"]


class Emission(msgspec.Struct, frozen=True):
    """
    One event on its way out.

    Attributes:
        request_id: The job; events of one job keep their order.
        status: The job's status that it tells of.
        data: The event's `data`, JSON as text.
    """

    request_id: str
    status: str
    data: str


class Publisher(Protocol):
    """Publishes events and counts those that were accepted."""

    async def run(self) -> None:
        """Do what must be done in the background; may return at once."""

    async def wait_for_subscriber(self) -> None:
        """Return when somebody is subscribed: no deadline, it may never."""

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """Take events; may wait while the server is behind."""

    async def flush(self) -> None:
        """Return when everything taken is accepted or refused."""


class ChannelPublisher:
    """Publishes to the sandbox's own channels."""

    def __init__(
        self, channel: str, channels: Channels, statistics: Statistics
    ) -> None:
        self._channel = channel
        self._channels = channels
        self._statistics = statistics

    async def run(self) -> None:
        """Return: nothing happens in the background."""

    async def wait_for_subscriber(self) -> None:
        """See `Publisher`."""
        await self._channels.wait_for_subscriber(self._channel)

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """See `Publisher`; accepted means offered to the channel's subscribers."""
        for emission in emissions:
            frame = frames.channel_event(EVENT_NAME, self._channel, emission.data)
            self._channels.publish(self._channel, frame)
            self._statistics.accepted(emission.status)
        # The connections' writers run now, before their queues grow long.
        await trio.lowlevel.checkpoint()

    async def flush(self) -> None:
        """Return: nothing waits."""
