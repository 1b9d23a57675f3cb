"""
What a genuine webhook says: its body, as the event that the socket would have sent.

Pure. The body alone counts: the headers that name the event and the delivery are not
signed. What was signed and makes no sense is kept, as a dead letter: to refuse it
would have dryAPI send it nine times more, and switch webhooks off after ten of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Raw

from bridge.events.job_status import STATUSES
from bridge.events.record import Record
from bridge.outbox.values import Delivery


__all__ = ["Event", "Webhook", "delivery_of", "read"]

_Members = dict[str, Raw]

_US: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# dryAPI's are UUIDs of 36 characters. Each is kept for a day.
_LONGEST_ID: Final = 128


class Event(StrEnum):
    """What a webhook tells: as its body says, or what is to be said of it: a label."""

    PROCESSING = "job.processing"
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    VALIDATION = "webhook.validation"
    """The dashboard tests the address."""

    OTHER = "other"
    """The body names another event: nothing is known of it."""

    UNREADABLE = "unreadable"
    """Nothing can be made of the body: it is a dead letter."""


# What a job's webhook tells: the status, and the member that says when it ended.
_JOBS: Final[dict[str, tuple[Event, str, str | None]]] = {
    Event.PROCESSING: (Event.PROCESSING, "processing", None),
    Event.COMPLETED: (Event.COMPLETED, "done", "completed_at"),
    Event.FAILED: (Event.FAILED, "error", "failed_at"),
}

_NULL: Final = Raw(b"null")

# They have a place of their own in the event, or none: a preview comes by the socket
# alone, and which status was before, the topic says better.
_NOT_PASSED_ON: Final = frozenset(
    {"job_request_id", "request_id", "status", "previous_status", "preview", "progress"}
)

_decode = msgspec.json.Decoder(_Members).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_time = msgspec.json.Decoder(datetime).decode


class Webhook(msgspec.Struct, frozen=True):
    """
    What a genuine webhook says.

    Attributes:
        event: What it tells.
        delivery_id: As its body says, the same at each try; where that can't be used,
            a digest of the body.
        value: What a record is made of: the event's JSON, or the body as it came where
            it is none. None where there is nothing to be kept.
        ended_us: When its job ended, as it says, microseconds since the epoch; None
            if it hasn't, or that isn't said.
        name: The event's name in the body; None if it has none.
    """

    event: Event
    delivery_id: str
    value: bytes | None = None
    ended_us: int | None = None
    name: str | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether it tells of a job's end."""
        return self.event in {Event.COMPLETED, Event.FAILED}


def read(body: bytes) -> Webhook:
    """
    Read the body of a genuine webhook, whatever it holds.

    Where status and event contradict each other it is unreadable: neither is guessed.
    A status that isn't known, or is missing, contradicts nothing.

    Args:
        body: The raw body.
    """
    members = _members(body) if _is_text(body) else None
    if members is None:
        return Webhook(Event.UNREADABLE, _digest(body), body)
    given_id, name = _text(members, "delivery_id"), _text(members, "event")
    delivery_id = given_id if given_id and _is_usable(given_id) else _digest(body)
    if name == Event.VALIDATION:
        return Webhook(Event.VALIDATION, delivery_id, name=name)
    if name is not None and name not in _JOBS:
        return Webhook(Event.OTHER, delivery_id, name=name)
    data = _members(members.get("data", _NULL))
    if name is None or data is None:
        return Webhook(Event.UNREADABLE, delivery_id, body, name=name)
    event, status, ended_at = _JOBS[name]
    said = _text(data, "status")
    if not _text(data, "job_request_id") or (said in STATUSES and said != status):
        return Webhook(Event.UNREADABLE, delivery_id, body, name=name)
    ended_us = None if ended_at is None else _moment_us(data.get(ended_at, _NULL))
    return Webhook(event, delivery_id, _as_event(data, status), ended_us, name)


def delivery_of(
    webhook: Webhook,
    make: Callable[[bytes, int], Record],
    *,
    received_at_us: int,
    now_us: int,
    hold_us: int,
) -> Delivery | None:
    """
    Make what is to be on disk before a webhook is answered.

    Args:
        webhook: What it says.
        make: Makes the record.
        received_at_us: When it came.
        now_us: The same, by the clock that knows how long webhooks are held.
        hold_us: How long one of a job is; a dead letter isn't.

    Returns:
        The delivery; None if nothing is to be kept.
    """
    if webhook.value is None:
        return None
    record = make(webhook.value, received_at_us)
    return Delivery(
        webhook.delivery_id,
        record,
        now_us if record.status is None else now_us + hold_us,
        webhook.ended_us,
    )


def _as_event(data: _Members, status: str) -> bytes:
    """Write down what the socket would have sent, and what it doesn't say."""
    event: dict[str, object] = {
        "request_id": data["job_request_id"],
        "status": status,
        "preview": None,
        "result_url": _NULL,
        "progress": None,
    }
    if status == "error":
        event |= {"error_code": _NULL, "error_message": _NULL}
    event |= {name: value for name, value in data.items() if name not in _NOT_PASSED_ON}
    return msgspec.json.encode(event)


def _is_text(body: bytes) -> bool:
    # What is only passed on isn't looked into by the decoder.
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _members(value: bytes | Raw) -> _Members | None:
    """Read an object, its values left as they stand; None if it isn't one."""
    try:
        return _decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None


def _text(members: _Members, name: str) -> str | None:
    """Read a member that is a string; None if there is none."""
    try:
        return _decode_text(members.get(name, _NULL))
    except msgspec.DecodeError:
        return None


def _moment_us(value: Raw) -> int | None:
    """Read a moment in RFC 3339; None if it isn't one, or says no offset."""
    try:
        moment = _decode_time(value)
    except msgspec.DecodeError:
        return None
    return None if moment.tzinfo is None else (moment - _EPOCH) // _US


def _is_usable(delivery_id: str) -> bool:
    return len(delivery_id) <= _LONGEST_ID and delivery_id.isprintable()


def _digest(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()
