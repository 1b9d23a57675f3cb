"""
What dryAPI's webhooks say: their bodies, headers and signatures.

Nothing is sent here: `deliveries` tries, and tries again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from bridge.sandbox.addresses import Addresses
from bridge.sandbox.config import SandboxConfig
from bridge.sandbox.jobs import Job, Status
from bridge.sandbox.signing import webhook_signature


__all__ = ["Delivery", "Webhooks", "headers"]

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

    Args:
        delivery: What is sent.
        config: The prefix and the secret.
        now: Seconds since the epoch.
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
        """
        Send what there is to say of a job's step.

        Args:
            job: The job after the step.
            previous: The status that it had before.
        """
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
        """
        Send `webhook.validation`, as the dashboard does to test the URL.

        Returns:
            The delivery's id.
        """
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
