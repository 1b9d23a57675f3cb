"""Webhooks as dryAPI sends them, and what receives them in front of an outbox."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, cast

import httpx  # noqa: TID251 - the tests are the sender
import trio

from bridge.errors import OutboxError
from bridge.events.intake import Intake
from bridge.events.record import Origin
from bridge.gaps.holding import Holding
from bridge.gaps.receiver import Receiver, Recipient
from bridge.outbox import Outbox
from bridge.outbox.values import Delivery, Held, JobInFlight
from bridge.sandbox.config import webhook_signature
from bridge.settings import Secret
from tests.gaps.books import SOURCE, Books


CLIENT_ID = "42"
SECRET = "whsec_made-up"
PATH = "/webhooks/dryapi"

# When the jobs of the webhooks below ended.
NOW = 1_800_000_000
NOW_US = NOW * 1_000_000

MAX_BODY_BYTES = 2048


def body_of(event: str, data: object, **members: Any) -> bytes:
    """Write a body, with a new delivery id unless one is given."""
    body = {
        "event": event,
        "delivery_id": str(uuid.uuid4()),
        "timestamp": "2027-01-15T08:00:00.000Z",
        "data": data,
        **members,
    }
    return json.dumps({k: v for k, v in body.items() if v is not ...}).encode()


def _data(request_id: str, status: str, before: str, **data: Any) -> dict[str, Any]:
    head = {"job_request_id": request_id, "status": status, "previous_status": before}
    return {**head, "job_type": "txt2img", **data}


def processing(request_id: str = "job-1", **data: Any) -> dict[str, Any]:
    """Return the data of a job that has started."""
    started = {"started_at": "2027-01-15T07:59:50.000Z"}
    return _data(request_id, "processing", "pending") | started | data


def completed(request_id: str = "job-1", **data: Any) -> dict[str, Any]:
    """Return the data of a job that is done."""
    ended = {
        "completed_at": "2027-01-15T08:00:00.000Z",
        "result_url": f"https://storage.dryapi.dev/results/{request_id}.png?s=1",
        "processing_time_ms": 10_000,
    }
    return _data(request_id, "done", "processing") | ended | data


def failed(request_id: str = "job-1", **data: Any) -> dict[str, Any]:
    """Return the data of a job that failed."""
    ended = {
        "failed_at": "2027-01-15T08:00:00.000Z",
        "error_code": "WORKER_TIMEOUT",
        "error_message": "The worker did not answer in time.",
    }
    return _data(request_id, "error", "processing") | ended | data


def signed(
    body: bytes, now_seconds: float, *, secret: str = SECRET, prefix: str = "DryAPI"
) -> dict[str, str]:
    """Return the headers of a request, signed as the sandbox signs."""
    timestamp = str(int(now_seconds))
    return {
        "Content-Type": "application/json",
        f"X-{prefix}-Signature": webhook_signature(secret, timestamp, body),
        f"X-{prefix}-Timestamp": timestamp,
    }


def request_of(body: bytes, headers: Mapping[str, str], framing: str = "") -> bytes:
    """Write a whole request; `framing` replaces the body's length."""
    lines = [f"POST {PATH} HTTP/1.1", "Host: bridge"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [framing or f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class MemoryOutbox:
    """What webhooks use of an outbox, in memory."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        # The time of each release, and the gaps that it heals.
        self.released: dict[int, tuple[float, Sequence[str]]] = {}
        self.reads = 0
        self.in_flight: dict[str, JobInFlight] = {}
        # What happens to a request: `silent` never answers it, `closed` cancels it.
        self.trouble: OutboxError | str | None = None
        self.unanswered: list[Future[Any]] = []
        self._held: dict[int, Held] = {}
        self._known: set[tuple[str, str]] = set()
        # It is its own table of jobs.
        self.jobs = self

    def find(self, _: str, request_id: str) -> JobInFlight | None:
        """Return a job in flight."""
        return self.in_flight.get(request_id)

    def put(self, delivery: Delivery) -> int:
        """Hold a webhook as an earlier process did."""
        place = len(self.deliveries)
        self.deliveries.append(delivery)
        record, due_us = delivery.record, delivery.due_us
        self._held[place] = Held(place, record, due_us, delivery.ended_us)
        return place

    def take(self, delivery: Delivery) -> Future[bool]:
        """Hold a webhook; False if it was taken before."""
        return self._answer(lambda: self._take(delivery))

    def _take(self, delivery: Delivery) -> bool:
        name = (delivery.record.envelope.ce_source, delivery.delivery_id)
        if name in self._known:
            return False
        self._known.add(name)
        self.put(delivery)
        return True

    def held(self, max_rows: int) -> Future[list[Held]]:
        """Return what is held, what is due first before the rest."""
        self.reads += 1
        rows = sorted(self._held.values(), key=lambda held: held.due_us)
        return self._answer(lambda: rows[:max_rows])

    def release(self, place: int, gap_ids: Sequence[str]) -> Future[bool]:
        """Write a held webhook."""
        return self._answer(lambda: self._release(place, gap_ids))

    def _release(self, place: int, gap_ids: Sequence[str]) -> bool:
        self.released[place] = trio.current_time(), gap_ids
        return self._held.pop(place, None) is not None

    def _answer(self, work: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        if self.trouble is None:
            future.set_result(work())
        elif self.trouble == "silent":
            self.unanswered.append(future)
        elif isinstance(self.trouble, OutboxError):
            future.set_exception(self.trouble)
        else:
            future.cancel()
            future.set_running_or_notify_cancel()
        return future


class Receiving:
    """
    A receiver and a holding in front of an outbox, and a client of them.

    Its wall clock stands still where a test gives `now`. A test runs `holding`.
    """

    def __init__(
        self,
        outbox: Outbox | MemoryOutbox,
        *client_ids: str,
        secret: Secret | None = None,
        grace_period_seconds: float = 10.0,
        now: float | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._clock = time.time if now is None else lambda: now
        self._offset = 0.0
        names = client_ids or (CLIENT_ID,)
        self.books = Books(*names)
        self.holding = Holding(
            cast("Outbox", outbox),
            self.books.ledger,
            {SOURCE + name: name for name in names},
            grace_period_seconds=grace_period_seconds,
            now_ns=self._now_ns,
        )
        self.receiver = Receiver(
            [
                Recipient(name, secret or Secret(f"{SECRET}-{name}"), make_of(name))
                for name in names
            ],
            self.holding,
            max_body_bytes=max_body_bytes,
            is_single=not client_ids,
            now_ns=self._now_ns,
        )
        self.statistics = self.receiver.statistics
        transport = httpx.ASGITransport(self.receiver.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://bridge")

    @property
    def now(self) -> float:
        """The wall clock's time, seconds since the epoch."""
        return self._clock() + self._offset

    @now.setter
    def now(self, seconds: float) -> None:
        self._offset = seconds - self._clock()

    def _now_ns(self) -> int:
        return round(self.now * 1_000_000) * 1000

    def headers(self, body: bytes, client_id: str = CLIENT_ID) -> dict[str, str]:
        """Sign a body now."""
        return signed(body, self.now, secret=f"{SECRET}-{client_id}")

    async def post(
        self,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        path: str = PATH,
        client_id: str = CLIENT_ID,
    ) -> httpx.Response:
        """Send a webhook, signed unless it has other headers."""
        if headers is None:
            headers = self.headers(body, client_id)
        return await self.http.post(path, content=body, headers=headers)

    def outcomes(self, client_id: str = CLIENT_ID) -> dict[str, int]:
        """Return the counts of answers that aren't zero."""
        return {
            str(outcome): count
            for (who, outcome), count in self.statistics.deliveries.items()
            if count and who == client_id
        }

    def events(self) -> dict[str, int]:
        """Return the counts of events that aren't zero."""
        counts = self.statistics.events
        return {str(event): count for (_, event), count in counts.items() if count}


def make_of(client_id: str = CLIENT_ID) -> Callable[[bytes, int], Any]:
    """Make records as the service does, with an intake of the account."""
    return Intake(
        ce_source=SOURCE + client_id,
        topic="jobs",
        dead_letter_topic="jobs.dlq",
        origin=Origin.WEBHOOK,
    ).record


async def in_pieces(body: bytes, size: int, wait_seconds: float = 0) -> Any:
    """Yield a body in pieces, each after a wait."""
    for begin in range(0, len(body), size):
        await trio.sleep(wait_seconds)
        yield body[begin : begin + size]
