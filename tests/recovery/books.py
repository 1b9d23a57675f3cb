"""A ledger with somebody behind it who keeps its records as the outbox does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bridge.record import LeftGap, Memory, Record
from bridge.recovery.hearing import Hearing
from bridge.recovery.ledger import Ledger


SOURCE = "https://api.dryapi.dev/clients/"

# 2026-01-31T12:00:00Z.
NOW_US = 1_769_860_800_000_000


class Books:
    """
    A ledger of some accounts, and the records that it has handed on.

    Args:
        client_ids: The accounts.
        remembered: What was remembered of the process before, by gap id.
        proved_us: What it had proved, by client id.
        was_stopped: Whether it ended in order.
    """

    def __init__(
        self,
        *client_ids: str,
        remembered: Mapping[str, bytes] | None = None,
        proved_us: Mapping[str, int] | None = None,
        was_stopped: bool = False,
    ) -> None:
        accounts = {who: SOURCE + who for who in client_ids}
        self.ledger = Ledger("jobs.gaps", accounts, now_ns=lambda: NOW_US * 1000)
        self.records: list[Record] = []
        self.remembered = dict(remembered or {})
        self.memory = Memory(
            proved_us={SOURCE + who: us for who, us in (proved_us or {}).items()},
            was_stopped=was_stopped,
            left_gaps=tuple(map(LeftGap, self.remembered.values())),
        )
        self.ledger.connect(self.keep)
        self.ledger.restore(self.memory)

    def keep(
        self, record: Record, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        """Take a record, and remember open gaps; nothing is forgotten twice."""
        self.records.append(record)
        if opens is not None:
            self.remembered[opens] = record.value
        if closes is not None:
            del self.remembered[closes]

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """What a reader of the topic has read so far."""
        return [json.loads(record.value) for record in self.records]

    def hearing(self, client_id: str, jobs: int | None = None) -> Hearing:
        """Give an account's hearing, with so many jobs in flight."""
        return Hearing(client_id, self.ledger, lambda: jobs)

    def begin(self, client_id: str) -> Hearing:
        """Give an account's hearing that has begun from what is remembered."""
        hearing = self.hearing(client_id)
        proved_us = self.memory.proved_us.get(SOURCE + client_id)
        hearing.begin(proved_us, self.memory.was_stopped)
        return hearing
