"""
Asks dryAPI for a job's status, and makes an event of the answer.

No reason repeats any part of a body: it may hold a signed address.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

import msgspec
import trio

from bridge.errors import InvalidAnswerError
from bridge.events.job_status import JobStatusRecord
from bridge.gaps.limiter import Limits, read_limits
from bridge.http.client import ApiClient, ApiError, Response, TokenError


__all__ = [
    "Answer",
    "Outcome",
    "StatusAnswer",
    "StatusClient",
    "event_of",
    "without_extras",
]

_PATH: Final = "api/v1/client/request-status/"

_NO_LIMITS: Final = Limits()

# A result may be a text: the transcript of some hours has a megabyte.
_MAX_BODY_BYTES: Final = 8 * 1024 * 1024

# No URL carries these: servers and proxies take them for steps in the path, also where
# they are percent-encoded (RFC 3986 section 6.2.2).
_DOT_SEGMENTS: Final = frozenset({"", ".", ".."})

_PENDING: Final = "pending"

_OWN_MEMBERS: Final = frozenset({"request_id", "status", "preview"})
_EVENT_MEMBERS: Final = frozenset(JobStatusRecord.__struct_fields__)

# In an event also where they are null.
_NULLABLE: Final = frozenset({"result_url", "progress"})

_NULL: Final = msgspec.Raw(b"null")

# Members stay as they were sent: no digit of a number is lost.
_Members = dict[str, msgspec.Raw]
_decode: Final = msgspec.json.Decoder(_Members).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


class Outcome(StrEnum):
    """What a request resulted in: a closed vocabulary, also a metric's label."""

    ANSWERED = "answered"
    """200 with a JSON object."""

    NOT_FOUND = "not_found"
    """404 with a JSON object: dryAPI doesn't know the job."""

    LIMITED = "limited"
    """429: a limit is reached, perhaps by other programs."""

    REFUSED = "refused"
    """401 or 403: the token isn't accepted."""

    FAILED = "failed"
    """Anything else: 5xx, no response in time, no connection, no JSON."""


class Answer(msgspec.Struct, frozen=True):
    """
    The result of a request.

    Attributes:
        outcome: Its kind.
        limits: The account's limits that it names.
        status: The HTTP status, if there was a response.
        body: The body; empty unless `outcome` is `answered`.
        reason: Why it isn't `answered`, for logs.
    """

    outcome: Outcome
    limits: Limits = _NO_LIMITS
    status: int | None = None
    body: bytes = b""
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


class StatusClient:
    """
    `GET {api}/api/v1/client/request-status/{id}`.

    Args:
        client: The client of the account.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._place = client.place(_PATH)

    async def ask(self, request_id: str) -> Answer:
        """
        Ask about one job once; all failures are answers, too.

        If the token is refused and was replaced in the meantime, it is asked again.

        Args:
            request_id: The job.
        """
        if request_id in _DOT_SEGMENTS:
            return Answer(
                Outcome.NOT_FOUND, reason="no URL can carry this job's request_id"
            )
        token = self._client.token.reveal()
        answer = await self._ask(token, request_id)
        renewed = self._client.token.reveal() if answer.status == 401 else token
        return answer if renewed == token else await self._ask(renewed, request_id)

    async def _ask(self, token: str, request_id: str) -> Answer:
        path = f"{_PATH}{quote(request_id, safe='')}"
        try:
            response = await self._client.request(
                path, max_bytes=_MAX_BODY_BYTES, token=token
            )
        except trio.TooSlowError:
            return self._failed(
                f"didn't answer within {self._client.timeout_seconds:g} s"
            )
        except TokenError as error:
            return Answer(Outcome.REFUSED, reason=str(error))
        except ApiError as error:
            return self._failed(f"can't be asked: {error}")
        return self._judge(response)

    def _judge(self, response: Response) -> Answer:
        status, body = response.status, response.body
        limits = read_limits(status, response.headers, datetime.now(UTC))
        is_object = _members(body) is not None
        # A proxy's own 404, while dryAPI is deployed behind it, says nothing of a job.
        if status in _OUTCOMES and (status != 404 or is_object):
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
        elif not is_object:
            why = f"gave an answer ({response.content_type}) that is no JSON object"
        else:
            return Answer(Outcome.ANSWERED, limits, status, body)
        return self._failed(why, limits, status)

    def _failed(
        self, why: str, limits: Limits = _NO_LIMITS, status: int | None = None
    ) -> Answer:
        return Answer(Outcome.FAILED, limits, status, reason=f"{self._place} {why}")


class StatusAnswer(msgspec.Struct, frozen=True):
    """
    What an answer says of a job.

    Attributes:
        status: `pending`, `processing`, `done`, `error`, or another word of dryAPI's.
        event: It as JSON for the intake; None for `pending`, which is not an event.
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
        What it says. The preview is always null: here it is an address, and an event's
        is an image. Other members that aren't null pass through.

    Raises:
        InvalidAnswerError: It has another shape.
    """
    data = _object(_object(answer_body, "the answer").get("data"), "'data'")
    status = _text(data.get("status"), "'status'")
    if "request_id" in data and _text(data["request_id"], "'request_id'") != request_id:
        raise InvalidAnswerError("the answer is about another job than was asked for")
    if status == _PENDING:
        return StatusAnswer(status, None)
    members: dict[str, Any] = {
        name: value
        for name, value in data.items()
        if name not in _OWN_MEMBERS and (name in _NULLABLE or value != _NULL)
    }
    event = {"request_id": request_id, "status": status, "preview": None} | members
    return StatusAnswer(status, msgspec.json.encode(event))


def without_extras(event: bytes) -> bytes:
    """Remove what only passes through from an event that is too large."""
    members = _decode(event)
    return msgspec.json.encode(
        {name: members[name] for name in members if name in _EVENT_MEMBERS}
    )


def _members(value: bytes | msgspec.Raw | None) -> _Members | None:
    """Return an object's members; None if it isn't a JSON object in UTF-8."""
    try:
        # Raw members aren't checked by msgspec, and the intake takes text.
        return _decode(bytes(value or b"").decode())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _object(value: bytes | msgspec.Raw | None, what: str) -> _Members:
    members = _members(value)
    if members is None:
        raise InvalidAnswerError(f"{what} is missing or no JSON object")
    return members


def _text(value: msgspec.Raw | None, what: str) -> str:
    try:
        return _decode_text(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Without the cause, which may quote the body.
        raise InvalidAnswerError(f"{what} is missing or no string") from None
