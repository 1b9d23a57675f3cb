"""Stands for the outbox: what webhooks use of it, in memory and on one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from bridge.errors import OutboxError
from bridge.outbox.values import Delivery, Held, JobInFlight


class Shelf:
    """What was taken, held and released."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.released: list[tuple[int, tuple[str, ...]]] = []
        self.jobs: dict[tuple[str, str], JobInFlight] = {}
        self.asked: list[int] = []
        self.is_silent = False
        self.is_closed = False
        self.error: OutboxError | None = None
        self.is_written: Callable[[int], bool] = lambda _: True
        self.under_way: list[Future[bool]] = []
        self.on_shelf: dict[int, Held] = {}
        self._known: set[tuple[str, str]] = set()

    def put(self, delivery: Delivery) -> int:
        """Hold a webhook as an earlier process did."""
        place = len(self.deliveries)
        self.deliveries.append(delivery)
        self.on_shelf[place] = Held(
            place, delivery.record, delivery.due_us, delivery.ended_us
        )
        return place

    def take(self, delivery: Delivery) -> Future[bool]:
        """Hold a webhook, unless it was taken before."""
        future: Future[bool] = Future()
        if self._is_unanswered(future):
            return future
        name = (delivery.record.envelope.ce_source, delivery.delivery_id)
        is_new = name not in self._known
        if is_new:
            self._known.add(name)
            self.put(delivery)
        future.set_result(is_new)
        return future

    def held(self, max_rows: int) -> Future[list[Held]]:
        """Give what is held."""
        future: Future[list[Held]] = Future()
        self.asked.append(max_rows)
        if not self._is_unanswered(future):
            rows = sorted(self.on_shelf.values(), key=lambda held: held.due_us)
            future.set_result(rows[:max_rows])
        return future

    def release(self, place: int, gap_ids: Sequence[str]) -> Future[bool]:
        """Let one go."""
        future: Future[bool] = Future()
        if not self._is_unanswered(future):
            known = self.on_shelf.pop(place, None) is not None
            self.released.append((place, tuple(gap_ids)))
            future.set_result(known and self.is_written(place))
        return future

    def find(self, ce_source: str, request_id: str) -> JobInFlight | None:
        """Give a job in flight."""
        return self.jobs.get((ce_source, request_id))

    def _is_unanswered(self, future: Future[bool] | Future[list[Held]]) -> bool:
        if self.is_closed:
            future.cancel()
            # As the outbox does: whoever waits is woken.
            future.set_running_or_notify_cancel()
        elif self.error is not None:
            future.set_exception(self.error)
        elif self.is_silent:
            self.under_way.append(future)  # type: ignore[arg-type]
        else:
            return False
        return True
