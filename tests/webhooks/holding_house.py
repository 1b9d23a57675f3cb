"""A shelf with a holding, and the ledger that it asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future

import trio
from bridge.webhooks.holding import Holding
from bridge.webhooks.statistics import WebhookStatistics
from bridge.webhooks.steady import steady_clock

from bridge.outbox.values import Delivery
from tests.webhooks.making import CLIENT_ID, SOURCE, make_of
from tests.webhooks.shelf import Shelf


NOW_US = 1_800_000_000_000_000
SECOND = 1_000_000


class HoldingHouse:
    """A shelf with a holding, at `NOW_US` when it is made."""

    def __init__(self, hold_seconds: float = 10.0) -> None:
        self.shelf = Shelf()
        self.asked: list[tuple[str, int | None, int | None]] = []
        self.written: list[tuple[str, str, tuple[str, ...]]] = []
        self.left: dict[int, float] = {}
        self.begun = trio.current_time()
        self.hold_us = round(hold_seconds * SECOND)
        self.wall_us = NOW_US
        self.steady_us = steady_clock(lambda: self.wall_us * 1000)
        self.statistics = WebhookStatistics([CLIENT_ID])
        self.holding = Holding(
            self,
            find=self.shelf.find,
            healable=self._healable,
            on_written=lambda *told: self.written.append(told),
            client_ids={SOURCE: CLIENT_ID},
            hold_seconds=hold_seconds,
            steady_us=self.steady_us,
            statistics=self.statistics,
        )
        self.held = self.shelf.held

    @property
    def seconds(self) -> float:
        """How long ago it was made."""
        return trio.current_time() - self.begun

    def release(self, place: int, gap_ids: Sequence[str]) -> Future[bool]:
        """Release, and note when."""
        self.left[place] = self.seconds
        return self.shelf.release(place, gap_ids)

    def _healable(
        self, client_id: str, last_seen_us: int | None, ended_us: int | None
    ) -> Sequence[str]:
        self.asked.append((client_id, last_seen_us, ended_us))
        return ("gap-1", "gap-2")

    def delivery(
        self,
        status: str | None = "done",
        *,
        due_us: int | None = None,
        client_id: str = CLIENT_ID,
    ) -> Delivery:
        """Make a delivery of this moment."""
        number = len(self.shelf.deliveries)
        members = dict.fromkeys(("preview", "result_url", "progress"))
        event = {"request_id": f"job-{number}", "status": status, **members}
        value = json.dumps(event).encode() if status else b"no JSON"
        record = make_of(client_id)(value, self.wall_us)
        hold_us = self.hold_us if status else 0
        due_us = self.steady_us() + hold_us if due_us is None else due_us
        return Delivery(f"d-{number}", record, due_us, NOW_US - 1)

    def take(self, status: str | None = "done") -> int:
        """Lay one down as the receiver does."""
        delivery = self.delivery(status)
        place = self.shelf.put(delivery)
        self.holding.expect(delivery.due_us)
        return place
