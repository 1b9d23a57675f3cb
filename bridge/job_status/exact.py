"""
The long way of an event that doesn't conform as it came.

Owns every decision about such events: what passes, what is changed and how it is
noted, what is refused and why. Speed is second here. Nothing is invented: what
upstream did not say becomes null. Messages name fields and types, never contents:
they travel in headers and logs.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from math import isinf
from typing import Any, Final

import msgspec

from bridge.errors import DeadLetterReason, InvalidEventError
from bridge.job_status.outcome import Change, JobStatus
from bridge.job_status.published import (
    MAX_PROGRESS_CHARACTERS,
    MAX_REQUEST_ID_CHARACTERS,
    PROGRESS,
    REQUEST_ID,
    STATUSES,
)
from bridge.job_status.rendering import render


__all__ = ["MAX_DEPTH", "parse_other", "parse_text"]

# Readers give up at different depths (.NET's at 64, Rust's serde at 128, Jackson at
# 1000): what the strictest of them reads, all read. The event itself is level 1.
MAX_DEPTH: Final = 64

_NULLABLE_TEXTS: Final = ("preview", "result_url", "error_code", "error_message")
_MAY_BE_LEFT_OUT: Final = ("preview", "result_url", "progress")
_UNCHANGED_TYPES: Final = (msgspec.Raw, bool)

# In bytes that are no JSON, or were not read whole, the job is looked for at the
# beginning; plain characters alone, so that what is found needs no decoding.
_REQUEST_ID_MEMBER: Final = re.compile(rb'"request_id"\s*:\s*"([ !#-\[\]-~]{1,256})"')
_SEARCHED_BYTES: Final = 65_536

_TYPE_NAMES: Final[dict[type, str]] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    msgspec.Raw: "a number",
    type(None): "null",
}


def parse_text(
    text: str, max_bytes: int, changes: frozenset[Change] = frozenset()
) -> JobStatus:
    """
    Make a job status of a text, whatever it holds.

    Args:
        text: The `data` of the frame, or what it was written down as.
        max_bytes: The largest value that may go to Kafka.
        changes: What was changed already, to be noted with the rest.

    Returns:
        The status; `value` is the text's own bytes if nothing had to be changed.

    Raises:
        InvalidEventError: As `conforming.parse` says.
    """
    return _Reading(text, set(changes)).job_status(max_bytes)


def parse_other(data: object, max_bytes: int) -> JobStatus:
    """
    Make a job status of a `data` member that is no string.

    Args:
        data: A decoded JSON value, or bytes that are no UTF-8.
        max_bytes: The largest value that may go to Kafka.

    Returns:
        The status, always noted as changed.

    Raises:
        InvalidEventError: As `conforming.parse` says; `original` is the value
            written down again, since its own bytes went with the frame.
    """
    if isinstance(data, bytes):
        raise InvalidEventError(
            DeadLetterReason.NOT_JSON, "the event is not UTF-8", original=data
        )
    text = render(data)
    if isinstance(data, dict):
        return parse_text(text, max_bytes, frozenset({Change.DATA_NOT_STRING}))
    raise _Reading(text, set()).error(
        DeadLetterReason.NOT_AN_OBJECT,
        f"the event is {_type_name(data)}, not an object",
    )


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
    """
    One event on the long way, with what is known of it so far.

    Attributes:
        changes: What was changed, in no order.
    """

    def __init__(self, text: str, changes: set[Change]) -> None:
        self.changes = changes
        self._text = text
        # A str may hold halves of surrogate pairs, which UTF-8 has no bytes for.
        self._original = text.encode("utf-8", "surrogatepass")
        self._request_id: str | None = None

    def job_status(self, max_bytes: int) -> JobStatus:
        """Read, check and change what may be changed."""
        self._limit(self._original, max_bytes)
        members = self._members()
        request_id = self._request_id = self._check_request_id(members)
        status = self._check_status(members)
        self._check_texts(members)
        self._check_progress(members)
        for name in _MAY_BE_LEFT_OUT:
            if name not in members:
                members[name] = None
                self.changes.add(Change.MISSING_FIELD)
        value = msgspec.json.encode(members) if self.changes else self._original
        self._limit(value, max_bytes)
        return JobStatus(
            request_id,
            request_id.encode(),
            status,
            value,
            _in_order(self.changes),
            members["preview"] is not None,
            members["progress"],
        )

    def error(self, reason: DeadLetterReason, message: str) -> InvalidEventError:
        """Make the error that refuses this event."""
        return InvalidEventError(
            reason, message, original=self._original, request_id=self._request_id
        )

    def _unread(self, reason: DeadLetterReason, message: str) -> InvalidEventError:
        """Make the error for an event that was not read to its end."""
        if self._request_id is None:
            found = _REQUEST_ID_MEMBER.search(self._original, 0, _SEARCHED_BYTES)
            self._request_id = found and found[1].decode()
        return self.error(reason, message)

    def _limit(self, value: bytes, max_bytes: int) -> None:
        if len(value) > max_bytes:
            raise self._unread(
                DeadLetterReason.TOO_LARGE,
                f"the event has {len(value)} bytes, more than {max_bytes}",
            )

    # Reading: from text to members that can be written as strict JSON.

    def _members(self) -> dict[str, Any]:
        value = self._decoded(self._text)
        if isinstance(value, str) and value.lstrip().startswith("{"):
            # Encoded once too often, or the text of a frame's `data` that its own
            # decoder refused for a surrogate without its half.
            value = self._decoded(value)
            self.changes.add(Change.ENCODED_TWICE)
        value = self._clean(value, 1)
        if not isinstance(value, dict):
            raise self.error(
                DeadLetterReason.NOT_AN_OBJECT,
                f"the event is {_type_name(value)}, not an object",
            )
        return value

    def _decoded(self, text: str) -> Any:
        try:
            return _decode(text)
        except json.JSONDecodeError as error:
            problem = f"malformed JSON at character {error.pos}"
        except _ConstantError as error:
            problem = f"{error} is no JSON"
        except RecursionError:
            raise self._too_deep() from None
        # Outside of the handlers: the decoder's error holds the whole text, and
        # would be kept by the one raised here.
        raise self._unread(DeadLetterReason.NOT_JSON, problem)

    def _too_deep(self) -> InvalidEventError:
        return self._unread(
            DeadLetterReason.TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels"
        )

    def _clean(self, value: Any, depth: int) -> Any:
        """Repair what the decoder left, at this depth and below."""
        if isinstance(value, str):
            return value if value.isascii() else self._repaired(value)
        if value is None or isinstance(value, _UNCHANGED_TYPES):
            return value
        if value is _OUT_OF_RANGE:
            self.changes.add(Change.NUMBER_OUT_OF_RANGE)
            return None
        if depth > MAX_DEPTH:
            raise self._too_deep()
        if isinstance(value, list):
            return [self._clean(item, depth + 1) for item in value]
        members: dict[str, Any] = {}
        for name, item in value:
            members[self._clean(name, depth)] = self._clean(item, depth + 1)
        if len(members) != len(value):
            self.changes.add(Change.DUPLICATE_KEY)
        return members

    def _repaired(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            self.changes.add(Change.INVALID_UNICODE)
            # By way of UTF-16 two halves that stand together become their character.
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
        raise self.error(DeadLetterReason.MISSING_REQUEST_ID, problem)

    def _check_status(self, members: dict[str, Any]) -> str:
        status = members.get("status")
        if isinstance(status, str) and status in STATUSES:
            return status
        if isinstance(status, str):
            problem = f"status is a string that is none of {', '.join(STATUSES)}"
        else:
            problem = _found(members, "status", "a string")
        raise self.error(DeadLetterReason.UNKNOWN_STATUS, problem)

    def _check_texts(self, members: dict[str, Any]) -> None:
        for name in _NULLABLE_TEXTS:
            value = members.get(name)
            if value is not None and not isinstance(value, str):
                problem = _found(members, name, "a string or null")
                raise self.error(DeadLetterReason.INVALID_FIELD, problem)

    def _check_progress(self, members: dict[str, Any]) -> None:
        progress = members.get("progress")
        if isinstance(progress, msgspec.Raw):
            decimal = _decimal_string(bytes(progress).decode())
            self.changes.add(Change.PROGRESS_NUMBER)
        elif progress is None or isinstance(progress, str):
            decimal = progress
        else:
            problem = _found(members, "progress", "a string, a number or null")
            raise self.error(DeadLetterReason.INVALID_FIELD, problem)
        if decimal is not None and _is_progress(decimal):
            members["progress"] = decimal
        elif progress is not None:
            problem = (
                f"progress is {_type_name(progress)}, but no decimal from 0 up with at"
                f" most {MAX_PROGRESS_CHARACTERS} characters"
            )
            raise self.error(DeadLetterReason.INVALID_FIELD, problem)


def _in_order(changes: set[Change]) -> tuple[Change, ...]:
    return tuple(change for change in Change if change in changes) if changes else ()


def _is_progress(text: str) -> bool:
    return len(text) <= MAX_PROGRESS_CHARACTERS and bool(PROGRESS.fullmatch(text))


def _decimal_string(literal: str) -> str | None:
    """
    Write a JSON number as the shortest decimal with two decimals or more.

    Args:
        literal: The number as it stood in the text, finite.

    Returns:
        45.5 gives "45.50", 7 "7.00", 1e1 "10.00", 33.333 "33.333". None for
        numbers that are far too long to be written out.
    """
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


def _type_name(value: object) -> str:
    return _TYPE_NAMES.get(type(value), "of an unknown type")


def _found(members: dict[str, Any], name: str, wanted: str) -> str:
    if name not in members:
        return f"{name} is missing"
    return f"{name} is {_type_name(members[name])}, not {wanted}"
