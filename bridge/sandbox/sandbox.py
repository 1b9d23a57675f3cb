"""
One sandbox: its parts, its port, and what it does on command.

Nothing under `/sandbox/` imitates dryAPI, nor does `/jobs`.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.errors import ListenError
from bridge.http.hosts import HostCheck
from bridge.http.server import Limits, serve
from bridge.http.streams import open_socket, os_reason
from bridge.sandbox.api import (
    STATUS_PATH,
    Answer,
    Answers,
    DryApi,
    Seconds,
    error_body,
    json_response,
)
from bridge.sandbox.config import Addresses, SandboxConfig, SandboxError, Statistics
from bridge.sandbox.jobs import JobBook, JobError, JobRequest, paint
from bridge.sandbox.simulation import (
    Publisher,
    RemotePublisher,
    Simulation,
    TooManyJobsError,
)
from bridge.sandbox.webhooks import Webhooks
from bridge.sandbox.websocket import Endpoint, Refusal
from bridge.settings import split_address


__all__ = ["Sandbox"]

# Every client is the developer's own, and each WebSocket keeps its connection: many. No
# body is long.
_LIMITS: Final = Limits(max_connections=50_000, max_body_bytes=64 * 1024)


class Sandbox:
    """
    A dryAPI on this machine.

    Args:
        config: What it does.
        base: What its addresses begin with, where another server runs `app`.
        publisher: Publishes the events, in place of its own endpoint.

    Attributes:
        accounts: The valid tokens, with the clients of each.
        app: The ASGI application of everything but the WebSocket.
    """

    def __init__(
        self,
        config: SandboxConfig,
        *,
        base: str = "",
        publisher: Publisher | None = None,
    ) -> None:
        self.config = config
        self.statistics = Statistics()
        self._addresses = Addresses(base, config.app)
        self.book = JobBook(config, self._addresses, self.statistics)
        self.endpoint: Endpoint | None = None
        if publisher is None and config.pusher_url is not None:
            publisher = RemotePublisher(config, self.statistics)
        elif publisher is None:
            publisher = self.endpoint = Endpoint(config, self.statistics)
        self.simulation = Simulation(config, self.book, publisher)
        self.webhooks: Webhooks | None = None
        if config.webhook_url is not None:
            counts = self.statistics.webhooks
            self.webhooks = Webhooks(config, self._addresses, counts)
            self.simulation.observers.append(self.webhooks.announce)
        api = DryApi(config, self.book, self._addresses)
        self.accounts = api.accounts
        application = _application([*api.routes(), *self._routes()])
        self.answers = Answers(application, config, self.statistics)
        self.app = HostCheck(
            self.answers,
            [split_address(config.listen)[0]],
            hint="--listen",
            accepts_private=True,
            # Browser clients under development may use dryAPI's own endpoints.
            own=("/sandbox/", "/jobs"),
        )
        self._scope = trio.CancelScope()

    async def serve(
        self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """
        Serve until cancelled or stopped; once started, gives the base address.

        Cancelling ends every connection at once; `stop` closes them.

        Raises:
            SandboxError: The port can't be bound, or the Pusher server refuses.
        """
        await trio.to_thread.run_sync(paint, self.config.preview_bytes)
        try:
            listening = await open_socket(self.config.listen, "listen")
        except ListenError as error:
            cause = error.__cause__
            reason = os_reason(cause) if isinstance(cause, OSError) else cause
            raise SandboxError(
                f"can't listen on {self.config.listen}: {reason}; choose another"
                " address with --listen"
            ) from error
        with listening, self._scope:
            host, port = listening.getsockname()[:2]
            if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
                host = "127.0.0.1"
            host = f"[{host}]" if ":" in host else host
            self._addresses.base = f"http://{host}:{port}"
            upgrade = None if self.endpoint is None else self.endpoint.serve
            async with trio.open_nursery() as nursery:
                await nursery.start(self.run)
                # The setting is for the log.
                nursery.start_soon(
                    partial(serve, setting="listen", limits=_LIMITS, upgrade=upgrade),
                    self.app,
                    listening,
                )
                task_status.started(self._addresses.base)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run jobs and send webhooks until cancelled, without a port of its own."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.simulation.run)
            if self.webhooks is not None:
                nursery.start_soon(self.webhooks.run)
            task_status.started()

    async def stop(self) -> None:
        """Close every connection as soketi does on SIGTERM, then end `serve`."""
        if self.endpoint is not None:
            await self.endpoint.stop()
        self._scope.cancel()

    def report(self) -> dict[str, Any]:
        """Give all statistics, and whether events are emitted."""
        rate = self.simulation.rate
        return {
            **vars(self.statistics),
            "jobs_running": self.statistics.jobs_running,
            "rate": rate,
            "emitting": self.simulation.emitting and rate > 0,
        }

    def _routes(self) -> list[Route]:
        async def show(_request: Request) -> Response:
            return json_response(self.report())

        async def show_requests(_request: Request) -> Response:
            return json_response(list(self.answers.requests))

        return [
            Route("/sandbox/statistics", show, methods=["GET"]),
            Route("/sandbox/requests", show_requests, methods=["GET"]),
            *(
                Route(path, partial(_obey, self, command), methods=["POST"])
                for path, command in _COMMANDS.items()
            ),
        ]


def _application(routes: list[Route]) -> Starlette:
    # A browser client under development runs on another port of the laptop; a bearer
    # token, not a cookie, authorizes it.
    return Starlette(
        routes=routes,
        exception_handlers={HTTPException: _refuse},
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["*"],
                allow_headers=["*"],
            )
        ],
    )


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = error_body(error.status_code, error.detail)
    return json_response(body, error.status_code, dict(error.headers or {}))


# -- Commands ------------------------------------------------------------------


class _Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A command: its members are those of the body and of the path.

    Its `do` returns the answer; None for the report.
    """


class _SetAccount(_Command, frozen=True):
    client_id: str
    api_token: str
    known: bool = True

    async def do(self, sandbox: Sandbox) -> None:
        clients = sandbox.accounts.setdefault(self.api_token, set())
        (clients.add if self.known else clients.discard)(self.client_id)
        if not clients:
            del sandbox.accounts[self.api_token]


class _OrderAnswer(Answer, frozen=True):
    async def do(self, sandbox: Sandbox) -> None:
        sandbox.answers.order(self)


class _SetRate(_Command, frozen=True):
    rate: Annotated[float, msgspec.Meta(ge=0)]

    async def do(self, sandbox: Sandbox) -> None:
        await sandbox.simulation.set_rate(self.rate)


class _RefuseSockets(_Command, frozen=True):
    seconds: Seconds
    by: Refusal = "http"

    async def do(self, sandbox: Sandbox) -> None:
        _endpoint(sandbox).refuse(self.seconds, self.by)


class _DropSockets(_Command, frozen=True):
    # None is a reset.
    code: Annotated[int, msgspec.Meta(ge=1000, le=4999)] | None = 4200
    message: str | None = None
    refuse: _RefuseSockets | None = None

    def __post_init__(self) -> None:
        # RFC 6455 reserves these: no close frame has one.
        if self.code in {1004, 1005, 1006, 1015}:
            raise ValueError("code: no close frame may have this one")

    async def do(self, sandbox: Sandbox) -> Any:
        endpoint = _endpoint(sandbox)
        if self.refuse is not None:
            await self.refuse.do(sandbox)
        return {"dropped": endpoint.drop(self.code, self.message)}


class _FailStatus(_Command, frozen=True):
    seconds: Seconds
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    code: Annotated[int, msgspec.Meta(ge=500, le=599)] = 503

    async def do(self, sandbox: Sandbox) -> None:
        # A proxy answers, which neither checks a token nor counts.
        body = msgspec.json.encode(error_body(self.code, "Server Error")).decode()
        answer = Answer(
            STATUS_PATH,
            seconds=self.seconds,
            share=self.share,
            status=self.code,
            headers={"Content-Type": "application/json"},
            body=body,
        )
        sandbox.answers.order(answer)


class _StartJob(JobRequest, frozen=True):
    async def do(self, sandbox: Sandbox) -> Any:
        try:
            job = sandbox.simulation.start_requested(self)
        except TooManyJobsError as error:
            raise HTTPException(429, str(error), {"Retry-After": "10"}) from error
        return {"request_id": job.request_id}


class _FinishJob(_Command, frozen=True):
    request_id: str

    async def do(self, sandbox: Sandbox) -> Any:
        return await self._end(sandbox, None)

    async def _end(self, sandbox: Sandbox, error: JobError | None) -> Any:
        job = sandbox.book.get(self.request_id)
        if job is None:
            raise HTTPException(404, "There is no such job.")
        if not await sandbox.simulation.end(job, error):
            raise HTTPException(409, f"The job has ended already: {job.status}.")
        return {"request_id": job.request_id, "status": job.status}


class _FailJob(_FinishJob, frozen=True):
    error_code: str = "PROCESSING_ERROR"
    error_message: str = "A command let it fail."

    async def do(self, sandbox: Sandbox) -> Any:
        error = JobError(self.error_code, self.error_message)
        return await self._end(sandbox, error)


class _ValidateWebhooks(_Command, frozen=True):
    async def do(self, sandbox: Sandbox) -> Any:
        # What its `data` holds is left open: nothing that a receiver may rely on.
        return {"delivery_id": _webhooks(sandbox).send("webhook.validation", {})}


class _SwitchWebhooksOn(_Command, frozen=True):
    async def do(self, sandbox: Sandbox) -> None:
        _webhooks(sandbox).switch_on()


_COMMANDS: Final[dict[str, type[Any]]] = {
    "/jobs": _StartJob,
    "/sandbox/accounts": _SetAccount,
    "/sandbox/answers": _OrderAnswer,
    "/sandbox/emission": _SetRate,
    "/sandbox/jobs/{request_id}/fail": _FailJob,
    "/sandbox/jobs/{request_id}/finish": _FinishJob,
    "/sandbox/sockets/drop": _DropSockets,
    "/sandbox/sockets/refuse": _RefuseSockets,
    "/sandbox/status-endpoint": _FailStatus,
    "/sandbox/webhooks/switch-on": _SwitchWebhooksOn,
    "/sandbox/webhooks/validate": _ValidateWebhooks,
}


async def _obey(sandbox: Sandbox, command: type[Any], request: Request) -> Response:
    try:
        given = msgspec.json.decode(await request.body() or b"{}", type=dict[str, Any])
        wanted = msgspec.convert(given | request.path_params, command)
    except (msgspec.DecodeError, RecursionError) as error:
        raise HTTPException(422, str(error)) from error
    status = 201 if command is _StartJob else 200
    done = await wanted.do(sandbox)
    return json_response(sandbox.report() if done is None else done, status)


def _endpoint(sandbox: Sandbox) -> Endpoint:
    if sandbox.endpoint is None:
        raise HTTPException(409, "The sockets belong to the server of --pusher-url.")
    return sandbox.endpoint


def _webhooks(sandbox: Sandbox) -> Webhooks:
    if sandbox.webhooks is None:
        raise HTTPException(409, "No webhooks: start the sandbox with --webhook-url.")
    return sandbox.webhooks
