"""
Asking dryAPI for a job's status: the only module of this room that speaks to httpx.

One request about one job, and what came of it, in a closed vocabulary. Whether and when
to ask is `budget`'s business, what an answer says of the job that of `answers`.

What stands in a body is never repeated in a reason: it may hold a signed address.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import httpx  # noqa: TID251 - this is the module that may
import msgspec
import trio

from bridge.http.dryapi import NOT_A_HEADER, api_address, api_headers, fits_a_header
from bridge.http.transport import BoundedTransport, read_body
from bridge.reconciliation.limits import Limits, read_limits
from bridge.settings import Secret


__all__ = ["Answer", "Outcome", "StatusClient"]

_PATH: Final = "api/v1/client/request-status/"

_NO_LIMITS: Final = Limits()

# A result may be a text, the transcript of some hours for instance, which has a
# megabyte. What is far above that is no answer, and is not read to the end.
_MOST_BODY_BYTES: Final = 8 * 1024 * 1024

# Closing waits for nobody's answer, but TLS says goodbye.
_CLOSE_SECONDS: Final = 1.0

# No URL carries these: whoever meets them on the way takes them for steps in its path,
# also where they are percent-encoded (RFC 3986 section 6.2.2).
_DOT_SEGMENTS: Final = frozenset({"", ".", ".."})


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
        timeout_seconds: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base = api_address(api_url, _PATH)
        port = f":{self._base.port}" if self._base.port else ""
        # For reasons: without the user and password that a URL may carry.
        self._place = f"{self._base.scheme}://{self._base.host}{port}{self._base.path}"
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._tls = tls or cache(ssl.create_default_context)
        self._transport = transport
        self._pool: _Pool | None = None

    async def __aenter__(self) -> Self:
        self._pool = self._open(self._tls())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def ask(self, request_id: str) -> Answer:
        """
        Ask about one job, once; whatever a server does is an answer, too.

        A refused token that was exchanged meanwhile is tried once more.

        Args:
            request_id: The job.
        """
        if request_id in _DOT_SEGMENTS:
            return Answer(
                Outcome.NOT_FOUND, reason="no URL can carry this job's request_id"
            )
        token = self._token.reveal()
        answer = await self._ask(token, request_id)
        if answer.status == 401:
            renewed = self._token.reveal()
            if renewed != token:
                answer = await self._ask(renewed, request_id)
        return answer

    # -- One request -----------------------------------------------------------

    async def _ask(self, token: str, request_id: str) -> Answer:
        if not fits_a_header(token):
            return Answer(Outcome.REFUSED, reason=NOT_A_HEADER)
        try:
            with trio.fail_after(self._timeout_seconds):
                response, body = await self._get(token, request_id)
        except trio.TooSlowError:
            return self._failed(
                f"gave no answer within {self._timeout_seconds:g} s"
                " (reconciliation.request_timeout_seconds)"
            )
        except httpx.HTTPError as error:
            return self._failed(f"can't be asked: {_reason(error)}")
        return self._judge(response, body)

    async def _get(
        self, token: str, request_id: str
    ) -> tuple[httpx.Response, bytes | None]:
        url = f"{self._base}{quote(request_id, safe='')}"
        headers = api_headers(token)
        pool = await self._pool_of_now()
        async with (
            pool as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            return response, await read_body(response, _MOST_BODY_BYTES)

    def _judge(self, response: httpx.Response, body: bytes | None) -> Answer:
        status = response.status_code
        limits = read_limits(status, response.headers, datetime.now(UTC))
        # A proxy's own 404, while dryAPI is exchanged behind it, says nothing of a job.
        if status in _OUTCOMES and (status != 404 or _is_object(body)):
            outcome, why = _OUTCOMES[status]
            return Answer(outcome, limits, status, reason=why)
        if status != 200:
            why = f"answered with HTTP {status}"
            if response.has_redirect_location:
                why += ", a redirect, which is not followed"
            elif status == 404:
                why += ", and not as dryAPI does where it doesn't know a job"
        elif body is None:
            why = f"gave an answer of more than {_MOST_BODY_BYTES} bytes or of too many"
            why += " chunks"
        elif not _is_object(body):
            kind = response.headers.get("content-type", "no content type")
            kind = "".join(c for c in kind[:80] if c.isprintable())
            why = f"gave an answer ({kind}) that is no JSON object"
        else:
            return Answer(Outcome.ANSWERED, limits, status, body)
        return self._failed(why, limits, status)

    def _failed(
        self, why: str, limits: Limits = _NO_LIMITS, status: int | None = None
    ) -> Answer:
        return Answer(Outcome.FAILED, limits, status, reason=f"{self._place} {why}")

    # -- Connections -----------------------------------------------------------

    async def _pool_of_now(self) -> _Pool:
        """Give the connections, or new ones if others are trusted by now."""
        pool = self._pool
        assert pool is not None, "a client must be entered before it can ask"
        tls = self._tls()
        if tls is not pool.tls:
            self._pool = self._open(tls)
            await pool.retire()
            pool = self._pool
        return pool

    def _open(self, tls: ssl.SSLContext) -> _Pool:
        # trust_env off: a proxy or .netrc of the environment must not meet the token.
        client = httpx.AsyncClient(
            transport=self._transport or BoundedTransport(tls),
            timeout=None,  # noqa: S113 - the cancel scope of each request is the timeout
            trust_env=False,
            follow_redirects=False,
        )
        return _Pool(client, tls)


class _Pool:
    """
    Open connections, for those who trust alike.

    `async with` is one request. They are closed once they are retired and no request
    uses them: closing them breaks those that do.
    """

    def __init__(self, client: httpx.AsyncClient, tls: ssl.SSLContext) -> None:
        self.tls = tls
        self._client = client
        self._requests = 0
        self._is_retired = False

    async def __aenter__(self) -> httpx.AsyncClient:
        self._requests += 1
        return self._client

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._requests -= 1
        if self._is_retired:
            await self.retire()

    async def retire(self) -> None:
        """Close them as soon as no request uses them."""
        self._is_retired = True
        if not self._requests:
            await self.close()

    async def close(self) -> None:
        """Close them now."""
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await self._client.aclose()


def _is_object(body: bytes | None) -> bool:
    if body is None:
        return False
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _reason(error: httpx.HTTPError) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return str(error) or type(error).__name__
    return (
        f"its certificate was not accepted: {cause.verify_message} (a private authority"
        " goes into pusher.ca_file, BRIDGE_PUSHER_CA_FILE)"
    )
