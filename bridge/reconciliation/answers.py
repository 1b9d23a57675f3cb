"""
What dryAPI's answer says of a job, as an event like the socket's.

Reads the body of an answer, and writes the JSON that the intake takes. What becomes of
that, a record or a dead letter, is decided there.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from bridge.errors import InvalidAnswerError
from bridge.events.job_status import JobStatusRecord


__all__ = ["StatusAnswer", "event_of", "without_extras"]

_PENDING: Final = "pending"

_OWN_MEMBERS: Final = frozenset({"request_id", "status", "preview"})
_EVENT_MEMBERS: Final = frozenset(JobStatusRecord.__struct_fields__)

# Said by an event even where it says nothing.
_NULLABLE: Final = frozenset({"result_url", "progress"})

_NULL: Final = msgspec.Raw(b"null")

# Members are left as they stand: no digit of a number is lost, and what they hold is
# judged with the event.
_Members = dict[str, msgspec.Raw]
_decode: Final = msgspec.json.Decoder(_Members).decode
_read_text: Final = msgspec.json.Decoder(str).decode


class StatusAnswer(msgspec.Struct, frozen=True):
    """
    What an answer says of a job.

    Attributes:
        status: `pending`, `processing`, `done`, `error`, or what else dryAPI says.
        event: It, as JSON for the intake; None for `pending`, which is no event.
    """

    status: str
    event: bytes | None


def event_of(request_id: str, answer_body: bytes) -> StatusAnswer:
    """
    Make an event of an answer.

    Args:
        request_id: The job that was asked about: the answer doesn't name it.
        answer_body: The answer's body.

    Returns:
        What it says. The preview is null in any case: here it is an address, and an
        event's is an image. What isn't null beside the members of an event passes
        through.

    Raises:
        InvalidAnswerError: It has another shape.
    """
    data = _object(_object(answer_body, "the answer").get("data"), "'data'")
    status = _text(data.get("status"), "'status'")
    if "request_id" in data and _text(data["request_id"], "'request_id'") != request_id:
        raise InvalidAnswerError("the answer is about another job than was asked for")
    if status == _PENDING:
        return StatusAnswer(status, None)
    said: dict[str, Any] = {
        name: value
        for name, value in data.items()
        if name not in _OWN_MEMBERS and (name in _NULLABLE or value != _NULL)
    }
    event = {"request_id": request_id, "status": status, "preview": None} | said
    return StatusAnswer(status, msgspec.json.encode(event))


def without_extras(event: bytes) -> bytes:
    """
    Leave out what only passes through, for an event that is too large with it.

    Args:
        event: As `event_of` made it.
    """
    members = _decode(event)
    return msgspec.json.encode(
        {name: members[name] for name in members if name in _EVENT_MEMBERS}
    )


def _object(value: bytes | msgspec.Raw | None, what: str) -> _Members:
    try:
        # What is left as it stands isn't looked at, and the intake takes text.
        return _decode(bytes(value or b"").decode())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Without the cause, which may quote the body.
        raise InvalidAnswerError(f"{what} is missing or no JSON object") from None


def _text(value: msgspec.Raw | None, what: str) -> str:
    try:
        return _read_text(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InvalidAnswerError(f"{what} is missing or no string") from None
