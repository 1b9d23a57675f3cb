"""Records as a topic would give them."""

from __future__ import annotations

import json
from typing import Any

from bridge.kafka.reader import ConsumedRecord


START_MS = 1_700_000_000_000


def raw_record(
    value: bytes | None,
    *,
    key: bytes | None = b"job-1",
    topic: str = "jobs",
    offset: int = 0,
    at_ms: int = START_MS,
    headers: dict[str, bytes] | None = None,
) -> ConsumedRecord:
    """Make a record of bytes."""
    return ConsumedRecord(
        topic=topic,
        partition=2,
        offset=offset,
        timestamp_ms=at_ms,
        key=key,
        value=value,
        headers=headers or {},
    )


def job_record(
    request_id: str,
    status: str = "in_progress",
    *,
    offset: int = 0,
    at_ms: int = START_MS,
    headers: dict[str, bytes] | None = None,
    **fields: Any,
) -> ConsumedRecord:
    """Make a job's record as the bridge publishes it, with an account's headers."""
    source = {
        "ce_source": b"https://api.dryapi.dev/clients/client-42",
        "bridge_origin": b"socket",
    }
    value = {"request_id": request_id, "status": status, **fields}
    return raw_record(
        json.dumps(value).encode(),
        key=request_id.encode(),
        offset=offset,
        at_ms=at_ms,
        headers=source | (headers or {}),
    )
