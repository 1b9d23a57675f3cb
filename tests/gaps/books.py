"""A ledger, and a store that keeps its records as the outbox does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.accounts import AccountGaps
from bridge.events.record import Origin, Record
from bridge.gaps.ledger import Ledger
from bridge.outbox.values import LeftGap, Memory


SOURCE = "https://api.dryapi.dev/clients/"

# 2026-01-31T12:00:00Z.
NOW_US = 1_769_860_800_000_000


class Books:
    """A ledger of some accounts, and the records that it has handed on."""

    def __init__(
        self,
        *client_ids: str,
        remembered: Mapping[str, bytes] | None = None,
        healed: Mapping[str, tuple[int, int]] | None = None,
        proved_us: Mapping[str, int] | None = None,
        was_stopped: bool = False,
        now_us: int = NOW_US,
    ) -> None:
        accounts = {who: SOURCE + who for who in client_ids}
        self.now_us = now_us
        self.records: list[Record] = []
        self.jobs_in_flight: dict[str, int] = {}
        self.ledger = Ledger(
            "jobs.gaps",
            accounts,
            self.keep,
            jobs_in_flight=self.jobs_in_flight.get,
            now_ns=lambda: self.now_us * 1000,
        )
        self.remembered = dict(remembered or {})
        self.healed = dict.fromkeys(self.remembered, (0, 0)) | dict(healed or {})
        self.memory = Memory(
            proved_us={SOURCE + who: us for who, us in (proved_us or {}).items()},
            was_stopped=was_stopped,
            left_gaps=tuple(
                LeftGap(value, *self.healed[gap_id])
                for gap_id, value in self.remembered.items()
            ),
        )
        self.ledger.restore(self.memory)

    def keep(
        self, record: Record, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        """Take a record, and remember its gap; nothing is forgotten twice."""
        self.records.append(record)
        if opens is not None:
            self.remembered[opens] = record.value
            self.healed.setdefault(opens, (0, 0))
        if closes is not None:
            del self.remembered[closes], self.healed[closes]

    def write_end(self, gap_ids: Sequence[str], origin: Origin) -> None:
        """Write the end of a job that heals gaps, as the outbox's transaction does."""
        for gap_id in gap_ids:
            if gap_id in self.healed:
                by_endpoint, by_webhook = self.healed[gap_id]
                is_asked = origin is Origin.STATUS_ENDPOINT
                self.healed[gap_id] = (
                    by_endpoint + is_asked,
                    by_webhook + (not is_asked),
                )

    def heal(self, gap_ids: Sequence[str], origin: Origin) -> None:
        """Write the end of a job, and notify the ledger once it is committed."""
        self.write_end(gap_ids, origin)
        self.ledger.healed(gap_ids, origin)

    @property
    def left_open(self) -> set[str]:
        """The gaps that the next process would find open."""
        return {
            gap_id
            for gap_id, value in self.remembered.items()
            if json.loads(value)["until"] is None
        }

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """What a reader of the topic has read so far."""
        return [json.loads(record.value) for record in self.records]

    def coverage(self, client_id: str, jobs: int | None = None) -> AccountGaps:
        """Give an account's gaps, with so many jobs in flight."""
        if jobs is not None:
            self.jobs_in_flight[client_id] = jobs
        return AccountGaps(client_id, self.ledger)

    def begin(self, client_id: str) -> AccountGaps:
        """Return an account's coverage, restored from the store."""
        coverage = self.coverage(client_id)
        proved_us = self.memory.proved_us.get(SOURCE + client_id)
        coverage.begin(proved_us, was_stopped=self.memory.was_stopped)
        return coverage
