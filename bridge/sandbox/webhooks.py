"""dryAPI's webhooks: what they say, their signatures, and their delivery."""

from __future__ import annotations

import heapq
import itertools
import ssl
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import httpx  # noqa: TID251 - a sender beside the bridge, not a part of it
import msgspec
import structlog
import trio

from bridge.sandbox.config import (
    Addresses,
    SandboxConfig,
    WebhookStatistics,
    webhook_signature,
)
from bridge.sandbox.jobs import Job, Status


__all__ = ["Deliveries", "Delivery", "Webhooks", "headers"]


_Event = Literal["job.processing", "job.completed", "job.failed", "webhook.validation"]

# What a job is called when it turns to this status; no webhook tells of the others.
_EVENTS: dict[Status, _Event] = {
    "processing": "job.processing",
    "done": "job.completed",
    "error": "job.failed",
}
# The sandbox's jobs paint pictures.
_JOB_TYPE = "txt2img"


class Delivery(msgspec.Struct, frozen=True):
    """
    One webhook, the same at every try.

    Attributes:
        event: For instance `job.completed`.
        delivery_id: A UUID, never the same for two deliveries, whatever the seed is:
            a receiver remembers them for longer than a sandbox runs.
        body: The raw body.
    """

    event: str
    delivery_id: str
    body: bytes


def headers(delivery: Delivery, config: SandboxConfig, now: float) -> dict[str, str]:
    """
    Build the headers of one try.

    The documentation says that the id comes again on a retry, and that a timestamp
    more than 300 s from now is to be refused. Retries come hours later, so timestamp
    and signature must be those of the try. Whether the body's own `timestamp` is that
    of the event or of the try is left open: here the body stays as it was.
    """
    prefix = f"X-{config.webhook_prefix}-"
    timestamp = str(int(now))
    signature = webhook_signature(config.webhook_secret, timestamp, delivery.body)
    return {
        "Content-Type": "application/json",
        "User-Agent": f"{config.webhook_prefix}-Webhook/1.0",
        f"{prefix}Signature": signature,
        f"{prefix}Timestamp": timestamp,
        f"{prefix}Event": delivery.event,
        f"{prefix}Delivery-Id": delivery.delivery_id,
    }


class Webhooks:
    """
    Turns what happens to jobs into deliveries.

    Args:
        addresses: Signs the addresses of results.
        send: Takes a delivery; must not wait.
    """

    def __init__(self, addresses: Addresses, send: Callable[[Delivery], None]) -> None:
        self._addresses = addresses
        self._send = send

    def announce(self, job: Job, previous: Status) -> None:
        """Send what there is to say of a job's step."""
        event = _EVENTS.get(job.status)
        if event is not None:
            about = {
                "job_request_id": job.request_id,
                "status": job.status,
                # Outside of the socket there is no `in_progress`.
                "previous_status": (
                    "processing" if previous == "in_progress" else previous
                ),
                "job_type": _JOB_TYPE,
            }
            self._send(_delivery(event, about | self._details(job)))

    def validate(self) -> str:
        """Send `webhook.validation`, as the dashboard does to test the URL."""
        # What its `data` holds is left open: nothing that a receiver may ask for.
        delivery = _delivery("webhook.validation", {})
        self._send(delivery)
        return delivery.delivery_id

    def _details(self, job: Job) -> dict[str, Any]:
        started = job.started_at or 0.0
        if job.status == "processing":
            return {"started_at": _iso(started)}
        ended = job.ended_at or started
        if job.error is not None:
            return {"failed_at": _iso(ended), **msgspec.structs.asdict(job.error)}
        return {
            "completed_at": _iso(ended),
            "result_url": self._addresses.result(job.request_id, ended),
            "processing_time_ms": round((ended - started) * 1000),
        }


def _delivery(event: _Event, data: dict[str, Any]) -> Delivery:
    delivery_id = str(uuid.uuid4())
    body = {
        "event": event,
        "delivery_id": delivery_id,
        "timestamp": _iso(time.time()),
        "data": data,
    }
    return Delivery(event, delivery_id, msgspec.json.encode(body))


def _iso(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


# The documented waits between ten tries; together some 23 hours.
_WAITS_SECONDS = (60, 120, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200)
# The documented time for an answer; connecting is a part of it.
_TRY_SECONDS = 10.0
# The documented number of failed deliveries in a row that switches webhooks off. What
# makes a delivery a failed one is left open; here it is the last try without 2xx, so
# that a short outage of the receiver switches nothing off.
_FAILED_IN_A_ROW = 10
# A receiver that takes its ten seconds each time gets 1.6 deliveries a second, one that
# answers at once as many as the processor allows: each takes 3 ms of a core (measured
# on two busy ones), for it has a connection of its own.
_TRIES_AT_ONCE = 16
# 1 KB each (measured). At the default rate an outage of more than an hour fills it;
# then new deliveries are dropped, counted, and never tried.
_MAX_OPEN = 10_000
_CLOSE_SECONDS = 1.0

_log = structlog.get_logger("bridge.sandbox")


class Deliveries:
    """
    Delivers to one URL, in no order that could be relied on: nothing is promised of it.

    Nothing is kept over the end of the process. What happens while webhooks are off
    is never delivered, and a retry that comes due then is the delivery's end: the
    documentation says nothing of either.

    Args:
        config: Where to, and with what.
        statistics: Where it is counted.
        transport: Carries requests in place of the network, for tests.
        now: Seconds since the epoch, for the signed timestamps.
    """

    def __init__(
        self,
        config: SandboxConfig,
        statistics: WebhookStatistics,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._url = config.webhook_url or ""
        self._statistics = statistics
        self._transport = transport
        self._now = now
        # By when they are due; the number decides between two that are due together.
        self._waiting: list[tuple[float, int, Delivery, int]] = []
        self._numbers = itertools.count()
        self._changed = trio.Event()
        self._places = trio.Semaphore(_TRIES_AT_ONCE)

    def send(self, delivery: Delivery) -> None:
        """Take a delivery for its first try at once; never waits."""
        counts = self._statistics
        counts.by_event[delivery.event] = counts.by_event.get(delivery.event, 0) + 1
        if counts.switched_off:
            counts.silenced += 1
        elif counts.open >= _MAX_OPEN:
            if not counts.dropped:
                _log.warning("sandbox.webhooks_dropped", open=counts.open)
            counts.dropped += 1
        else:
            counts.open += 1
            self._put(delivery, tries=0, wait_seconds=0)

    def switch_on(self) -> None:
        """Let webhooks be sent again, as the dashboard does, and count anew."""
        self._statistics.switched_off = False
        self._statistics.failed_in_a_row = 0

    async def run(self) -> None:
        """Deliver until cancelled."""
        client = httpx.AsyncClient(
            # This client follows no redirect, and asks no environment for a proxy.
            follow_redirects=False,
            trust_env=False,
            timeout=None,  # noqa: S113 - a try has one deadline, over all its parts
            # PHP's workers, which dryAPI's seem to be, keep no connection either.
            limits=httpx.Limits(max_keepalive_connections=0),
            # OpenSSL's own choice, so that SSL_CERT_FILE can name a receiver's CA.
            verify=ssl.create_default_context(),
            transport=self._transport,
        )
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    await self._places.acquire()
                    delivery, tries = await self._next_due()
                    nursery.start_soon(self._try, client, delivery, tries)
        finally:
            with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                await client.aclose()

    def _put(self, delivery: Delivery, *, tries: int, wait_seconds: float) -> None:
        due = trio.current_time() + wait_seconds * self._config.webhook_retry_scale
        heapq.heappush(self._waiting, (due, next(self._numbers), delivery, tries))
        self._changed.set()

    async def _next_due(self) -> tuple[Delivery, int]:
        # No deadline: there may never be one.
        while True:
            due = self._waiting[0][0] if self._waiting else float("inf")
            if due <= trio.current_time():
                _, _, delivery, tries = heapq.heappop(self._waiting)
                if not self._statistics.switched_off:
                    return delivery, tries
                self._statistics.open -= 1
                self._statistics.silenced += 1
                continue
            self._changed = trio.Event()
            with trio.move_on_at(due):
                await self._changed.wait()

    async def _try(
        self, client: httpx.AsyncClient, delivery: Delivery, tries: int
    ) -> None:
        try:
            fault = await self._post(client, delivery)
        finally:
            self._places.release()
        counts = self._statistics
        counts.tries += 1
        counts.retries += tries > 0
        if fault is None:
            counts.open -= 1
            counts.delivered += 1
            counts.failed_in_a_row = 0
            return
        counts.faults[fault] += 1
        _log.warning(
            "sandbox.webhook_failed",
            webhook=delivery.event,
            delivery_id=delivery.delivery_id,
            tries=tries + 1,
            fault=fault,
        )
        if tries < len(_WAITS_SECONDS):
            self._put(delivery, tries=tries + 1, wait_seconds=_WAITS_SECONDS[tries])
        else:
            self._fail()

    def _fail(self) -> None:
        counts = self._statistics
        counts.open -= 1
        counts.failed += 1
        counts.failed_in_a_row += 1
        if counts.failed_in_a_row >= _FAILED_IN_A_ROW and not counts.switched_off:
            counts.switched_off = True
            counts.switched_off_total += 1
            _log.warning("sandbox.webhooks_switched_off", failed=_FAILED_IN_A_ROW)

    async def _post(self, client: httpx.AsyncClient, delivery: Delivery) -> str | None:
        # Says what was wrong, None for 2xx. The status decides: the answer's body is
        # not read, however long it is.
        with trio.move_on_after(_TRY_SECONDS):
            try:
                async with client.stream(
                    "POST",
                    self._url,
                    content=delivery.body,
                    headers=headers(delivery, self._config, self._now()),
                ) as response:
                    if response.is_success:
                        return None
                    return "redirect" if response.is_redirect else "status"
            except httpx.HTTPError:
                return "unreachable"
        return "timeout"
