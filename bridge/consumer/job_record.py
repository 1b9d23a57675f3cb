"""
What one record of the topic of jobs says, for whoever shows jobs to people.

Owns how a record is read, whatever it is: each is decoded once, and none raises. What
is kept of it, and for how long, is for those who show it.
"""

from __future__ import annotations

import math

import msgspec

from bridge.consumer.framed import unframed
from bridge.events import header_names as names
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.kafka.reader import ConsumedRecord


__all__ = [
    "MAX_TEXT",
    "JobRecord",
    "is_address",
    "preview_bytes",
    "read_job_record",
    "request_id_of",
]

# Text of a record that is shown: a hostile one must not fill the memory.
MAX_TEXT = 300


class _Payload(msgspec.Struct, gc=False):
    """What is shown of a job's record; everything else is passed over."""

    status: str
    progress: str | float | None = None
    preview: str | None = None
    result_url: str | None = None
    error_code: str | int | None = None
    error_message: str | None = None


_decode = msgspec.json.Decoder(_Payload).decode


class JobRecord(msgspec.Struct, frozen=True, gc=False):
    """
    A record of a job.

    Attributes:
        request_id: The record's key as text.
        status: The status; for a record that is no job status, its
            `bridge_reason` header or "unreadable".
        progress: Percent, 0 to 100, or None where none was said.
        preview: The preview as it was sent, of any length.
        result_url: Where the result lies, with its signature, of any length.
        error: Code and message of a failed job.
    """

    request_id: str
    status: str
    progress: float | None
    preview: str | None
    result_url: str | None
    error: str | None

    @property
    def is_over(self) -> bool:
        """Whether the status is a job's last."""
        return self.status in TERMINAL_STATUSES


def read_job_record(record: ConsumedRecord) -> JobRecord:
    """Read one record, whatever it is."""
    try:
        payload = _decode(unframed(record)[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reason = record.headers.get(names.BRIDGE_REASON, b"unreadable")
        payload = _Payload(reason[:MAX_TEXT].decode(errors="replace"))
    key = record.key or record.headers.get(names.CE_SUBJECT)
    return JobRecord(
        # A record without key stands for itself.
        request_id_of(key) if key else f"{record.partition}/{record.offset}",
        payload.status[:MAX_TEXT],
        _percent(payload.progress),
        payload.preview,
        payload.result_url,
        _error(payload),
    )


def preview_bytes(preview: str | None) -> int:
    """Size of the image: base64 carries three bytes in four characters."""
    if not preview or is_address(preview):
        return 0
    # A data URL's head is no part of the image.
    payload = len(preview) - (preview.find(",") + 1 if preview[:5] == "data:" else 0)
    return payload * 3 // 4 - preview[-2:].count("=")


def is_address(preview: str) -> bool:
    """Whether a preview is no image but says where one lies, as status answers do."""
    return preview.startswith(("http://", "https://"))


def request_id_of(key: bytes) -> str:
    """Give a record's key as text that is safe to keep."""
    return key[:MAX_TEXT].decode(errors="replace")


def _percent(progress: str | float | None) -> float | None:
    """Read progress, a decimal string; None for anything that is no number."""
    try:
        value = float(progress) if progress is not None else None
    except ValueError:
        return None
    if value is None or not math.isfinite(value):
        return None
    return min(100.0, max(0.0, value))


def _error(payload: _Payload) -> str | None:
    if payload.error_code is None and payload.error_message is None:
        return None
    parts = [payload.error_code, payload.error_message]
    return ": ".join(str(part) for part in parts if part)[:MAX_TEXT] or None
