"""
A webhook's request without I/O: its signature, its content, and the possible answers.

dryAPI signs the timestamp and the body. The headers that name the event and the
delivery are not signed, so they are ignored: the body contains both.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Self, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from bridge.events.job_status import STATUSES
from bridge.settings import Secret


__all__ = [
    "MEMBERS",
    "TEXT",
    "Event",
    "Outcome",
    "Signature",
    "Webhook",
    "decoded",
    "read",
    "signature_of",
]

_T = TypeVar("_T")

_CLOCK: Final = "compare this machine's clock with dryAPI's: bridge check does"
_COMPARE: Final = (
    "compare webhook.secret, or the account's webhook_secret_file, with dryAPI's"
    " dashboard"
)


class Outcome(StrEnum):
    """
    The result of a request: a metric's label.

    Attributes:
        status: The HTTP status of the answer.
        hint: What the operator can do about it, for the log; may be empty.
    """

    _value_: str
    status: int
    hint: str

    def __new__(cls, label: str, status: int, hint: str = "") -> Self:  # noqa: D102
        outcome = str.__new__(cls, label)
        outcome._value_ = label
        outcome.status = status
        outcome.hint = hint
        return outcome

    TAKEN = "taken", 200
    """It is on disk."""

    KNOWN = "known", 200
    """It was on disk before: dryAPI has repeated it."""

    VALIDATION = "validation", 200
    """The dashboard's test."""

    OTHER_EVENT = "other_event", 200
    """It is genuine; its event is unknown to the bridge."""

    UNAVAILABLE = "unavailable", 503
    """It could not be written in time: dryAPI repeats it."""

    TOO_LARGE = "too_large", 413
    BROKEN_OFF = "broken_off", 400
    """Its sender hung up, or took so long that the port ended the request."""

    # The signature and the timestamp: one is missing, is repeated (also with the other
    # prefix), or can't be read.
    MISSING_HEADER = "missing_header", 401
    REPEATED_HEADER = "repeated_header", 401
    MALFORMED_HEADER = "malformed_header", 401

    # None of the account's secrets made the signature; one did, but not lately.
    WRONG_SIGNATURE = "wrong_signature", 401, _COMPARE
    TOO_OLD = "too_old", 401, _CLOCK
    TOO_NEW = "too_new", 401, _CLOCK


# -- The signature ---------------------------------------------------------------------

# dryAPI's rule for receivers. It signs each try with a timestamp of its own.
_WINDOW_SECONDS: Final = 300

_HEADER: Final = re.compile(rb"x-(?:dryapi|deapi)-(timestamp|signature)")

# Twelve digits of Unix seconds last for 30,000 years.
_SECONDS: Final = re.compile(rb"[0-9]{1,12}")
_SHA256: Final = re.compile(rb"sha256=([0-9a-fA-F]{64})")


class Signature(msgspec.Struct, frozen=True):
    """
    The signature that a request's headers claim.

    Attributes:
        timestamp: The header's text, which is signed with the body.
        digest: The signature in lower-case hex digits.
    """

    timestamp: bytes
    digest: bytes

    def error(self, body: bytes, secret: Secret, now_seconds: float) -> Outcome | None:
        """
        Verify a request.

        Args:
            body: The raw body.
            secret: The account's secrets, with blanks between them. It is read here, so
                a changed file is used at once.
            now_seconds: The time, seconds since the epoch.

        Returns:
            What is wrong; None if it is genuine. The signature is checked before the
            time: `TOO_OLD` means a wrong clock or a replay, never a forgery.
        """
        message = self.timestamp + b"." + body
        is_signed = False
        # Compare with each secret, so that the time doesn't depend on which is right.
        for one in secret.reveal().split():
            key = one.encode(errors="surrogateescape")
            # `hmac.digest` releases the interpreter lock for any length: in a flood it
            # waits 0.7 ms for other threads to get it back, instead of 7 us (measured).
            expected = hmac.new(key, message, "sha256").hexdigest().encode()
            is_signed |= hmac.compare_digest(expected, self.digest)
        if not is_signed:
            return Outcome.WRONG_SIGNATURE
        age_seconds = now_seconds - int(self.timestamp)
        if age_seconds > _WINDOW_SECONDS:
            return Outcome.TOO_OLD
        return Outcome.TOO_NEW if age_seconds < -_WINDOW_SECONDS else None


def signature_of(headers: Iterable[tuple[bytes, bytes]]) -> Signature | Outcome:
    """
    Find signature and timestamp in a request's headers.

    Args:
        headers: All headers, their names in lower case.

    Returns:
        The signature, or why there is none.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        match = _HEADER.fullmatch(name)
        if match is None:
            continue
        if match[1] in found:
            return Outcome.REPEATED_HEADER
        found[match[1]] = value
    if len(found) < 2:
        return Outcome.MISSING_HEADER
    timestamp = _SECONDS.fullmatch(found[b"timestamp"])
    signature = _SHA256.fullmatch(found[b"signature"])
    if timestamp is None or signature is None:
        return Outcome.MALFORMED_HEADER
    return Signature(timestamp[0], signature[1].lower())


# -- The body --------------------------------------------------------------------------

_Members: TypeAlias = dict[str, Raw]

# Values stay raw, so that no digit of a number is lost.
MEMBERS: Final = msgspec.json.Decoder(_Members)
TEXT: Final = msgspec.json.Decoder(str)
_TIME: Final = msgspec.json.Decoder(datetime)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# dryAPI's ids are UUIDs. Each is remembered for a day.
_MAX_ID_LENGTH: Final = 128

# These members have another name in the event, or are dropped: previews and progress
# come only from the socket, and the topic has the status before.
_DROPPED: Final = frozenset(
    {"job_request_id", "request_id", "status", "previous_status", "preview", "progress"}
)


class Event(StrEnum):
    """What a genuine webhook reports: a metric's label."""

    PROCESSING = "job.processing"
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    VALIDATION = "webhook.validation"
    """The dashboard's test."""

    OTHER = "other"
    """The body names an event that is unknown to the bridge."""

    UNREADABLE = "unreadable"
    """The body becomes a dead letter."""


# The status of each job event, and the member that says when the job ended.
_JOBS: Final[dict[str, tuple[Event, str, str | None]]] = {
    Event.PROCESSING: (Event.PROCESSING, "processing", None),
    Event.COMPLETED: (Event.COMPLETED, "done", "completed_at"),
    Event.FAILED: (Event.FAILED, "error", "failed_at"),
}


class Webhook(msgspec.Struct, frozen=True):
    """
    The content of a genuine webhook.

    Attributes:
        event: What it reports.
        delivery_id: The id in its body, the same at each try; a digest of the body if
            that id can't be used.
        value: The socket's JSON for the same event, or the unreadable body; None if
            there is nothing to keep.
        ended_us: When its job ended, microseconds since the epoch; None if it hasn't,
            or the time is unknown.
        name: The event's name in the body.
    """

    event: Event
    delivery_id: str
    value: bytes | None = None
    ended_us: int | None = None
    name: str | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether it reports a job's end."""
        return self.event in {Event.COMPLETED, Event.FAILED}


def read(body: bytes) -> Webhook:
    """
    Read the body of a genuine webhook.

    An unreadable body is kept, not refused: dryAPI would repeat it nine times, and
    switches webhooks off after ten refusals. A body whose status contradicts its event
    is unreadable. A missing or unknown status contradicts nothing.

    Args:
        body: The raw body.
    """
    members = decoded(MEMBERS, body) or {}
    delivery_id = decoded(TEXT, members.get("delivery_id")) or ""
    if not 0 < len(delivery_id) <= _MAX_ID_LENGTH or not delivery_id.isprintable():
        delivery_id = "sha256:" + hashlib.sha256(body).hexdigest()
    name = decoded(TEXT, members.get("event"))
    if name == Event.VALIDATION:
        return Webhook(Event.VALIDATION, delivery_id, name=name)
    if name is not None and name not in _JOBS:
        return Webhook(Event.OTHER, delivery_id, name=name)
    unreadable = Webhook(Event.UNREADABLE, delivery_id, body, name=name)
    data = decoded(MEMBERS, members.get("data"))
    if name is None or data is None or not decoded(TEXT, data.get("job_request_id")):
        return unreadable
    event, status, ended_at = _JOBS[name]
    given = decoded(TEXT, data.get("status"))
    if given in STATUSES and given != status:
        return unreadable
    value = _socket_event(data, status)
    ended = None if ended_at is None else decoded(_TIME, data.get(ended_at))
    if ended is None or ended.tzinfo is None:
        return Webhook(event, delivery_id, value, name=name)
    ended_us = (ended - _EPOCH) // timedelta(microseconds=1)
    return Webhook(event, delivery_id, value, ended_us, name)


def _socket_event(data: _Members, status: str) -> bytes:
    """Make the JSON that the socket would have sent, with the webhook's own members."""
    event: dict[str, object] = {
        "request_id": data["job_request_id"],
        "status": status,
        **dict.fromkeys(("preview", "result_url", "progress")),
    }
    if status == "error":
        event |= dict.fromkeys(("error_code", "error_message"))
    event |= {name: value for name, value in data.items() if name not in _DROPPED}
    return msgspec.json.encode(event)


def decoded(decoder: msgspec.json.Decoder[_T], value: bytes | Raw | None) -> _T | None:
    """Decode a value; None if it is missing, or isn't what the decoder expects."""
    try:
        # The decoder doesn't check the UTF-8 of values that it leaves raw.
        return None if value is None else decoder.decode(bytes(value).decode())
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None
