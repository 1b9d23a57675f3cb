"""
What this room asks of others, who don't know it: `service` introduces them.

An intake makes records, the outbox keeps them and knows the jobs, the ledger knows
the gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from bridge.events.record import Record
from bridge.outbox.values import Delivery, Held, JobInFlight


__all__ = ["Find", "Healable", "Keeper", "Make", "OnWritten", "Take"]


class Make(Protocol):
    """Makes the record of one account's webhook."""

    def __call__(self, event: bytes, received_at_us: int, /) -> Record:
        """
        Make the record of an event, or the dead letter of what is none.

        Args:
            event: The JSON of an event, or any other bytes.
            received_at_us: When it came, microseconds since the epoch.
        """


class Take(Protocol):
    """Lays a webhook down on disk."""

    def __call__(self, delivery: Delivery, /) -> Future[bool]:
        """
        Keep a webhook; must not wait.

        Returns:
            True once it stands on disk, synced; False if it was there before. An
            `OutboxError` if there is no room; cancelled if nobody will do it any more.
        """


class Keeper(Protocol):
    """Has the webhooks that are held on disk."""

    def held(self, max_rows: int, /) -> Future[list[Held]]:
        """
        Give those that are held, in the order of `due_us`.

        Args:
            max_rows: How many at most.
        """

    def release(self, place: int, gap_ids: Sequence[str], /) -> Future[bool]:
        """
        Let a webhook go its way, after all that the socket brought before.

        Args:
            place: Which one.
            gap_ids: The gaps of which its job is healed, if it is written.

        Returns:
            True if it was written; False if it wasn't needed.
        """


class Find(Protocol):
    """Knows the jobs in flight."""

    def __call__(self, ce_source: str, request_id: str, /) -> JobInFlight | None:
        """Give a job; None if none is in flight by that name."""


class Healable(Protocol):
    """Knows the gaps."""

    def __call__(
        self, client_id: str, last_seen_us: int | None, ended_us: int | None, /
    ) -> Sequence[str]:
        """
        Give the gaps of which a job is healed whose end is known now.

        Args:
            client_id: Whose job it is.
            last_seen_us: When it was heard of last; None if it isn't in flight.
            ended_us: When it ended, if that was said.
        """


class OnWritten(Protocol):
    """Is told which jobs have ended by their webhook."""

    def __call__(
        self, client_id: str, request_id: str, gap_ids: Sequence[str], /
    ) -> None:
        """
        Hear that a job's last record was written, on disk.

        Args:
            client_id: Whose job it is.
            request_id: The job.
            gap_ids: The gaps that are healed of it.
        """
