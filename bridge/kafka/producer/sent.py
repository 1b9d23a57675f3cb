"""
A batch on its way: what is known of it before and after the broker's answer.

It is sent by `producer`; what an answer means stands in `answers`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Callable
from typing import Any

from bridge.kafka.producer.answers import REFUSALS, BatchRefusedError, ClientError


__all__ = ["Sent"]


class Sent:
    """
    A batch on its way.

    Args:
        count: How many of the offered records it holds.
        size_bytes: Bytes of their keys and values.
        future: What aiokafka gives the batch's metadata to.
        connection: Gives the connection to the partition's leader.
    """

    __slots__ = ("_connection", "_future", "count", "size_bytes")

    def __init__(
        self,
        count: int,
        size_bytes: int,
        future: asyncio.Future[Any],
        connection: Callable[[], object | None],
    ) -> None:
        self.count = count
        self.size_bytes = size_bytes
        self._future = future
        self._connection = connection

    @property
    def connection(self) -> object | None:
        """The connection over which the acknowledgement came, while it lasts."""
        return self._connection()

    @property
    def broker(self) -> tuple[str, int] | None:
        """Host and port at the other end of that connection."""
        connection: Any = self._connection()
        return None if connection is None else (connection.host, connection.port)

    async def base_offset(self) -> int:
        """
        Wait for the acknowledgement.

        Returns:
            The offset of the first record.

        Raises:
            BatchRefusedError: The broker refuses what is in the batch.
            ClientError: It failed otherwise, and may be in the log all the same.
        """
        try:
            metadata = await self._future
        except REFUSALS as error:
            raise BatchRefusedError(error) from error
        if metadata.offset < 0:
            # DUPLICATE_SEQUENCE_NUMBER, which aiokafka takes for a success.
            raise ClientError("the batch is in the log, the broker doesn't say where")
        return int(metadata.offset)
