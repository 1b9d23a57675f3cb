"""
What the relay needs from the outbox, as a Protocol.

The rooms don't import each other: `service` gives an `Outbox` to the relay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Protocol

from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox.records import Delivered, LaneState


__all__ = ["Framing", "OutboxPort"]


class OutboxPort(Protocol):
    """The outbox as the relay sees it; every method may be called from any thread."""

    @property
    def id(self) -> str:
        """The outbox's UUID."""

    def subscribe(
        self,
        on_committed: Callable[[list[tuple[str, int, list[StoredRecord]]]], None],
        on_claimed: Callable[[list[tuple[str, int, int]]], None],
        on_replaced: Callable[[], None],
    ) -> None:
        """
        Name who is told of new rows, on the outbox's own thread.

        `on_replaced` says that the file was damaged and another one is in its
        place: `id` is another one, no lane is open, all that was known is void.
        """

    def lane_states(self) -> Future[list[LaneState]]:
        """Read the state of every lane."""

    def waiting_topics(self) -> Future[set[str]]:
        """Read for which topics rows wait."""

    def open_topic(  # noqa: PLR0913 - what is known of it, of the log, and before
        self,
        topic: str,
        partition_of: Callable[[bytes | None], int],
        opened: dict[int, tuple[int, int]],
        topic_id: str | None,
        unplaced: Mapping[int, Mapping[str, int]],
        *,
        former_partition_of: Callable[[bytes | None], int] | None = None,
    ) -> Future[None]:
        """
        Let a topic's rows go to lanes: (last sequence, end offset) by partition.

        Jobs in flight stay where `former_partition_of` puts them, which is given
        where keys belong elsewhere from now on.

        Rows without a lane that the log has already, sequence by ce_id by
        partition, get the sequences that they have there.

        Where the topic's id is another one than the lanes had, what was
        acknowledged went to a topic that is gone: it counts as delivered, and
        the lanes' offsets begin at 0 again.
        """

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
        envelopes: Mapping[Envelope, int],
    ) -> None:
        """
        Note that rows stand in the log side by side, from an offset on.

        How many have which envelope is told as well: the outbox would have to read
        it.
        """

    def delivered(
        self, topic: str, partition: int, after: int, max_rows: int
    ) -> Future[list[Delivered]]:
        """Read a lane's acknowledged rows after a sequence that are still kept."""

    def rewind(
        self,
        topic: str,
        partition: int,
        sequence: int,
        resume_offset: int,
        resent_sequence: int,
    ) -> Future[int]:
        """
        Take acknowledgements back: rows after a sequence aren't in the log.

        Rows up to `resent_sequence` have been there, acknowledged or not. Gives how
        many of them wait now.
        """

    def refuse(
        self, topic: str, partition: int, sequence: int, dead_letter: Record
    ) -> Future[None]:
        """Replace a lane's first waiting row by a dead letter, in one commit."""

    def quarantine(
        self, topic: str, partition: int, sequence: int, reason: str
    ) -> Future[None]:
        """Put a lane's first waiting row aside for good: it stays in the file."""


class Framing(Protocol):
    """What stands before the values of a topic, a registry's wire format for one."""

    async def prefix(self, topic: str) -> bytes:
        """
        Give the bytes before each value of a topic; empty for none.

        It is asked in the Kafka thread's loop each time that the topic is opened; one
        that can't be told is asked for again, and until then nothing is written.

        Raises:
            KafkaUnreachableError: It can't be told now.
            KafkaRefusedError: It can't be told until somebody changes something.
            ConfigError: A certificate can't be used.
        """
