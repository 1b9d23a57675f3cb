"""
What the relay needs from the outbox, as a Protocol.

The rooms don't import each other: `service` gives an `Outbox` to the relay.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from bridge.record import LaneState, StoredRecord


__all__ = ["OutboxPort"]


class OutboxPort(Protocol):
    """The outbox as the relay sees it; every method may be called from any thread."""

    @property
    def id(self) -> str:
        """The outbox's UUID."""

    def subscribe(
        self,
        on_committed: Callable[[list[tuple[str, int, list[StoredRecord]]]], None],
        on_claimed: Callable[[list[tuple[str, int, int]]], None],
    ) -> None:
        """Name who is told of new rows, on the outbox's own thread."""

    def lane_states(self) -> Future[list[LaneState]]:
        """Read the state of every lane."""

    def waiting_topics(self) -> Future[set[str]]:
        """Read for which topics rows wait."""

    def open_topic(
        self,
        topic: str,
        partition_of: Callable[[bytes | None], int],
        opened: dict[int, tuple[int, int]],
    ) -> Future[None]:
        """Let a topic's rows go to lanes: (last sequence, end offset) by partition."""

    def read(
        self, topic: str, partition: int, after: int, max_rows: int, max_bytes: int
    ) -> Future[list[StoredRecord]]:
        """Read a lane's rows after a sequence, in order."""

    def acknowledge(  # noqa: PLR0913, PLR0917 - one call a batch, no object
        self,
        topic: str,
        partition: int,
        first_sequence: int,
        last_sequence: int,
        base_offset: int,
        size_bytes: int,
    ) -> None:
        """Note that rows stand in the log side by side, from an offset on."""
