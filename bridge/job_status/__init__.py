"""
The payload of `request.status.updated`: tolerant in, strict out.

Owns what a job status looks like on `jobs` (`JobStatusRecord`), and the way from
whatever upstream sent to that form (`parse`). It knows neither where an event
came from nor where it goes: no Pusher, no Kafka, no clock and no I/O here.

The way of an event: `conforming.parse` looks at it once and lets conforming
bytes through untouched; `exact` decides about everything else. `lighter` makes a
status smaller when there is no room for all.
"""

from __future__ import annotations

from bridge.job_status.conforming import DEFAULT_MAX_BYTES, parse
from bridge.job_status.lighter import take_preview, without_preview
from bridge.job_status.outcome import Change, JobStatus
from bridge.job_status.published import (
    STATUSES,
    TERMINAL_STATUSES,
    JobStatusRecord,
    Status,
)


__all__ = [
    "DEFAULT_MAX_BYTES",
    "STATUSES",
    "TERMINAL_STATUSES",
    "Change",
    "JobStatus",
    "JobStatusRecord",
    "Status",
    "parse",
    "take_preview",
    "without_preview",
]
