"""
Records that heal: dryAPI's answers and webhooks, as far as the socket wasn't faster.

Each is taken, held and let go in a transaction of the outbox's thread. Who asks, and
for how long a webhook is held, is decided by other rooms; whether a record is still
needed `jobs.superseding` tells.
"""

from __future__ import annotations

import sqlite3  # noqa: TID251 - this room speaks to SQLite
from collections.abc import Callable, Sequence

from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Record
from bridge.outbox.jobs.order import Order
from bridge.outbox.jobs.superseding import is_awaited, is_needed
from bridge.outbox.records import Delivery, Healing, Held
from bridge.outbox.remembered import Remembered
from bridge.outbox.rows.counting import Counting
from bridge.outbox.webhooks.deliveries import Deliveries
from bridge.outbox.webhooks.holding import Holding


__all__ = ["Healer"]


class Healer:
    """
    What heals, in one file.

    Args:
        connection: The file.
        order: Knows what was heard of jobs.
        counting: What becomes of records.
        remembered: The gaps of which jobs are healed.
        write: Writes records as rows that the relay is told of.

    Attributes:
        deliveries: The webhooks that were taken.
        holding: Those that are held.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        order: Order,
        counting: Counting,
        remembered: Remembered,
        write: Callable[[Sequence[Record]], None],
    ) -> None:
        self._order = order
        self._counting = counting
        self._remembered = remembered
        self._write = write
        self.deliveries = Deliveries(connection)
        self.holding = Holding(connection)

    def heal(self, healing: Healing) -> bool:
        """
        Write what dryAPI answered; False if its job was heard of since it was asked.

        Belongs behind all that was offered before.
        """
        record = healing.record
        if not is_needed(self._order, healing):
            self._counting.came_late(record)
            return False
        self._counting.came([record])
        self._write([record])
        self._remembered.heal(healing.gap_ids, "healed_by_status_endpoint")
        return True

    def take(self, delivery: Delivery) -> bool:
        """Hold a webhook; False if it was taken before."""
        record = delivery.record
        if not self.deliveries.note(record.envelope.ce_source, delivery.delivery_id):
            self._counting.came_late(record)
            return False
        self._counting.came([record])
        self.holding.add(delivery)
        return True

    def held(self, max_rows: int) -> list[Held]:
        """Give the webhooks that are held, in the order in which they are due."""
        return self.holding.read(max_rows)

    def release(self, place: int, gap_ids: Sequence[str]) -> bool:
        """
        Write a webhook that is held; False if it isn't needed, or held no more.

        Belongs behind all that was offered before.
        """
        held = self.holding.find(place)
        if held is None:
            return False
        record = held.record
        self.holding.let_go(place)
        self._counting.is_let_go(place, record)
        if not is_awaited(self._order, record):
            self._counting.is_superseded(record)
            return False
        self._write([record])
        if record.status in TERMINAL_STATUSES:
            self._remembered.heal(gap_ids, "healed_by_webhook")
        return True
