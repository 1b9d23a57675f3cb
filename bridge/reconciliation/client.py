"""
Asking dryAPI for a job's status: the only module of this room that speaks to httpx.

One request about one job, and what came of it, in a closed vocabulary. Whether and when
to ask is `budget`'s business, what an answer says of the job that of `answers`.

What stands in a body is never repeated in a reason: it may hold a signed address.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

import httpx  # noqa: TID251 - this is the module that may
import msgspec

from bridge.reconciliation.limits import Limits
from bridge.settings import Secret


__all__ = ["Answer", "Outcome", "StatusClient"]


class Outcome(StrEnum):
    """What came of a request: a closed vocabulary, also a metric's label."""

    ANSWERED = "answered"
    """200, and JSON."""

    NOT_FOUND = "not_found"
    """404: dryAPI doesn't know the job."""

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
    limits: Limits = Limits()
    status: int | None = None
    body: bytes = b""
    reason: str = ""


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
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise NotImplementedError

    async def ask(self, request_id: str) -> Answer:
        """
        Ask about one job, once; whatever a server does is an answer, too.

        A refused token that was exchanged meanwhile is tried once more.

        Args:
            request_id: The job.
        """
        raise NotImplementedError
