"""
What the sandbox does on command: answers, faults, and its statistics.

Nothing under `/sandbox/` imitates dryAPI.
"""

from __future__ import annotations

import time
from collections import deque
from email.utils import formatdate
from typing import Annotated, Any

import msgspec
import trio
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.sandbox.api import StatusFaults, fields, json_response, read_as
from bridge.sandbox.config import Statistics
from bridge.sandbox.jobs import JobBook, JobError
from bridge.sandbox.simulation import Simulation
from bridge.sandbox.webhooks import Deliveries, Webhooks
from bridge.sandbox.websocket import Endpoint, Refusal


__all__ = ["Answer", "Answers", "Asked", "Control"]


# Commands, and the Pusher API.
_LEFT_ALONE = ("/sandbox/", "/apps/")
# As good as for ever, and 0 ends what lasts.
_YEAR_SECONDS = 31_536_000.0
_KEPT_REQUESTS = 10_000
_MAX_NOTED_BYTES = 64 * 1024

_Seconds = Annotated[float, msgspec.Meta(ge=0, le=_YEAR_SECONDS)]


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What requests are answered with, and for how long.

    Attributes:
        path: What their path begins with.
        seconds: For how long; 0 ends what was ordered for this path.
        times: For how many requests, after those of earlier orders; None for all, in
            place of earlier orders.
        delay_seconds: How long an answer takes.
        status: Its status; None for dryAPI's own answer.
        headers: Its headers, or more headers for dryAPI's own; None leaves one out.
        body: Its body.
    """

    path: str
    seconds: _Seconds = _YEAR_SECONDS
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    delay_seconds: _Seconds = 0.0
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    headers: dict[str, str | None] = {}
    body: str = ""


class Asked(msgspec.Struct):
    """
    A request as it came.

    Attributes:
        method: Its method.
        path: Its path.
        authorization: This header; empty without one.
        accept: This header, likewise.
        at: When it came, in seconds since the epoch.
        fields: The members of a body that is a JSON object or a form.
    """

    method: str
    path: str
    authorization: str
    accept: str
    at: float
    fields: dict[str, object] = {}


class _Order:
    # An answer with what is left of it.
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.until = trio.current_time() + answer.seconds
        self.times = answer.times

    @property
    def is_due(self) -> bool:
        return self.times != 0 and trio.current_time() < self.until


class Answers:
    """
    The orders that are in force.

    Attributes:
        requests: What was asked, the newest 10,000.
    """

    def __init__(self) -> None:
        self.requests: deque[Asked] = deque(maxlen=_KEPT_REQUESTS)
        self._orders: list[_Order] = []

    def order(self, answer: Answer) -> None:
        """Answer so from now on."""
        self._orders = [
            order
            for order in self._orders
            if order.is_due
            and (answer.times is not None or order.answer.path != answer.path)
        ]
        self._orders.append(_Order(answer))

    def around(self, application: ASGIApp) -> ASGIApp:
        """Give an application that answers as ordered, and else as this one."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"].startswith(_LEFT_ALONE):
                await application(scope, receive, send)
            else:
                await self._serve(application, scope, receive, send)

        return serve

    def _next(self, path: str) -> Answer:
        for order in self._orders:
            if path.startswith(order.answer.path) and order.is_due:
                if order.times is not None:
                    order.times -= 1
                return order.answer
        return Answer(path)

    async def _serve(
        self, application: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        answer = self._next(scope["path"])
        given = Headers(scope=scope)
        asked = Asked(
            scope["method"],
            scope["path"],
            given.get("authorization", ""),
            given.get("accept", ""),
            time.time(),
        )
        self.requests.append(asked)
        body = bytearray()

        async def read() -> Message:
            message = await receive()
            if len(body) <= _MAX_NOTED_BYTES:
                body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                asked.fields = fields(Request(scope), bytes(body))
            return message

        async def write(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = {"date": formatdate(usegmt=True)} | {
                    name.lower(): value for name, value in answer.headers.items()
                }
                message["headers"] = [
                    (name, value)
                    for name, value in message["headers"]
                    if name.decode("latin-1") not in added
                ] + [
                    (name.encode("latin-1"), value.encode("latin-1"))
                    for name, value in added.items()
                    if value is not None
                ]
            await send(message)

        if answer.status is None:
            await trio.sleep(answer.delay_seconds)
            await application(scope, read, write)
            return
        while (await read()).get("more_body", False):
            pass
        await trio.sleep(answer.delay_seconds)
        content = answer.body.encode()
        length = (b"content-length", str(len(content)).encode())
        await write(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [length],
            }
        )
        await write({"type": "http.response.body", "body": content})


_MAX_BODY_BYTES = 4 * 1024
_MAX_ANSWER_BYTES = 64 * 1024

# RFC 6455 keeps these for what was never said on the wire.
_NEVER_SENT = {1004, 1005, 1006, 1015}


class _Emission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rate: Annotated[float, msgspec.Meta(ge=0)]


class _Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: _Seconds
    by: Refusal = "http"


class _Drop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    # Code null is a reset. The refusal begins at the same moment.
    code: Annotated[int, msgspec.Meta(ge=1000, le=4999)] | None = 4200
    message: str | None = None
    refuse: _Refusal | None = None

    def __post_init__(self) -> None:
        if self.code in _NEVER_SENT:
            raise ValueError("code: no close frame may carry this one")


class _StatusFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: _Seconds
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    code: Annotated[int, msgspec.Meta(ge=500, le=599)] = 503


class _Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    client_id: str
    api_token: str
    known: bool = True


class _Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    error_code: str = "PROCESSING_ERROR"
    error_message: str = "The sandbox was told to let it fail."


def _refuse(status: int, message: str) -> Response:
    return json_response({"message": message}, status)


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """
    The handlers of commands and their routes.

    Attributes:
        endpoint: The WebSocket connections; None if another server has them.
        webhooks: What is sent on command; None if none are sent.
    """

    simulation: Simulation
    statistics: Statistics
    book: JobBook
    status_faults: StatusFaults
    accounts: dict[str, set[str]]
    answers: Answers
    endpoint: Endpoint | None
    webhooks: Webhooks | None
    deliveries: Deliveries

    def routes(self) -> list[Route]:
        """List what is served where."""
        commands = {
            "accounts": self._set_account,
            "answers": self._order_answer,
            "emission": self._set_rate,
            "sockets/drop": self._drop_sockets,
            "sockets/refuse": self._refuse_sockets,
            "status-endpoint": self._fail_status,
            "jobs/{request_id}/finish": self._finish_job,
            "jobs/{request_id}/fail": self._fail_job,
            "webhooks/validate": self._validate_webhooks,
            "webhooks/switch-on": self._switch_webhooks_on,
        }
        return [
            Route("/sandbox/statistics", self._show, methods=["GET"]),
            Route("/sandbox/requests", self._show_requests, methods=["GET"]),
            *(
                Route(f"/sandbox/{path}", handler, methods=["POST"])
                for path, handler in commands.items()
            ),
        ]

    def _report(self) -> dict[str, Any]:
        simulation = self.simulation
        return {
            **self.statistics.as_dict(),
            "rate": simulation.rate,
            "emitting": simulation.emitting and simulation.rate > 0,
        }

    async def _show(self, _request: Request) -> Response:
        return json_response(self._report())

    async def _show_requests(self, _request: Request) -> Response:
        return json_response(list(self.answers.requests))

    async def _order_answer(self, request: Request) -> Response:
        answer = await read_as(request, _MAX_ANSWER_BYTES, Answer)
        self.answers.order(answer)
        return json_response(self._report())

    async def _set_account(self, request: Request) -> Response:
        account = await read_as(request, _MAX_BODY_BYTES, _Account)
        accounts = self.accounts
        clients = accounts.setdefault(account.api_token, set())
        (clients.add if account.known else clients.discard)(account.client_id)
        if not clients:
            del accounts[account.api_token]
        return json_response(self._report())

    async def _set_rate(self, request: Request) -> Response:
        wanted = await read_as(request, _MAX_BODY_BYTES, _Emission)
        await self.simulation.set_rate(wanted.rate)
        return json_response(self._report())

    async def _drop_sockets(self, request: Request) -> Response:
        drop = await read_as(request, _MAX_BODY_BYTES, _Drop)
        endpoint = self.endpoint
        if endpoint is None:
            return _no_sockets()
        if drop.refuse is not None:
            endpoint.faults.refuse(drop.refuse.seconds, drop.refuse.by)
        return json_response({"dropped": endpoint.drop(drop.code, drop.message)})

    async def _refuse_sockets(self, request: Request) -> Response:
        refusal = await read_as(request, _MAX_BODY_BYTES, _Refusal)
        if self.endpoint is None:
            return _no_sockets()
        self.endpoint.faults.refuse(refusal.seconds, refusal.by)
        return json_response(self._report())

    async def _fail_status(self, request: Request) -> Response:
        fault = await read_as(request, _MAX_BODY_BYTES, _StatusFault)
        self.status_faults.fail(fault.seconds, fault.share, fault.code)
        return json_response(self._report())

    async def _finish_job(self, request: Request) -> Response:
        return await self._end_job(request, None)

    async def _fail_job(self, request: Request) -> Response:
        why = await read_as(request, _MAX_BODY_BYTES, _Failure)
        return await self._end_job(request, JobError(why.error_code, why.error_message))

    async def _end_job(self, request: Request, error: JobError | None) -> Response:
        job = self.book.get(request.path_params["request_id"])
        if job is None:
            return _refuse(404, "there is no such job")
        if not await self.simulation.end(job, error):
            return _refuse(409, f"the job has ended already: {job.status}")
        return json_response({"request_id": job.request_id, "status": job.status})

    async def _validate_webhooks(self, _request: Request) -> Response:
        if self.webhooks is None:
            return _no_webhooks()
        return json_response({"delivery_id": self.webhooks.validate()}, 202)

    async def _switch_webhooks_on(self, _request: Request) -> Response:
        if self.webhooks is None:
            return _no_webhooks()
        self.deliveries.switch_on()
        return json_response(self._report())


def _no_sockets() -> Response:
    return _refuse(409, "the sockets are those of the server that --pusher-url names")


def _no_webhooks() -> Response:
    return _refuse(409, "no webhooks are sent: start the sandbox with --webhook-url")
