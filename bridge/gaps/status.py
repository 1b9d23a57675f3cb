"""
Asks dryAPI for a job's status, and makes an event of the answer.

No reason repeats any part of a body: it may hold a signed address.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from urllib.parse import quote

import msgspec

from bridge.errors import InvalidAnswerError
from bridge.events.job_status import JobStatusRecord
from bridge.gaps.limiter import Limits, read_limits
from bridge.gaps.webhook import MEMBERS, TEXT, decoded
from bridge.http.client import ApiClient, ApiError, Response, TokenError


__all__ = ["Answer", "Outcome", "ask", "event_of", "without_extras"]

_PATH: Final = "api/v1/client/request-status/"

# A result may be a text: the transcript of some hours has a megabyte.
_MAX_BODY_BYTES: Final = 8 * 1024 * 1024

# No URL carries these: servers and proxies take them for steps in the path, also where
# they are percent-encoded (RFC 3986 section 6.2.2).
_DOT_SEGMENTS: Final = frozenset({"", ".", ".."})

_OWN_MEMBERS: Final = frozenset({"request_id", "status", "preview"})
_EVENT_MEMBERS: Final = frozenset(JobStatusRecord.__struct_fields__)

# In an event also where they are null.
_NULLABLE: Final = frozenset({"result_url", "progress"})

_NULL: Final = msgspec.Raw(b"null")


class Outcome(StrEnum):
    """What a request resulted in: a closed vocabulary, also a metric's label."""

    ANSWERED = "answered"
    """200 with a job's status."""

    NOT_FOUND = "not_found"
    """404 with a JSON object: dryAPI doesn't know the job."""

    LIMITED = "limited"
    """429: a limit is reached, perhaps by other programs."""

    REFUSED = "refused"
    """401 or 403: the token isn't accepted."""

    FAILED = "failed"
    """Anything else: 5xx, no response in time, no connection, another content."""


class Answer(msgspec.Struct, frozen=True):
    """
    The result of a request.

    Attributes:
        outcome: Its kind.
        limits: The account's limits that it names.
        status: The HTTP status, if there was a response.
        job_status: `pending`, `processing`, `done`, `error`, or another word of
            dryAPI's; empty unless `outcome` is `answered`.
        event: The answer as JSON for the intake; None for `pending`, which is not an
            event, and unless `outcome` is `answered`.
        reason: Why it isn't `answered`, for logs.
    """

    outcome: Outcome
    limits: Limits = Limits()
    status: int | None = None
    job_status: str = ""
    event: bytes | None = None
    reason: str = ""


_CHECK: Final = (
    "check BRIDGE_API_TOKEN, or the account's api_token_file in [[accounts]]"
)

_OUTCOMES: Final = {
    401: (Outcome.REFUSED, f"dryAPI refused the API token (HTTP 401): {_CHECK}"),
    403: (Outcome.REFUSED, f"dryAPI refused the request (HTTP 403): {_CHECK}"),
    404: (Outcome.NOT_FOUND, "dryAPI doesn't know the job (HTTP 404)"),
    429: (Outcome.LIMITED, "dryAPI's limit of calls is reached (HTTP 429)"),
}


async def ask(client: ApiClient, request_id: str) -> Answer:
    """
    Ask about one job once, `GET {api}/api/v1/client/request-status/{request_id}`.

    All failures are answers, too.
    """
    if request_id in _DOT_SEGMENTS:
        return Answer(
            Outcome.NOT_FOUND, reason="no URL can carry this job's request_id"
        )
    path = f"{_PATH}{quote(request_id, safe='')}"
    try:
        response = await client.request(path, max_bytes=_MAX_BODY_BYTES)
    except TokenError as error:
        return Answer(Outcome.REFUSED, reason=str(error))
    except ApiError as error:
        return Answer(Outcome.FAILED, reason=str(error))
    return _judged(request_id, response)


def _judged(request_id: str, response: Response) -> Answer:
    status, body = response.status, response.body
    limits = read_limits(status, response.headers, datetime.now(UTC))
    # A proxy's own 404, while dryAPI is deployed behind it, says nothing of a job.
    if status in _OUTCOMES and (status != 404 or decoded(MEMBERS, body) is not None):
        outcome, why = _OUTCOMES[status]
        return Answer(outcome, limits, status, reason=why)
    if status != 200:
        why = f"answered with HTTP {status}"
        if response.is_redirect:
            why += ", a redirect, which is not followed"
        elif status == 404:
            why += ", and not as dryAPI does where it doesn't know a job"
    elif body is None:
        why = f"gave an answer of more than {_MAX_BODY_BYTES} bytes or of too many"
        why += " chunks"
    else:
        try:
            job_status, event = event_of(request_id, body)
        except InvalidAnswerError as error:
            why = f"gave an answer ({response.content_type}) that is invalid: {error}"
        else:
            return Answer(Outcome.ANSWERED, limits, status, job_status, event)
    why = f"{response.place} {why}"
    return Answer(Outcome.FAILED, limits, status, reason=why)


def event_of(request_id: str, answer_body: bytes) -> tuple[str, bytes | None]:
    """
    Make an event of an answer.

    Args:
        request_id: The job that was asked about: the answer doesn't name it.
        answer_body: The answer's body.

    Returns:
        The status, and the event. Its preview is always null: here it is an address,
        and an event's is an image. Other members that aren't null pass through. There
        is none for `pending`.

    Raises:
        InvalidAnswerError: It has another shape. The message quotes nothing of it.
    """
    answer = decoded(MEMBERS, answer_body)
    if answer is None:
        raise InvalidAnswerError("it isn't a JSON object")
    data = decoded(MEMBERS, answer.get("data"))
    if data is None:
        raise InvalidAnswerError("'data' is missing or isn't a JSON object")
    status = decoded(TEXT, data.get("status"))
    if status is None:
        raise InvalidAnswerError("'status' is missing or isn't a string")
    if "request_id" in data and decoded(TEXT, data["request_id"]) != request_id:
        raise InvalidAnswerError("it is about another job than was asked for")
    if status == "pending":
        return status, None
    members: dict[str, object] = {
        name: value
        for name, value in data.items()
        if name not in _OWN_MEMBERS and (name in _NULLABLE or value != _NULL)
    }
    event = {"request_id": request_id, "status": status, "preview": None} | members
    return status, msgspec.json.encode(event)


def without_extras(event: bytes) -> bytes:
    """Remove what only passes through from an event that is too large."""
    members = MEMBERS.decode(event)
    return msgspec.json.encode(
        {name: members[name] for name in members if name in _EVENT_MEMBERS}
    )
