"""
An example of each kind of record: its value and its headers.

Owns the examples alone. They are made of the types, and all of them are one story: an
account, two of its jobs, one gap.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from bridge.contract.dead_letter_headers import DeadLetterHeaders
from bridge.contract.headers import GapHeaders, JobStatusHeaders, PreviewHeaders
from bridge.errors import DeadLetterReason
from bridge.events import header_names as names
from bridge.events.job_status import STATUSES, Change, JobStatusRecord
from bridge.events.preview import CONTENT_TYPES
from bridge.events.record import Origin
from bridge.gaps.gap import GapCause, GapRecord


__all__ = [
    "DEAD_LETTER_HEADERS",
    "GAPS",
    "GAP_HEADERS",
    "JOB_STATUSES",
    "JOB_STATUS_HEADERS",
    "PREVIEW_HEADERS",
]

_JOB: Final = "123e4567-e89b-12d3-a456-426614174000"
_FAILED_JOB: Final = "9b2f61d0-7c1e-4c55-8f0b-6d7f3a0a2c11"
_CLIENT_ID: Final = "client-42"
_OPENED_AT: Final = "2026-01-31T12:00:00.000000Z"
_CLOSED_AT: Final = "2026-01-31T12:00:07.250000Z"
_SETTLED_AT: Final = "2026-01-31T12:00:09.500000Z"

JOB_STATUSES: Final = (
    JobStatusRecord(
        request_id=_JOB,
        status="in_progress",
        preview="data:image/jpeg;base64,/9j/4AAQSkZJRg==",
        result_url=None,
        progress="45.50",
    ),
    JobStatusRecord(
        request_id=_JOB,
        status="in_progress",
        preview=None,
        result_url=None,
        progress="62.00",
    ),
    JobStatusRecord(
        request_id=_JOB,
        status="done",
        preview=None,
        result_url="https://storage.dryapi.dev/results/1.png?signature=abc",
        progress="100.00",
    ),
    JobStatusRecord(
        request_id=_FAILED_JOB,
        status="error",
        preview=None,
        result_url=None,
        progress=None,
        error_code="WORKER_TIMEOUT",
        error_message="The worker did not answer in time.",
    ),
)

_OPENED: Final = GapRecord(
    gap_id="5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11",
    cause=GapCause.OUTBOX_FULL.value,
    client_id=_CLIENT_ID,
    since=_OPENED_AT,
    until=None,
    duration_seconds=None,
    close_code=None,
    jobs_in_flight=None,
)
_CLOSED: Final = msgspec.structs.replace(
    _OPENED, until=_CLOSED_AT, duration_seconds=7.25, jobs_in_flight=3
)
_SETTLED: Final = msgspec.structs.replace(
    _CLOSED, healed_by_status_endpoint=2, healed_by_webhook=1, unknown=0
)
GAPS: Final = (_OPENED, _CLOSED, _SETTLED)

_DIGEST: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def _shared(number: int, **more: Any) -> dict[str, Any]:
    """Give what the headers of every record say."""
    return {
        "ce_specversion": "1.0",
        "ce_id": f"5f0c1c526a2f4c53-{number}",
        "ce_source": f"https://api.dryapi.dev/clients/{_CLIENT_ID}",
        "ce_time": _OPENED_AT,
        "bridge_outbox": "0d6a2d3e-8d0c-4b5e-9c56-0a7d9f0f8f3b",
        "bridge_sequence": str(number),
        "bridge_origin": Origin.SOCKET.value,
        **more,
    }


_OF_JOB: Final = JobStatusHeaders(
    **_shared(42),
    ce_type=names.JOB_STATUS_TYPE,
    ce_subject=_JOB,
    content_type=names.JSON_CONTENT,
)
JOB_STATUS_HEADERS: Final = (
    _OF_JOB,
    msgspec.structs.replace(
        _OF_JOB,
        bridge_normalized=Change.PREVIEW_MOVED.value,
        bridge_preview_sha256=_DIGEST,
        bridge_anomaly=names.RESENT.decode(),
    ),
)

_OF_GAP: Final = GapHeaders(
    **_shared(7),
    ce_type=names.GAP_TYPE,
    ce_subject=_CLIENT_ID,
    content_type=names.JSON_CONTENT,
)
GAP_HEADERS: Final = (
    _OF_GAP,
    msgspec.structs.replace(
        _OF_GAP, ce_id="5f0c1c526a2f4c53-8", ce_time=_CLOSED_AT, bridge_sequence="8"
    ),
    msgspec.structs.replace(
        _OF_GAP, ce_id="5f0c1c526a2f4c53-9", ce_time=_SETTLED_AT, bridge_sequence="9"
    ),
)

PREVIEW_HEADERS: Final = (
    PreviewHeaders(
        **_shared(41),
        ce_type=names.PREVIEW_TYPE,
        ce_subject=_JOB,
        content_type=CONTENT_TYPES[0],
        bridge_preview_sha256=_DIGEST,
    ),
)

_OF_DEAD_LETTER: Final = DeadLetterHeaders(
    **_shared(3),
    ce_type=names.DEAD_LETTER_TYPE,
    ce_subject=_JOB,
    content_type=names.JSON_CONTENT,
    bridge_reason=DeadLetterReason.UNKNOWN_STATUS.value,
    error_stage=names.VALUE_CONVERTER_STAGE,
    error_class="bridge.errors.InvalidEventError",
    error_message=f"status is a string that is none of {', '.join(STATUSES)}",
)
DEAD_LETTER_HEADERS: Final = (
    _OF_DEAD_LETTER,
    msgspec.structs.replace(
        _OF_DEAD_LETTER,
        content_type=names.BYTES_CONTENT,
        bridge_reason=DeadLetterReason.REFUSED_BY_BROKER.value,
        error_stage=names.KAFKA_PRODUCE_STAGE,
        error_class="aiokafka.errors.MessageSizeTooLargeError",
        error_message="the broker refuses the record: it is too large for the topic",
        bridge_truncated="true",
        bridge_original_size="1048577",
        bridge_sha256=_DIGEST,
        bridge_refused_topic="jobs",
        bridge_refused_partition="3",
        bridge_refused_sequence="17",
        bridge_refused_ce_id="5f0c1c526a2f4c53-17",
    ),
)
