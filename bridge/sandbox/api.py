"""
dryAPI's HTTP interface, and responses that replace or delay its own on command.

The responses follow dryAPI's documentation and, where it is silent, Laravel, on
which it runs. Errors leave the handlers as `HTTPException`.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import defaultdict, deque
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
import trio
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.sandbox.config import Addresses, Plan, SandboxConfig, Statistics
from bridge.sandbox.jobs import Job, JobBook, paint


__all__ = [
    "STATUS_PATH",
    "Allowance",
    "Answer",
    "Answers",
    "Asked",
    "DryApi",
    "RateLimiter",
    "Seconds",
    "error_body",
    "json_response",
]

STATUS_PATH = "/api/v1/client/request-status/"


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Build an answer in JSON."""
    return Response(
        msgspec.json.encode(content), status, headers, media_type="application/json"
    )


def error_body(status: int, message: str) -> dict[str, Any]:
    """Build dryAPI's documented body of an error."""
    return {"data": None, "message": message, "errors": [], "statusCode": status}


def _fields(headers: Headers, body: bytes) -> dict[str, Any]:
    """Read the members of a body that is a JSON object or a form."""
    try:
        if "json" in headers.get("content-type", ""):
            return msgspec.json.decode(body, type=dict[str, Any])
        # Laravel reads a body without a type, or with this one, as a form.
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=100))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return {}


# -- Limits of the status endpoint ---------------------------------------------

# Calls per minute and per day (None: no limit).
_LIMITS: dict[Plan, tuple[int, int | None]] = {
    "basic": (50, 200),
    "premium": (300, None),
}


class Allowance(msgspec.Struct, frozen=True):
    """Whether the limits allow a call, and the headers of its answer either way."""

    allowed: bool
    headers: dict[str, str]


class _Window:
    # Opens with its first call and is empty again when it ends: Laravel's way.
    def __init__(self, kind: str, limit: int, seconds: float) -> None:
        self.kind, self.limit = kind, limit
        self._seconds = seconds
        self._count, self._ends_at = 0, -math.inf

    def remaining(self) -> int:
        if trio.current_time() >= self._ends_at:
            self._count = 0
        return self.limit - self._count

    def take(self) -> None:
        if not self._count:
            self._ends_at = trio.current_time() + self._seconds
        self._count += 1

    def retry_after_seconds(self) -> int:
        return max(1, math.ceil(self._ends_at - trio.current_time()))


class RateLimiter:
    """One token's limits; the clock is trio's."""

    def __init__(self, plan: Plan) -> None:
        per_minute, per_day = _LIMITS[plan]
        self._windows = {"": _Window("minute", per_minute, 60.0)}
        if per_day is not None:
            self._windows["Daily-"] = _Window("daily", per_day, 86_400.0)

    def take(self) -> Allowance:
        """Count a call, unless a limit refuses it: refused calls don't count."""
        windows = self._windows.values()
        full = next((one for one in windows if one.remaining() <= 0), None)
        headers = {}
        if full is not None:
            headers["Retry-After"] = str(full.retry_after_seconds())
            headers["X-RateLimit-Type"] = full.kind
        for name, window in self._windows.items():
            if full is None:
                window.take()
            headers[f"X-RateLimit-{name}Limit"] = str(window.limit)
            headers[f"X-RateLimit-{name}Remaining"] = str(window.remaining())
        return Allowance(full is None, headers)


# -- dryAPI --------------------------------------------------------------------

# Two numbers with a dot: what Pusher's own server libraries check for.
_SOCKET_ID = re.compile(r"\d+\.\d+")


class DryApi:
    """
    dryAPI's endpoints.

    Attributes:
        accounts: The valid tokens, with the clients of each.
    """

    def __init__(
        self, config: SandboxConfig, book: JobBook, addresses: Addresses
    ) -> None:
        self.accounts = {config.api_token: {config.client_id}}
        self._config = config
        self._book = book
        self._addresses = addresses
        # The limits are the token's.
        self._limiters = defaultdict[str, RateLimiter](lambda: RateLimiter(config.plan))

    def routes(self) -> list[Route]:
        """List the endpoints."""
        return [
            Route("/broadcasting/auth", self._authorize, methods=["POST"]),
            Route(STATUS_PATH + "{request_id}", self._status, methods=["GET"]),
            Route("/previews/{request_id}.jpg", self._preview, methods=["GET"]),
            Route("/results/{request_id}.jpg", self._result, methods=["GET"]),
        ]

    def _token(self, request: Request) -> str:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = given.strip()
        if scheme.lower() != "bearer" or token not in self.accounts:
            raise HTTPException(401, "Unauthenticated.")
        return token

    async def _authorize(self, request: Request) -> Response:
        clients = self.accounts[self._token(request)]
        given = _fields(request.headers, await request.body())
        faults = {
            name: [f"The {name.replace('_', ' ')} field is required."]
            for name in ("socket_id", "channel_name")
            if not isinstance(given.get(name), str) or not given[name]
        }
        if not faults and not _SOCKET_ID.fullmatch(given["socket_id"]):
            faults["socket_id"] = ["The socket id field format is invalid."]
        if faults:
            body = error_body(422, next(iter(faults.values()))[0])
            return json_response(body | {"errors": faults}, 422)
        channel = given["channel_name"]
        if channel not in {f"private-client.{client}" for client in clients}:
            raise HTTPException(403, "This action is unauthorized.")
        auth = self._config.app.channel_auth(given["socket_id"], channel)
        return json_response({"auth": auth})

    async def _status(self, request: Request) -> Response:
        allowance = self._limiters[self._token(request)].take()
        if not allowance.allowed:
            raise HTTPException(429, "Too Many Attempts.", allowance.headers)
        job = self._book.get(request.path_params["request_id"])
        if job is None:
            raise HTTPException(404, "Request not found.", allowance.headers)
        return json_response({"data": self._describe(job)}, headers=allowance.headers)

    def _describe(self, job: Job) -> dict[str, object]:
        # Not the event's shape: no request id, progress is a number, the preview an
        # address, and there is no `in_progress`.
        preview = result = None
        if job.status == "in_progress" and self._config.previews:
            preview = self._addresses.preview(job.request_id)
        if job.status == "done":
            result = self._addresses.result(job.request_id)
        return {
            "status": "processing" if job.status == "in_progress" else job.status,
            "preview": preview,
            "result_url": result,
            "results_alt_formats": result and {"jpg": result, "webp": None},
            "result": None,
            "progress": job.progress,
        }

    async def _preview(self, request: Request) -> Response:
        job = self._book.get(request.path_params["request_id"])
        if job is None or not self._config.previews:
            raise HTTPException(404, "Preview not found.")
        pictures = paint(self._config.preview_bytes)
        jpeg = pictures.jpegs[pictures.number_of(job.request_id)][job.stage]
        return Response(jpeg, media_type="image/jpeg")

    async def _result(self, request: Request) -> Response:
        query, path = request.query_params, request.url.path
        expires, signature = query.get("expires", ""), query.get("signature", "")
        if not self._addresses.may_fetch(path, expires, signature):
            raise HTTPException(403, "Invalid signature.")
        # A signed address remains valid after its job is forgotten: the id names the
        # picture.
        pictures = paint(self._config.preview_bytes)
        number = pictures.number_of(request.path_params["request_id"])
        return Response(pictures.results[number], media_type="image/jpeg")


# -- Answers on command --------------------------------------------------------

# Commands are never replaced.
_COMMANDS = "/sandbox/"
# As good as forever.
_YEAR_SECONDS = 31_536_000.0
_KEPT_REQUESTS = 10_000

Seconds = Annotated[float, msgspec.Meta(ge=0, le=_YEAR_SECONDS)]
"""How long a command lasts; 0 ends what lasts."""


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    How requests are answered whose path begins with `path`.

    Attributes:
        seconds: For how long; 0 ends the earlier answers for this path.
        times: For how many requests, after those of earlier answers; None for all, in
            place of earlier answers.
        status: The answer's status; None for dryAPI's own answer.
        headers: Its headers, or more headers for dryAPI's own; None leaves one out.
        share: The share of the requests that get it, chosen at random.
    """

    path: str
    seconds: Seconds = _YEAR_SECONDS
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    delay_seconds: Seconds = 0.0
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    headers: dict[str, str | None] = {}
    body: str = ""
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0


class Asked(msgspec.Struct, frozen=True):
    """A request as it was received; a missing header is empty."""

    method: str
    path: str
    authorization: str
    accept: str
    at: float  # seconds since the epoch
    fields: dict[str, Any]  # of a body that is a JSON object or a form


class _Order:
    # An answer with what is left of it.
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.until = trio.current_time() + answer.seconds
        self.times = math.inf if answer.times is None else answer.times

    @property
    def is_due(self) -> bool:
        return self.times > 0 and trio.current_time() < self.until


class Answers:
    """
    Remembers requests, and answers them as ordered or else as the application does.

    Attributes:
        requests: The newest 10,000.
    """

    def __init__(
        self, application: ASGIApp, config: SandboxConfig, statistics: Statistics
    ) -> None:
        self.requests: deque[Asked] = deque(maxlen=_KEPT_REQUESTS)
        self._application = application
        self._statistics = statistics
        self._rng = random.Random(config.seed)
        self._orders: list[_Order] = []

    def order(self, answer: Answer) -> None:
        """Answer requests like this from now on."""
        self._orders = [
            order
            for order in self._orders
            if order.is_due
            and (answer.times is not None or order.answer.path != answer.path)
        ]
        self._orders.append(_Order(answer))

    def _next(self, path: str) -> Answer:
        for order in self._orders:
            is_chosen = path.startswith(order.answer.path) and order.is_due
            if is_chosen and self._rng.random() < order.answer.share:
                order.times -= 1
                return order.answer
        return Answer(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        path = scope["path"]
        if path.startswith(_COMMANDS):
            await self._application(scope, receive, send)
            return
        answer, given = self._next(path), Headers(scope=scope)
        body = await Request(scope, receive).body()
        self.requests.append(
            Asked(
                scope["method"],
                path,
                given.get("authorization", ""),
                given.get("accept", ""),
                time.time(),
                _fields(given, body),
            )
        )

        async def read() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def write(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in answer.headers.items():
                    del headers[name]
                    if value is not None:
                        headers[name] = value
                    elif name.lower() == "date":
                        headers[name] = ""  # The server would add a missing one.
                if path.startswith(STATUS_PATH):
                    counts, status = self._statistics.status_answers, message["status"]
                    counts[str(status)] = counts.get(str(status), 0) + 1
            await send(message)

        await trio.sleep(answer.delay_seconds)
        respond = self._application
        if answer.status is not None:
            respond = Response(answer.body, answer.status)
        await respond(scope, read, write)
