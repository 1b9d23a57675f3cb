"""
Asking dryAPI for a job's status.

One request about one job, and what came of it, in a closed vocabulary. Whether and when
to ask is `budget`'s business, what an answer says of the job that of `answers`.

What stands in a body is never repeated in a reason: it may hold a signed address.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import msgspec
import trio

from bridge.errors import InvalidAnswerError
from bridge.events.job_status import JobStatusRecord
from bridge.gaps.limiter import Limits, read_limits
from bridge.http.client import ApiClient, ApiError, Response, TokenError, Transport
from bridge.settings import Secret


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

# A connection and one answer: as long as connecting to dryAPI's Pusher server may take.
_TIMEOUT_SECONDS: Final = 10.0

# A result may be a text, the transcript of some hours for instance, which has a
# megabyte. What is far above that is no answer, and is not read to the end.
_MOST_BODY_BYTES: Final = 8 * 1024 * 1024

# No URL carries these: whoever meets them on the way takes them for steps in its path,
# also where they are percent-encoded (RFC 3986 section 6.2.2).
_DOT_SEGMENTS: Final = frozenset({"", ".", ".."})


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


class Outcome(StrEnum):
    """What came of a request: a closed vocabulary, also a metric's label."""

    ANSWERED = "answered"
    """200, and JSON."""

    NOT_FOUND = "not_found"
    """404, and JSON: dryAPI doesn't know the job."""

    LIMITED = "limited"
    """429: a limit is reached, by whoever shares it."""

    REFUSED = "refused"
    """401 or 403: the token isn't accepted."""

    FAILED = "failed"
    """Everything else: 5xx, no answer in time, no connection, no JSON."""


class Answer(msgspec.Struct, frozen=True):
    """
    What came of a request.

    Attributes:
        outcome: In one word.
        limits: What it said of the account's limits.
        status: The HTTP status, if an answer came.
        body: What came; empty unless `outcome` is `answered`.
        reason: Why it isn't `answered`, a sentence for logs; empty if it is.
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
    `GET {api}/api/v1/client/request-status/{id}` with a bearer token.

    `async with` keeps its connections open; `ask` needs it.

    Args:
        api_url: dryAPI's base URL.
        token: The API token, read again for each request.
        timeout_seconds: The longest time of one request.
        tls: Says for each request whom to trust; the system's certificates if None.
        transport: Carries requests in place of the network, for tests.

    Raises:
        ConfigError: `api_url` is no HTTP address.
    """

    def __init__(
        self,
        api_url: str,
        token: Secret,
        *,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        tls: Callable[[], ssl.SSLContext] | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._client = ApiClient(
            api_url,
            token,
            timeout_seconds=timeout_seconds,
            tls=tls,
            transport=transport,
        )
        self._place = self._client.place(_PATH)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def ask(self, request_id: str) -> Answer:
        """
        Ask about one job, once; whatever a server does is an answer, too.

        A refused token that was replaced meanwhile is tried once more.

        Args:
            request_id: The job.
        """
        if request_id in _DOT_SEGMENTS:
            return Answer(
                Outcome.NOT_FOUND, reason="no URL can carry this job's request_id"
            )
        token = self._client.token.reveal()
        answer = await self._ask(token, request_id)
        if answer.status == 401:
            renewed = self._client.token.reveal()
            if renewed != token:
                answer = await self._ask(renewed, request_id)
        return answer

    async def _ask(self, token: str, request_id: str) -> Answer:
        path = f"{_PATH}{quote(request_id, safe='')}"
        try:
            response = await self._client.request(
                path, max_bytes=_MOST_BODY_BYTES, token=token
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
        # A proxy's own 404, while dryAPI is exchanged behind it, says nothing of a job.
        if status in _OUTCOMES and (status != 404 or _is_object(body)):
            outcome, why = _OUTCOMES[status]
            return Answer(outcome, limits, status, reason=why)
        if status != 200:
            why = f"answered with HTTP {status}"
            if response.is_redirect:
                why += ", a redirect, which is not followed"
            elif status == 404:
                why += ", and not as dryAPI does where it doesn't know a job"
        elif body is None:
            why = f"gave an answer of more than {_MOST_BODY_BYTES} bytes or of too many"
            why += " chunks"
        elif not _is_object(body):
            why = f"gave an answer ({response.content_type}) that is no JSON object"
        else:
            return Answer(Outcome.ANSWERED, limits, status, body)
        return self._failed(why, limits, status)

    def _failed(
        self, why: str, limits: Limits = _NO_LIMITS, status: int | None = None
    ) -> Answer:
        return Answer(Outcome.FAILED, limits, status, reason=f"{self._place} {why}")


def _is_object(body: bytes | None) -> bool:
    if body is None:
        return False
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


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
