"""dryAPI's webhooks: their bodies, their signatures, and their delivery."""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

import httpx  # noqa: TID251 - a sender beside the bridge, not a part of it
import msgspec
import structlog
import trio

from bridge.sandbox.config import (
    Addresses,
    SandboxConfig,
    WebhookStatistics,
    iso_time,
    webhook_signature,
)
from bridge.sandbox.jobs import Job, Status


__all__ = ["Webhooks"]

_Event = Literal["job.processing", "job.completed", "job.failed", "webhook.validation"]

# The webhooks of these statuses; the others have none.
_EVENTS: dict[Status, _Event] = {
    "processing": "job.processing",
    "done": "job.completed",
    "error": "job.failed",
}
# The sandbox's jobs paint pictures.
_JOB_TYPE = "txt2img"

# When each of the ten tries is due, counted from the end of the one before: the
# documented waits, together some 23 hours.
_WAITS_SECONDS = (0, 60, 120, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200)
# The documented time for an answer; connecting is a part of it.
_TRY_SECONDS = 10.0
# The documented number of failed webhooks in a row that switches them off. What makes a
# webhook a failed one is left open; here it is the last try without 2xx, so that a
# short outage of the receiver switches nothing off.
_FAILED_IN_A_ROW = 10
# A receiver that takes its ten seconds each time gets 1.6 webhooks a second, one that
# answers at once as many as the processor allows: each takes 3 ms of a core (measured
# on two busy ones), for it has a connection of its own.
_TRIES_AT_ONCE = 16
# At the default rate an outage of more than an hour fills it; then new webhooks are
# dropped, counted, and never tried.
_MAX_OPEN = 10_000

_log = structlog.get_logger("bridge.sandbox")


class _Webhook(msgspec.Struct, frozen=True):
    """One webhook, the same at every try."""

    event: _Event
    # Never the same for two, whatever the seed is: a receiver remembers ids for longer
    # than a sandbox runs.
    delivery_id: str
    body: bytes


class Webhooks:
    """
    Sends webhooks to one URL, in no particular order: dryAPI promises none.

    Nothing is kept over the end of the process. What happens while webhooks are off
    is never sent, and a retry that is due then is the webhook's last: the
    documentation covers neither.

    Args:
        config: The URL, the secret and the prefix.
        addresses: Signs the addresses of results.
        statistics: Counts webhooks.
        transport: Sends requests in place of the network, for tests.
        now: Seconds since the epoch, for the signed timestamps.
    """

    def __init__(
        self,
        config: SandboxConfig,
        addresses: Addresses,
        statistics: WebhookStatistics,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._addresses = addresses
        self._statistics = statistics
        self._transport = transport
        self._now = now
        self._into, self._out_of = trio.open_memory_channel[_Webhook](_MAX_OPEN)
        self._places = trio.Semaphore(_TRIES_AT_ONCE)

    def announce(self, job: Job, previous: Status) -> None:
        """Send the webhook of a job's step, if it has one."""
        event = _EVENTS.get(job.status)
        if event is None:
            return
        data: dict[str, Any] = {
            "job_request_id": job.request_id,
            "status": job.status,
            # Only the WebSocket has `in_progress`.
            "previous_status": "processing" if previous == "in_progress" else previous,
            "job_type": _JOB_TYPE,
        }
        if job.status == "processing":
            data["started_at"] = iso_time(job.started_at)
        elif job.error is not None:
            data["failed_at"] = iso_time(job.ended_at)
            data |= msgspec.structs.asdict(job.error)
        else:
            data["completed_at"] = iso_time(job.ended_at)
            data["result_url"] = self._addresses.result(job.request_id)
            seconds = job.ended_at - job.started_at
            data["processing_time_ms"] = round(seconds * 1000)
        self.send(event, data)

    def send(self, event: _Event, data: dict[str, Any]) -> str:
        """
        Send a webhook; never waits.

        Returns:
            Its delivery id.
        """
        delivery_id = str(uuid.uuid4())
        counts = self._statistics
        counts.by_event[event] = counts.by_event.get(event, 0) + 1
        if counts.switched_off:
            counts.silenced += 1
        elif counts.open >= _MAX_OPEN:
            if not counts.dropped:
                _log.warning("sandbox.webhooks_dropped", open=counts.open)
            counts.dropped += 1
        else:
            counts.open += 1
            body = {
                "event": event,
                "delivery_id": delivery_id,
                "timestamp": iso_time(self._now()),
                "data": data,
            }
            encoded = msgspec.json.encode(body)
            self._into.send_nowait(_Webhook(event, delivery_id, encoded))
        return delivery_id

    def switch_on(self) -> None:
        """Send webhooks again, as after a click in the dashboard."""
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
        async with client, trio.open_nursery() as nursery:
            async for webhook in self._out_of:
                nursery.start_soon(self._deliver, client, webhook)

    async def _deliver(self, client: httpx.AsyncClient, webhook: _Webhook) -> None:
        counts = self._statistics
        for tries, wait_seconds in enumerate(_WAITS_SECONDS):
            await trio.sleep(wait_seconds * self._config.webhook_retry_scale)
            async with self._places:
                if counts.switched_off:
                    counts.open -= 1
                    counts.silenced += 1
                    return
                fault = await self._post(client, webhook)
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
                webhook=webhook.event,
                delivery_id=webhook.delivery_id,
                tries=tries + 1,
                fault=fault,
            )
        counts.open -= 1
        counts.failed += 1
        counts.failed_in_a_row += 1
        if counts.failed_in_a_row >= _FAILED_IN_A_ROW and not counts.switched_off:
            counts.switched_off = True
            counts.switched_off_total += 1
            _log.warning("sandbox.webhooks_switched_off", failed=_FAILED_IN_A_ROW)

    async def _post(self, client: httpx.AsyncClient, webhook: _Webhook) -> str | None:
        """Say what was wrong; None for 2xx. The answer's body isn't read."""
        with trio.move_on_after(_TRY_SECONDS):
            try:
                async with client.stream(
                    "POST",
                    self._config.webhook_url or "",
                    content=webhook.body,
                    headers=self._headers(webhook),
                ) as response:
                    if response.is_success:
                        return None
                    return "redirect" if response.is_redirect else "status"
            except httpx.HTTPError:
                return "unreachable"
        return "timeout"

    def _headers(self, webhook: _Webhook) -> dict[str, str]:
        # As documented, the id comes again on a retry, and receivers refuse a timestamp
        # more than 300 s from now. Retries come hours later, so timestamp and signature
        # must be those of the try. Whether the body's own `timestamp` is that of the
        # event or of the try is left open: here the body stays the same.
        config = self._config
        prefix, timestamp = f"X-{config.webhook_prefix}-", str(int(self._now()))
        signature = webhook_signature(config.webhook_secret, timestamp, webhook.body)
        return {
            "Content-Type": "application/json",
            "User-Agent": f"{config.webhook_prefix}-Webhook/1.0",
            f"{prefix}Signature": signature,
            f"{prefix}Timestamp": timestamp,
            f"{prefix}Event": webhook.event,
            f"{prefix}Delivery-Id": webhook.delivery_id,
        }
