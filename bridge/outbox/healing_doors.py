"""
The doors of the outbox for what heals: dryAPI's answers, and its webhooks.

As of the other doors nothing is done here; see `healer` for what is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Final

from bridge.errors import OutboxFullError
from bridge.events.record import Record
from bridge.outbox.buffer import weigh
from bridge.outbox.inbox import Inbox
from bridge.outbox.records import Delivery, Healing, Held, Spent
from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.store import Store
from bridge.outbox.webhooks.deliveries import DELIVERY_BYTES


__all__ = ["HealingDoors"]

# Some 50 commits. Where a disk stands still, those who wait give up and come again, and
# what they brought would pile up in memory for as long as that lasts.
_MOST_WAITING: Final = 10_000


class HealingDoors:
    """
    A part of `Outbox`; all may be called from any thread.

    Args:
        inbox: What waits for the outbox's thread.
        statistics: What the outbox counts.
    """

    def __init__(self, inbox: Inbox, statistics: OutboxStatistics) -> None:
        self._inbox = inbox
        self.statistics = statistics

    def heal(self, healing: Healing) -> Future[bool]:
        """
        Write what dryAPI says of a job, behind all that was offered before.

        Returns:
            Whether it was written: not if its job was heard of since dryAPI was asked.
        """
        record = healing.record
        return self._afterwards(lambda store: store.healer.heal(healing), record)

    def take(self, delivery: Delivery) -> Future[bool]:
        """
        Hold a webhook; a loss of power doesn't take it from then on.

        Returns:
            Whether it is new. It fails with `OutboxFullError` at once where the limit
            or the disk has no room, or too many wait for a disk that stands still.
        """
        record = delivery.record
        if len(self._inbox.takes) >= _MOST_WAITING:
            self._drop(record)
            refused: Future[bool] = Future()
            refused.set_exception(OutboxFullError("the disk takes nothing just now"))
            return refused
        future = self._inbox.takes.put(
            lambda store: store.healer.take(delivery),
            weight=weigh(record) + DELIVERY_BYTES,
            give_up=lambda: self._drop(record),
        )
        self._inbox.bell.ring()
        return future

    def held(self, max_rows: int) -> Future[list[Held]]:
        """Read webhooks that are held, those first that are due first."""
        future = self._inbox.questions.put(lambda store: store.healer.held(max_rows))
        self._inbox.bell.ring()
        return future

    def release(self, place: int, gap_ids: Sequence[str]) -> Future[bool]:
        """
        Let a webhook go that is held, behind all that was offered before.

        Args:
            place: Where it is held.
            gap_ids: Gaps that are healed of its job if it is its last record.

        Returns:
            Whether it was written: not if it tells nothing new, or is held no more.
        """
        return self._afterwards(lambda store: store.healer.release(place, gap_ids))

    def spend(self, spent: Mapping[str, Spent]) -> None:
        """Take what accounts have asked, by `ce_source`, for the next commit."""
        self._inbox.spending.lay(spent)
        self._inbox.bell.hint()

    # -- Inside ---------------------------------------------------------------

    def _afterwards(
        self, work: Callable[[Store], bool], record: Record | None = None
    ) -> Future[bool]:
        """Ask for what is done after all that was offered before; it may bring one."""
        inbox = self._inbox
        mark = inbox.buffer.mark
        if record is None:
            future = inbox.healings.put(work, mark=mark)
        else:
            future = inbox.healings.put(
                work,
                mark=mark,
                weight=weigh(record),
                give_up=lambda: self._drop(record),
            )
        inbox.bell.ring()
        return future

    def _drop(self, record: Record) -> None:
        envelope = record.envelope
        self.statistics.tallies.drop({(envelope.kind, envelope.origin): 1})
