"""
What carries a group's lanes into the log, whichever promise it makes.

Owns the shape alone: `idempotent` and `transactional` are the two that there are.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Sequence
from typing import Protocol

from bridge.kafka.relay.lane import Lane


__all__ = ["Delivery"]


class Delivery(Protocol):
    """How a group's rows get into the log; the setting `delivery` chooses."""

    @property
    def wake(self) -> asyncio.Event | None:
        """What wakes all lanes together; None where each is on its own."""

    async def prepare(self) -> None:
        """
        Be ready to write.

        Raises:
            KafkaUnreachableError: No broker answers now.
            KafkaRefusedError: A broker refuses.
            ConfigError: A certificate or key can't be used.
        """

    async def carry(self, lanes: Sequence[Lane]) -> None:
        """
        Send the lanes' rows as they come, until all are drained.

        Raises:
            TopicReplacedError: A topic was made anew.
            KafkaFencedError: Another bridge writes for the same outbox.
        """

    async def close(self) -> None:
        """End the producers; batches on their way fail."""
