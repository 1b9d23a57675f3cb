"""
The HTTP interfaces of dryAPI and of a Pusher server.

The answers' shapes follow dryAPI's documentation and, where it doesn't say, Laravel, on
which it runs. The Pusher server's are soketi's, but for the status: soketi hides some
refusals behind 200, and a sandbox that does so teaches nothing.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.sandbox import frames
from bridge.sandbox.config import (
    Addresses,
    Call,
    Plan,
    SandboxConfig,
    Statistics,
    TooManyJobsError,
)
from bridge.sandbox.jobs import Job, JobBook, JobRequest, Pictures
from bridge.sandbox.simulation import Simulation
from bridge.sandbox.websocket import Channels


__all__ = [
    "Allowance",
    "BodyTooLargeError",
    "DryApi",
    "PusherApi",
    "RateLimiter",
    "StatusFaults",
    "UnreadableBodyError",
    "bearer_token",
    "error_body",
    "fields",
    "json_response",
    "read_as",
    "read_body",
]


_T = TypeVar("_T")


class BodyTooLargeError(Exception):
    """A request's body is longer than the handler takes: answer 413."""


class UnreadableBodyError(Exception):
    """A request's body isn't what was asked for: answer 422 and the message."""


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Build an answer in JSON."""
    return Response(
        msgspec.json.encode(content), status, headers, media_type="application/json"
    )


def error_body(status: int, message: str) -> dict[str, object]:
    """Build dryAPI's documented body of an error."""
    return {"data": None, "message": message, "errors": [], "statusCode": status}


async def read_body(request: Request, max_bytes: int) -> bytes:
    """
    Read a request's body.

    Returns:
        The body.

    Raises:
        BodyTooLargeError: It is longer.
    """
    body = bytearray()
    # Closed here, since trio doesn't allow that a generator is left to the
    # garbage collector half-way.
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > max_bytes:
                raise BodyTooLargeError
    return bytes(body)


async def read_as(request: Request, max_bytes: int, shape: type[_T]) -> _T:
    """
    Read a request's body as JSON of a known shape; no body counts as `{}`.

    Raises:
        BodyTooLargeError: It is longer.
        UnreadableBodyError: It is something else; the message says what.
    """
    body = await read_body(request, max_bytes)
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnreadableBodyError(str(error)) from error


def fields(request: Request, body: bytes) -> dict[str, Any]:
    """Read the members of a body that is a JSON object or a form."""
    if "json" in request.headers.get("content-type", ""):
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}
    # Laravel reads a body without a type, or with this one, as a form.
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=100))
    except ValueError:
        return {}


def bearer_token(request: Request) -> str:
    """Read the bearer token; empty without one."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


_MINUTE_SECONDS = 60.0
_DAY_SECONDS = 86_400.0

# Calls per minute and per day (None: no limit) of the status endpoint.
_LIMITS: dict[Plan, tuple[int, int | None]] = {
    "basic": (50, 200),
    "premium": (300, None),
}


class Allowance(msgspec.Struct, frozen=True):
    """
    What the limits say to one call.

    Attributes:
        allowed: Whether it may be answered.
        headers: What the answer carries either way.
    """

    allowed: bool
    headers: dict[str, str]


class _Window:
    # Opens with its first call and is empty again when it ends: Laravel's way,
    # on which dryAPI runs.
    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self._seconds = seconds
        self._count = 0
        self._ends_at = -math.inf

    def remaining(self, now: float) -> int:
        if now >= self._ends_at:
            self._count = 0
        return self.limit - self._count

    def count(self, now: float) -> None:
        if now >= self._ends_at:
            self._ends_at = now + self._seconds
        self._count += 1

    def retry_after_seconds(self, now: float) -> int:
        return max(1, math.ceil(self._ends_at - now))


class RateLimiter:
    """One account's allowance; its clock is trio's."""

    def __init__(self, plan: Plan) -> None:
        per_minute, per_day = _LIMITS[plan]
        self._minute = _Window(per_minute, _MINUTE_SECONDS)
        self._day = None if per_day is None else _Window(per_day, _DAY_SECONDS)

    def take(self) -> Allowance:
        """Count a call, unless a limit refuses it: refused calls don't count."""
        now = trio.current_time()
        windows = {"minute": self._minute, "daily": self._day}
        for kind, window in windows.items():
            if window is not None and window.remaining(now) <= 0:
                wait = str(window.retry_after_seconds(now))
                about = {"Retry-After": wait, "X-RateLimit-Type": kind}
                return Allowance(allowed=False, headers=about | self._headers(now))
        for window in windows.values():
            if window is not None:
                window.count(now)
        return Allowance(allowed=True, headers=self._headers(now))

    def _headers(self, now: float) -> dict[str, str]:
        headers = {
            "X-RateLimit-Limit": str(self._minute.limit),
            "X-RateLimit-Remaining": str(self._minute.remaining(now)),
        }
        if self._day is not None:
            headers["X-RateLimit-Daily-Limit"] = str(self._day.limit)
            headers["X-RateLimit-Daily-Remaining"] = str(self._day.remaining(now))
        return headers


class StatusFaults:
    """Whether the status endpoint answers with a server's error."""

    def __init__(self, seed: int | None) -> None:
        self._rng = random.Random(seed)
        self._until = -math.inf
        self._share = 0.0
        self._code = 503

    def fail(self, seconds: float, share: float, code: int) -> None:
        """Fail for so long from now on; 0 ends it."""
        self._until = trio.current_time() + seconds
        self._share, self._code = share, code

    def code(self) -> int | None:
        """Say what the call that comes now is answered with; None: as always."""
        if trio.current_time() < self._until and self._rng.random() < self._share:
            return self._code
        return None


# An authorisation has two short fields, a job's request a prompt at most.
_MAX_BODY_BYTES = 64 * 1024

# Two numbers with a dot: what Pusher's own server libraries check for.
_SOCKET_ID = re.compile(r"\d+\.\d+")


def _error(
    status: int, message: str, headers: dict[str, str] | None = None
) -> Response:
    return json_response(error_body(status, message), status, headers)


class DryApi:
    """
    The handlers and their routes.

    Args:
        config: The sandbox's.
        book: Its jobs.
        simulation: What starts jobs.
        pictures: The previews and results.
        addresses: Where they are served.
        statistics: What counts status calls.
        accounts: Which tokens are good, and for which clients each; None for the
            one of the settings.

    Attributes:
        faults: Whether the status endpoint fails.
    """

    def __init__(  # noqa: PLR0913 - each is a part of its own
        self,
        config: SandboxConfig,
        book: JobBook,
        simulation: Simulation,
        pictures: Pictures,
        addresses: Addresses,
        *,
        statistics: Statistics,
        accounts: dict[str, set[str]] | None = None,
    ) -> None:
        self.faults = StatusFaults(config.seed)
        self._accounts = accounts or {config.api_token: {config.client_id}}
        self._statistics = statistics
        self._config = config
        self._book = book
        self._simulation = simulation
        self._pictures = pictures
        self._addresses = addresses
        # The limits are the token's.
        self._limiters: defaultdict[str, RateLimiter] = defaultdict(
            lambda: RateLimiter(config.plan)
        )

    def routes(self) -> list[Route]:
        """List what is served where."""
        status = "/api/v1/client/request-status/{request_id}"
        return [
            Route("/broadcasting/auth", self._authorize, methods=["POST"]),
            Route(status, self._status, methods=["GET"]),
            Route("/jobs", self._start_job, methods=["POST"]),
            Route("/previews/{request_id}.jpg", self._preview, methods=["GET"]),
            Route("/results/{request_id}.jpg", self._result, methods=["GET"]),
        ]

    async def _authorize(self, request: Request) -> Response:
        body = await read_body(request, _MAX_BODY_BYTES)
        clients = self._accounts.get(bearer_token(request))
        if clients is None:
            return json_response({"message": "Unauthenticated."}, 401)
        given = fields(request, body)
        faults = {
            name: [f"The {name.replace('_', ' ')} field is required."]
            for name in ("socket_id", "channel_name")
            if not isinstance(given.get(name), str) or not given[name]
        }
        if not faults and not _SOCKET_ID.fullmatch(given["socket_id"]):
            faults["socket_id"] = ["The socket id field format is invalid."]
        if faults:
            message = next(iter(faults.values()))[0]
            return json_response({"message": message, "errors": faults}, 422)
        channel = given["channel_name"]
        if channel not in {f"private-client.{client}" for client in clients}:
            return json_response({"message": "This action is unauthorized."}, 403)
        auth = self._config.app.channel_auth(given["socket_id"], channel)
        return json_response({"auth": auth})

    async def _status(self, request: Request) -> Response:
        answer = self._answer_status(request)
        self._statistics.answered_status(answer.status_code)
        return answer

    def _answer_status(self, request: Request) -> Response:
        # What a broken server does about the limits is left open: here it is a proxy
        # that answers, which neither looks at a token nor counts.
        fault = self.faults.code()
        if fault is not None:
            return _error(fault, "Server Error")
        token = bearer_token(request)
        if token not in self._accounts:
            return _error(401, "Unauthenticated.")
        allowance = self._limiters[token].take()
        if not allowance.allowed:
            return _error(429, "Too Many Attempts.", allowance.headers)
        job = self._book.get(request.path_params["request_id"])
        if job is None:
            return _error(404, "Request not found.", allowance.headers)
        return json_response({"data": self._describe(job)}, headers=allowance.headers)

    def _describe(self, job: Job) -> dict[str, object]:
        # Not the event's shape: no request id, progress a number, the preview an
        # address, and no `in_progress`.
        preview = result = None
        if job.status == "in_progress" and self._config.previews:
            preview = self._addresses.preview(job.request_id)
        if job.status == "done":
            result = self._addresses.result(job.request_id, time.time())
        return {
            "status": "processing" if job.status == "in_progress" else job.status,
            "preview": preview,
            "result_url": result,
            "results_alt_formats": result and {"jpg": result, "webp": None},
            "result": None,
            "progress": job.progress,
        }

    async def _start_job(self, request: Request) -> Response:
        # The sandbox's own door: it asks for no token, so that a `curl` is short.
        body = await read_body(request, _MAX_BODY_BYTES)
        try:
            wanted = msgspec.json.decode(body or b"{}", type=JobRequest)
            job = self._simulation.start_requested(wanted)
        except (msgspec.DecodeError, RecursionError) as error:
            return _error(422, str(error))
        except TooManyJobsError as error:
            return _error(429, str(error), {"Retry-After": "10"})
        return json_response({"request_id": job.request_id}, 201)

    async def _preview(self, request: Request) -> Response:
        job = self._book.get(request.path_params["request_id"])
        if job is None or not self._config.previews:
            return _error(404, "Preview not found.")
        jpeg = self._pictures.jpegs[job.picture][job.stage]
        return Response(jpeg, media_type="image/jpeg")

    async def _result(self, request: Request) -> Response:
        allowed = self._addresses.may_fetch(
            request.url.path,
            request.query_params.get("expires", ""),
            request.query_params.get("signature", ""),
            time.time(),
        )
        if not allowed:
            return _error(403, "Invalid signature.")
        # A signed address is good after its job is forgotten: the id names the
        # picture.
        number = self._pictures.number_of(request.path_params["request_id"])
        return Response(self._pictures.results[number], media_type="image/jpeg")


# soketi's eventLimits: 100 KiB of data, 100 channels, names of 200 characters,
# batches of ten.
_MAX_DATA_BYTES = 100 * 1024
_MAX_CHANNELS = 100
_MAX_NAME_LENGTH = 200
_MAX_BATCH = 10
# Ten events of full size, escaped once more.
_MAX_CALL_BYTES = 4 * 1024 * 1024


class _Publication(msgspec.Struct, frozen=True):
    name: str
    data: Any
    channel: str | None = None
    channels: list[str] = []
    socket_id: str | None = None

    @property
    def targets(self) -> list[str]:
        return self.channels if self.channel is None else [self.channel]


class _Batch(msgspec.Struct, frozen=True):
    batch: list[_Publication]


def _refuse_call(status: int, message: str) -> Response:
    return json_response({"error": message, "code": status}, status)


class PusherApi:
    """The handlers and their routes."""

    def __init__(
        self, config: SandboxConfig, channels: Channels, statistics: Statistics
    ) -> None:
        self._config = config
        self._channels = channels
        self._statistics = statistics

    def routes(self) -> list[Route]:
        """List what is served where."""
        app = "/apps/{app_id}"
        return [
            Route(f"{app}/events", self._publish_one, methods=["POST"]),
            Route(f"{app}/batch_events", self._publish_batch, methods=["POST"]),
            Route(f"{app}/channels/{{channel}}", self._describe, methods=["GET"]),
        ]

    async def _publish_one(self, request: Request) -> Response:
        body = await read_body(request, _MAX_CALL_BYTES)
        refusal = self._refusal(request, body)
        if refusal is not None:
            return refusal
        try:
            event = msgspec.json.decode(body, type=_Publication)
        except (msgspec.DecodeError, RecursionError) as error:
            return _refuse_call(400, f"The received data is incorrect: {error}")
        return self._publish([event], {"ok": True})

    async def _publish_batch(self, request: Request) -> Response:
        body = await read_body(request, _MAX_CALL_BYTES)
        refusal = self._refusal(request, body)
        if refusal is not None:
            return refusal
        try:
            batch = msgspec.json.decode(body, type=_Batch).batch
        except (msgspec.DecodeError, RecursionError) as error:
            return _refuse_call(400, f"The received data is incorrect: {error}")
        if len(batch) > _MAX_BATCH:
            return _refuse_call(400, f"A batch holds at most {_MAX_BATCH} events.")
        return self._publish(batch, {"batch": [{} for _ in batch]})

    async def _describe(self, request: Request) -> Response:
        refusal = self._refusal(request, b"")
        if refusal is not None:
            return refusal
        count = self._channels.count(request.path_params["channel"])
        return json_response({"subscription_count": count, "occupied": count > 0})

    def _refusal(self, request: Request, body: bytes) -> Response | None:
        app_id = request.path_params["app_id"]
        if app_id != self._config.app_id:
            return _refuse_call(404, f"The app {app_id} could not be found.")
        call = Call(request.method, request.url.path, dict(request.query_params), body)
        fault = self._config.app.why_refused(call, time.time())
        return None if fault is None else _refuse_call(401, fault)

    def _publish(self, events: Sequence[_Publication], answer: Any) -> Response:
        # All or none: a batch that is refused in its middle has sent nothing.
        for event in events:
            refusal = _fault(event)
            if refusal is not None:
                return refusal
        for event in events:
            for channel in event.targets:
                frame = frames.channel_event(event.name, channel, event.data)
                self._channels.publish(channel, frame, exclude=event.socket_id)
            self._statistics.events_published += 1
        return json_response(answer)


def _fault(event: _Publication) -> Response | None:
    if len(event.name) > _MAX_NAME_LENGTH:
        return _refuse_call(400, "The event name is too long.")
    if not event.targets or len(event.targets) > _MAX_CHANNELS:
        return _refuse_call(400, f"An event needs 1 to {_MAX_CHANNELS} channels.")
    if any(frames.channel_name_fault(channel) for channel in event.targets):
        return _refuse_call(400, "The channel name is not allowed.")
    # soketi takes any JSON but what JavaScript holds for false.
    if event.data is None or event.data in ("", 0):
        return _refuse_call(400, "The received data is incorrect: no data.")
    data = event.data if isinstance(event.data, str) else None
    size = len(data.encode() if data is not None else msgspec.json.encode(event.data))
    if size > _MAX_DATA_BYTES:
        limit = _MAX_DATA_BYTES // 1024
        return _refuse_call(413, f"The event data should be less than {limit} KB.")
    return None
