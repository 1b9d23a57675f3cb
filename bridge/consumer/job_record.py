"""
What one record on the topic of jobs says, for readers that show jobs to people.

Each record is decoded once, whatever it is, and none raises.
"""

from __future__ import annotations

import math

import msgspec

from bridge.events import header_names as names
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.kafka.reader import ConsumedRecord


__all__ = [
    "MAX_TEXT",
    "UNREADABLE",
    "JobRecord",
    "is_address",
    "preview_bytes",
    "read_job_record",
    "request_id_of",
    "unframed",
]

# Text of a record that is kept: a hostile one must not fill the memory.
MAX_TEXT = 300

# The status of a record that isn't a job status.
UNREADABLE = "unreadable"

# Confluent's wire format: a byte 0, and the schema's id as four bytes, big-endian. No
# JSON begins with a byte 0 (RFC 8259, section 2).
_MAGIC = 0
_PREFIX_BYTES = 5


class _Payload(msgspec.Struct, gc=False):
    """What is shown of a job's record; everything else is ignored."""

    status: str
    progress: str | float | None = None
    preview: str | None = None
    result_url: str | None = None
    error_code: str | int | None = None
    error_message: str | None = None


_decode = msgspec.json.Decoder(_Payload).decode


class JobRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of a job; texts are as long as they were sent, unless cut."""

    request_id: str  # the record's key, cut
    status: str  # cut; `bridge_reason` or `UNREADABLE` where it isn't a job status
    progress: float | None  # percent, 0 to 100
    preview: str | None
    result_url: str | None  # with its signature
    error: str | None  # code and message of a failed job, cut

    @property
    def is_over(self) -> bool:
        """Whether the status is a job's last."""
        return self.status in TERMINAL_STATUSES


def read_job_record(record: ConsumedRecord) -> JobRecord:
    """Read one record, whatever it is."""
    try:
        payload = _decode(unframed(record)[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reason = record.headers.get(names.BRIDGE_REASON, UNREADABLE.encode())
        payload = _Payload(reason[:MAX_TEXT].decode(errors="replace"))
    key = record.key or record.headers.get(names.CE_SUBJECT)
    return JobRecord(
        # A record without a key is a job of its own.
        request_id_of(key) if key else f"{record.partition}/{record.offset}",
        payload.status[:MAX_TEXT],
        _percent(payload.progress),
        payload.preview,
        payload.result_url,
        _error(payload),
    )


def unframed(record: ConsumedRecord) -> tuple[int | None, bytes]:
    """
    Return a Schema Registry's id, None without one, and the value behind its prefix.

    A dead letter is left as it is: its value may begin with any byte.
    """
    value = record.value or b""
    if (
        len(value) <= _PREFIX_BYTES
        or value[0] != _MAGIC
        or names.BRIDGE_REASON in record.headers
    ):
        return None, value
    return int.from_bytes(value[1:_PREFIX_BYTES]), value[_PREFIX_BYTES:]


def preview_bytes(preview: str | None) -> int:
    """Compute the image's size: base64 encodes three bytes as four characters."""
    if not preview or is_address(preview):
        return 0
    # A data URL's head isn't part of the image.
    payload = len(preview) - (preview.find(",") + 1 if preview[:5] == "data:" else 0)
    return payload * 3 // 4 - preview[-2:].count("=")


def is_address(preview: str) -> bool:
    """Return whether a preview is an address, as in status answers, not an image."""
    return preview.startswith(("http://", "https://"))


def request_id_of(key: bytes) -> str:
    """Return a record's key as text of bounded length."""
    return key[:MAX_TEXT].decode(errors="replace")


def _percent(progress: str | float | None) -> float | None:
    """Read progress, a decimal string; None for anything that isn't a number."""
    try:
        value = float(progress) if progress is not None else None
    except ValueError:
        return None
    if value is None or not math.isfinite(value):
        return None
    return min(100.0, max(0.0, value))


def _error(payload: _Payload) -> str | None:
    parts = [payload.error_code, payload.error_message]
    return ": ".join(str(part) for part in parts if part)[:MAX_TEXT] or None
