"""
The short way of an event that conforms already, which nearly all do.

Owns the proof that bytes may pass untouched: one typed decode and one count. When
the proof fails nothing is decided here: `exact` decides. No tolerance here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from bridge.job_status import exact
from bridge.job_status.outcome import JobStatus
from bridge.job_status.published import (
    PROGRESS,
    JobStatusRecord,
    Progress,
    RequestId,
    Status,
)


__all__ = ["DEFAULT_MAX_BYTES", "parse"]

# A topic takes batches of 1,048,588 bytes by default (`max.message.bytes`); the
# difference is room for key, headers and the batch's own framing.
DEFAULT_MAX_BYTES: Final = 1_000_000

# Above this size the preview is most of an event. Making a string of it doubled the
# cost of 90 KB (46 us against 21 us), so there it is only looked at.
_LARGE_BYTES: Final = 4096

# What upstream sends before the preview takes about 110 bytes. Any number is right;
# this one makes the search for the next quote cross the preview.
_HEAD_BYTES: Final = 512

# Five keys and the values of `request_id` and `status` are always there.
_ALWAYS_QUOTES: Final = 14

_NULL: Final = msgspec.Raw(b"null")


class _LargeRecord(msgspec.Struct, frozen=True, gc=False):
    """`JobStatusRecord`, its preview left where it stands."""

    request_id: RequestId
    status: Status
    preview: msgspec.Raw
    result_url: str | None
    progress: Progress | None
    error_code: str | UnsetType | None = UNSET
    error_message: str | UnsetType | None = UNSET


_decode = msgspec.json.Decoder(JobStatusRecord).decode
_decode_large = msgspec.json.Decoder(_LargeRecord).decode

# Upstream writes two decimals, 10,001 texts: one that was seen takes a third.
_is_progress = lru_cache(maxsize=16_384)(PROGRESS.fullmatch)


def parse(data: object, max_bytes: int = DEFAULT_MAX_BYTES) -> JobStatus:
    """
    Make a job status of the `data` member of a frame.

    A conforming preview is copied once, by the encoding that makes the value.

    Args:
        data: The decoded member: a `str` that holds JSON as a rule; any other JSON
            value is looked at too. Bytes are what is no UTF-8.
        max_bytes: The largest value that may go to Kafka.

    Returns:
        The status; `value` is exactly `data.encode()` if `normalized` is empty.

    Raises:
        InvalidEventError: The event is none and can't be made one; its `reason` is
            any of the closed vocabulary but `refused_by_broker`.
    """
    if not isinstance(data, str):
        return exact.parse_other(data, max_bytes)
    try:
        value = data.encode()
        status = _conforming(value) if len(value) <= max_bytes else None
    except (UnicodeEncodeError, msgspec.DecodeError, RecursionError):
        status = None
    return exact.parse_text(data, max_bytes) if status is None else status


def _conforming(value: bytes) -> JobStatus | None:
    """
    Prove that the bytes conform as they are, or return None.

    The typed decode sees malformed JSON, bytes after the end, surrogates without
    their half, left-out members and wrong types. It doesn't see a member that
    stands there twice or is unknown. But every member brings the two quotes of its
    key, and every string value two more: a text that has exactly the quotes of the
    decoded members has no other member. (An escaped quote, or `error_code`, only
    sends an event the long way.)
    """
    record: JobStatusRecord | _LargeRecord
    expected = _ALWAYS_QUOTES
    if len(value) < _LARGE_BYTES:
        record = _decode(value)
        quotes = value.count(b'"')
        has_preview = record.preview is not None
        if has_preview:
            expected += 2
    else:
        record = _decode_large(value)
        quotes = _count_quotes(value)
        has_preview = record.preview != _NULL
        if has_preview:
            if memoryview(record.preview)[0] != 0x22:  # neither null nor a string
                return None
            expected += 2
    if record.result_url is not None:
        expected += 2
    progress = record.progress
    if progress is not None:
        if not _is_progress(progress):
            return None
        expected += 2
    request_id = record.request_id
    # `isprintable` refuses more than the contract does: it is cheaper than the
    # pattern, and `exact` has the last word.
    if quotes != expected or not request_id.isprintable():
        return None
    key = request_id.encode()
    return JobStatus(request_id, key, record.status, value, (), has_preview, progress)


def _count_quotes(value: bytes) -> int:
    """
    Count the quotes of a large event without counting through its preview.

    Searching one byte crosses 90 KB in 1 us, counting it takes 25 us; between two
    neighbouring quotes there is nothing to count.
    """
    quotes = value.count(b'"', 0, _HEAD_BYTES)
    following = value.find(b'"', _HEAD_BYTES)
    return quotes if following < 0 else quotes + value.count(b'"', following)
