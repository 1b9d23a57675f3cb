"""Webhooks, their requests, and the records that an account's intake makes of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from bridge.webhooks.ports import Make

from bridge.events.intake import Intake
from bridge.events.record import Origin
from bridge.sandbox.config import webhook_signature


CLIENT_ID = "42"
SECRET = "whsec_made-up"


def source_of(client_id: str) -> str:
    """Give the `ce_source` of an account."""
    return f"https://api.dryapi.dev/clients/{client_id}"


SOURCE = source_of(CLIENT_ID)


def make_of(client_id: str = CLIENT_ID, **options: Any) -> Make:
    """Make records as the service does: with an intake of the account's own."""
    return Intake(
        ce_source=source_of(client_id),
        topic="jobs",
        dead_letter_topic="jobs.dlq",
        origin=Origin.WEBHOOK,
        **options,
    ).record


def body_of(event: str, data: object, **members: Any) -> bytes:
    """Write a body, with a delivery's id of its own unless one is given."""
    body = {
        "event": event,
        "delivery_id": str(uuid.uuid4()),
        "timestamp": "2027-01-15T08:00:00.000Z",
        "data": data,
        **members,
    }
    return json.dumps({k: v for k, v in body.items() if v is not ...}).encode()


def processing(request_id: str = "job-1", **data: Any) -> dict[str, Any]:
    """Give the data of a job's first webhook."""
    return {
        "job_request_id": request_id,
        "status": "processing",
        "previous_status": "pending",
        "job_type": "txt2img",
        "started_at": "2027-01-15T07:59:50.000Z",
        **data,
    }


def completed(request_id: str = "job-1", **data: Any) -> dict[str, Any]:
    """Give the data of a finished job."""
    return {
        "job_request_id": request_id,
        "status": "done",
        "previous_status": "processing",
        "job_type": "txt2img",
        "completed_at": "2027-01-15T08:00:00.000Z",
        "result_url": f"https://storage.dryapi.dev/results/{request_id}.png?s=1",
        "processing_time_ms": 10_000,
        **data,
    }


def failed(request_id: str = "job-1", **data: Any) -> dict[str, Any]:
    """Give the data of a job that failed."""
    return {
        "job_request_id": request_id,
        "status": "error",
        "previous_status": "processing",
        "job_type": "txt2img",
        "failed_at": "2027-01-15T08:00:00.000Z",
        "error_code": "WORKER_TIMEOUT",
        "error_message": "The worker did not answer in time.",
        **data,
    }


def signed(
    body: bytes, now_seconds: float, *, secret: str = SECRET, prefix: str = "DryAPI"
) -> Mapping[str, str]:
    """Give the headers of a request, signed as the sandbox signs."""
    timestamp = str(int(now_seconds))
    return {
        "Content-Type": "application/json",
        f"X-{prefix}-Signature": webhook_signature(secret, timestamp, body),
        f"X-{prefix}-Timestamp": timestamp,
    }
