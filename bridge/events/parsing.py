"""
From an event's text to a job status: tolerant of input, strict in output.

Nearly all events conform already. One typed decode and one count prove that, and their
bytes stay unchanged. Other events take the slow path (`_Reading`): it decides what is
kept, what is changed and how that is noted, and what is refused and why. Nothing is
invented: a field that upstream didn't send becomes null. Error messages name fields and
types, never contents: they are published in headers and logs.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from math import isinf
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from bridge.errors import DeadLetterReason, InvalidEventError
from bridge.events.job_status import (
    MAX_PROGRESS_CHARACTERS,
    MAX_REQUEST_ID_CHARACTERS,
    PROGRESS,
    REQUEST_ID,
    STATUSES,
    Change,
    JobStatus,
    JobStatusRecord,
    Progress,
    RequestId,
    Status,
)


__all__ = ["parse", "parse_value"]

# Above this size the preview is most of an event. Making a string of it doubled the
# cost of 90 KB (46 us against 21 us), so there it is only looked at.
_LARGE_BYTES: Final = 4096

# What upstream sends before the preview takes about 110 bytes. Any number is right;
# this one makes the search for the next quote cross the preview.
_HEAD_BYTES: Final = 512

# Five keys and the values of `request_id` and `status` are always there.
_ALWAYS_QUOTES: Final = 14

_NULL: Final = msgspec.Raw(b"null")

# Readers fail at different depths (.NET's at 64, Rust's serde at 128, Jackson at
# 1000): what the strictest of them reads, all read. The event itself is level 1.
_MAX_DEPTH: Final = 64
_TOO_DEEP: Final = f"nested deeper than {_MAX_DEPTH} levels"

_NULLABLE_TEXTS: Final = ("preview", "result_url", "error_code", "error_message")
_MAY_BE_LEFT_OUT: Final = ("preview", "result_url", "progress")
_UNCHANGED_TYPES: Final = (msgspec.Raw, bool)

# In text that is not JSON, or was not read whole, the job is looked for at the start;
# plain characters only, so that what is found needs no decoding.
_REQUEST_ID_MEMBER: Final = re.compile(rb'"request_id"\s*:\s*"([ !#-\[\]-~]{1,256})"')
_SEARCHED_BYTES: Final = 65_536

_TYPE_NAMES: Final[dict[type, str]] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    msgspec.Raw: "a number",
    type(None): "null",
}


class _LargeRecord(msgspec.Struct, frozen=True, gc=False):
    """`JobStatusRecord`, its preview not decoded."""

    request_id: RequestId
    status: Status
    preview: msgspec.Raw
    result_url: str | None
    progress: Progress | None
    error_code: str | UnsetType | None = UNSET
    error_message: str | UnsetType | None = UNSET


_decode_record = msgspec.json.Decoder(JobStatusRecord).decode
_decode_large = msgspec.json.Decoder(_LargeRecord).decode

# Upstream writes two decimals, 10,001 texts: one that was seen takes a third.
_is_progress = lru_cache(maxsize=16_384)(PROGRESS.fullmatch)


def parse(text: str) -> JobStatus:
    """
    Make a job status of an event's text: a frame's `data` is a string as a rule.

    Returns:
        The status; `value` is exactly `text.encode()` if `normalized` is empty.

    Raises:
        InvalidEventError: The text is not an event and can't be made one.
    """
    try:
        status = _conforming(text.encode())
    except (UnicodeEncodeError, msgspec.DecodeError, RecursionError):
        status = None
    return _Reading(text, set()).job_status() if status is None else status


def parse_value(original: bytes) -> JobStatus:
    """Make a job status of the JSON of a `data` member that is not a string."""
    return _Reading(original.decode(), {Change.DATA_NOT_STRING}).job_status()


def _conforming(value: bytes) -> JobStatus | None:
    """
    Prove that the bytes conform as they are, or return None.

    The typed decode finds malformed JSON, bytes after the end, surrogates without
    their half, left-out members and wrong types. It doesn't find a repeated or an
    unknown member. But every member brings the two quotes of its key, and every string
    value two more: a text that has exactly the quotes of the decoded members has no
    other member. (An escaped quote, or `error_code`, only costs the slow path.)
    """
    record: JobStatusRecord | _LargeRecord
    expected = _ALWAYS_QUOTES
    if len(value) < _LARGE_BYTES:
        record = _decode_record(value)
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
    # pattern, and the slow path has the last word.
    if quotes != expected or not request_id.isprintable():
        return None
    key = request_id.encode()
    return JobStatus(request_id, key, record.status, value, (), has_preview, progress)


def _count_quotes(value: bytes) -> int:
    """
    Count the quotes of a large event without counting through its preview.

    Searching one byte crosses 90 KB in 1 us, counting it takes 25 us; between two
    neighboring quotes there is nothing to count.
    """
    quotes = value.count(b'"', 0, _HEAD_BYTES)
    following = value.find(b'"', _HEAD_BYTES)
    return quotes if following < 0 else quotes + value.count(b'"', following)


# -- The slow path -------------------------------------------------------------------


class _ConstantError(ValueError):
    """Python's decoder met NaN or Infinity, which JSON doesn't have."""


def _number(literal: str) -> msgspec.Raw | object:
    """Keep a number as it was written: no digit is lost by a double."""
    return _OUT_OF_RANGE if isinf(float(literal)) else msgspec.Raw(literal.encode())


def _constant(name: str) -> None:
    raise _ConstantError(name)


_OUT_OF_RANGE: Final = object()

# An object becomes the tuple of its members, so that none of them is lost. One
# decoder for all events: making one takes longer than using it.
_decode: Final = json.JSONDecoder(
    object_pairs_hook=tuple,
    parse_int=_number,
    parse_float=_number,
    parse_constant=_constant,
).decode


class _Reading:
    """One event on the slow path, with what was changed so far."""

    def __init__(self, text: str, changes: set[Change]) -> None:
        self._changes = changes
        self._text = text
        # A str may hold halves of surrogate pairs, which UTF-8 has no bytes for.
        self._original = text.encode("utf-8", "surrogatepass")
        self._request_id: str | None = None

    def job_status(self) -> JobStatus:
        """Read, check and change what may be changed."""
        members = self._members()
        request_id = self._request_id = self._check_request_id(members)
        status = self._check_status(members)
        self._check_texts(members)
        self._check_progress(members)
        for name in _MAY_BE_LEFT_OUT:
            if name not in members:
                members[name] = None
                self._changes.add(Change.MISSING_FIELD)
        return JobStatus(
            request_id,
            request_id.encode(),
            status,
            msgspec.json.encode(members) if self._changes else self._original,
            tuple(change for change in Change if change in self._changes),
            members["preview"] is not None,
            members["progress"],
        )

    def _error(self, reason: DeadLetterReason, message: str) -> InvalidEventError:
        return InvalidEventError(
            message,
            reason=reason,
            original=self._original,
            request_id=self._request_id,
        )

    def _unread(self, reason: DeadLetterReason, message: str) -> InvalidEventError:
        """Make the error for an event that was not read to its end."""
        found = _REQUEST_ID_MEMBER.search(self._original, 0, _SEARCHED_BYTES)
        self._request_id = found and found[1].decode()
        return self._error(reason, message)

    # Reading: from text to members that can be written as strict JSON.

    def _members(self) -> dict[str, Any]:
        value = self._decoded(self._text)
        if isinstance(value, str) and value.lstrip().startswith("{"):
            # Encoded once too often, or the text of a frame's `data` that its own
            # decoder refused for a surrogate without its half.
            value = self._decoded(value)
            self._changes.add(Change.ENCODED_TWICE)
        value = self._clean(value, 1)
        if not isinstance(value, dict):
            raise self._error(
                DeadLetterReason.NOT_AN_OBJECT,
                f"the event is {_TYPE_NAMES[type(value)]}, not an object",
            )
        return value

    def _decoded(self, text: str) -> Any:
        try:
            return _decode(text)
        except json.JSONDecodeError as error:
            problem = f"malformed JSON at character {error.pos}"
        except _ConstantError as error:
            problem = f"{error} isn't JSON"
        except RecursionError:
            raise self._unread(DeadLetterReason.TOO_DEEP, _TOO_DEEP) from None
        # Outside of the handlers: the decoder's error holds the whole text, and
        # would be kept by the one raised here.
        raise self._unread(DeadLetterReason.NOT_JSON, problem)

    def _clean(self, value: Any, depth: int) -> Any:
        """Repair what the decoder left, at this depth and below."""
        if isinstance(value, str):
            return value if value.isascii() else self._repaired(value)
        if value is None or isinstance(value, _UNCHANGED_TYPES):
            return value
        if value is _OUT_OF_RANGE:
            self._changes.add(Change.NUMBER_OUT_OF_RANGE)
            return None
        if depth > _MAX_DEPTH:
            raise self._unread(DeadLetterReason.TOO_DEEP, _TOO_DEEP)
        if isinstance(value, list):
            return [self._clean(item, depth + 1) for item in value]
        members: dict[str, Any] = {}
        for name, item in value:
            members[self._clean(name, depth)] = self._clean(item, depth + 1)
        if len(members) != len(value):
            self._changes.add(Change.DUPLICATE_KEY)
        return members

    def _repaired(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            self._changes.add(Change.INVALID_UNICODE)
            # By way of UTF-16 two halves side by side become their character.
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    # Checking: from members to a job status.

    def _check_request_id(self, members: dict[str, Any]) -> str:
        request_id = members.get("request_id")
        if not isinstance(request_id, str):
            problem = _found(members, "request_id", "a string")
        elif not request_id:
            problem = "request_id is empty"
        elif len(request_id) > MAX_REQUEST_ID_CHARACTERS:
            problem = f"request_id has more than {MAX_REQUEST_ID_CHARACTERS} characters"
        elif not REQUEST_ID.fullmatch(request_id):
            problem = "request_id has control characters"
        else:
            return request_id
        raise self._error(DeadLetterReason.MISSING_REQUEST_ID, problem)

    def _check_status(self, members: dict[str, Any]) -> str:
        status = members.get("status")
        if isinstance(status, str) and status in STATUSES:
            return status
        if isinstance(status, str):
            problem = f"status is a string that is none of {', '.join(STATUSES)}"
        else:
            problem = _found(members, "status", "a string")
        raise self._error(DeadLetterReason.UNKNOWN_STATUS, problem)

    def _check_texts(self, members: dict[str, Any]) -> None:
        for name in _NULLABLE_TEXTS:
            value = members.get(name)
            if value is not None and not isinstance(value, str):
                problem = _found(members, name, "a string or null")
                raise self._error(DeadLetterReason.INVALID_FIELD, problem)

    def _check_progress(self, members: dict[str, Any]) -> None:
        progress = members.get("progress")
        if progress is None:
            return
        if isinstance(progress, msgspec.Raw):
            decimal = _decimal_string(bytes(progress).decode())
            self._changes.add(Change.PROGRESS_NUMBER)
        elif isinstance(progress, str):
            decimal = progress
        else:
            problem = _found(members, "progress", "a string, a number or null")
            raise self._error(DeadLetterReason.INVALID_FIELD, problem)
        if (
            decimal is None
            or len(decimal) > MAX_PROGRESS_CHARACTERS
            or not PROGRESS.fullmatch(decimal)
        ):
            problem = (
                f"progress is {_TYPE_NAMES[type(progress)]}, but no decimal from 0 up"
                f" with at most {MAX_PROGRESS_CHARACTERS} characters"
            )
            raise self._error(DeadLetterReason.INVALID_FIELD, problem)
        members["progress"] = decimal


def _decimal_string(literal: str) -> str | None:
    """Write a number with two decimals or more; None if it is far too long."""
    try:
        number = Decimal(literal)
    except InvalidOperation:  # an exponent of more than 18 digits
        return None
    if number.is_zero():
        return "0.00"
    # Before anything is written out: 1e-999999999 would be a text of a gigabyte.
    if abs(number.adjusted()) > MAX_PROGRESS_CHARACTERS:
        return None
    whole, _, fraction = format(number, "f").partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def _found(members: dict[str, Any], name: str, wanted: str) -> str:
    if name not in members:
        return f"{name} is missing"
    return f"{name} is {_TYPE_NAMES[type(members[name])]}, not {wanted}"
