"""Records as a topic would give them, for this folder's tests."""

from __future__ import annotations

import json
from typing import Any

from bridge.kafka.reader import ConsumedRecord


START_MS = 1_700_000_000_000


def raw_record(
    value: bytes | None,
    *,
    key: bytes | None = b"job-1",
    offset: int = 0,
    after_ms: int = 0,
    headers: dict[str, bytes] | None = None,
) -> ConsumedRecord:
    """Make a record of bytes; `after_ms` is its time after the first one's."""
    return ConsumedRecord(
        topic="jobs",
        partition=2,
        offset=offset,
        timestamp_ms=START_MS + after_ms,
        key=key,
        value=value,
        headers=headers or {},
    )


def job_record(
    request_id: str,
    status: str,
    *,
    offset: int = 0,
    after_ms: int = 0,
    **fields: Any,
) -> ConsumedRecord:
    """Make a job's record as the bridge publishes it."""
    value = {
        "request_id": request_id,
        "status": status,
        "preview": None,
        "result_url": None,
        "progress": None,
        **fields,
    }
    return raw_record(
        json.dumps(value).encode(),
        key=request_id.encode(),
        offset=offset,
        after_ms=after_ms,
    )
