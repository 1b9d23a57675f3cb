"""
What dryAPI's answer says of a job, as an event like the socket's.

Reads the body of an answer, and writes the JSON that the intake takes. What becomes of
that, a record or a dead letter, is decided there.
"""

from __future__ import annotations

import msgspec


__all__ = ["StatusAnswer", "event_of", "without_extras"]


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
        What it says. The preview is null in any case: here it is an address.

    Raises:
        InvalidAnswerError: It has another shape.
    """
    raise NotImplementedError


def without_extras(event: bytes) -> bytes:
    """
    Leave out what only passes through, for an event that is too large with it.

    Args:
        event: As `event_of` made it.
    """
    raise NotImplementedError
