"""One sandbox: its application and its parts, started and stopped."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from bridge.errors import ListenError
from bridge.http.hosts import HostCheck
from bridge.http.server import Limits, serve
from bridge.http.streams import open_socket
from bridge.sandbox.api import (
    BodyTooLargeError,
    DryApi,
    PusherApi,
    UnreadableBodyError,
    error_body,
    json_response,
)
from bridge.sandbox.config import (
    Addresses,
    SandboxConfig,
    SandboxError,
    Statistics,
    split_address,
)
from bridge.sandbox.control import Answers, Control
from bridge.sandbox.jobs import JobBook, Pictures, paint
from bridge.sandbox.simulation import (
    ChannelPublisher,
    Publisher,
    RemotePublisher,
    Simulation,
)
from bridge.sandbox.webhooks import Deliveries, Webhooks
from bridge.sandbox.websocket import Channels, Endpoint


__all__ = ["Sandbox", "build_application"]


def build_application(routes: Sequence[BaseRoute]) -> Starlette:
    """Build the application."""
    return Starlette(
        routes=routes,
        exception_handlers={
            404: _not_found,
            405: _not_allowed,
            BodyTooLargeError: _too_large,
            UnreadableBodyError: _unreadable,
        },
        middleware=[
            # Browser clients under development run on other ports of the laptop;
            # a bearer token, not a cookie, is what lets them in.
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["*"],
                allow_headers=["*"],
            )
        ],
    )


async def _not_found(_request: Request, _error: Exception) -> Response:
    return json_response(error_body(404, "Not found."), 404)


async def _not_allowed(_request: Request, error: Exception) -> Response:
    allowed = error.headers if isinstance(error, HTTPException) else None
    body = error_body(405, "This method is not supported here.")
    return json_response(body, 405, dict(allowed or {}))


async def _unreadable(_request: Request, error: Exception) -> Response:
    return json_response({"message": str(error)}, 422)


async def _too_large(_request: Request, _error: Exception) -> Response:
    return json_response({"error": "The body is too large.", "code": 413}, 413)


# Every client is the developer's own, and each WebSocket keeps its connection: many,
# and idle ones for longer than their clients keep them.
_LIMITS: Final = Limits(max_connections=50_000, head_seconds=75, max_requests=2**31)


class Sandbox:
    """
    A dryAPI on this machine.

    Attributes:
        config: What it was told.
        statistics: What it has done.
        accounts: Which tokens are good, and for which clients each.
        answers: What it answers on command, and what it was asked.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.statistics = Statistics()
        self.accounts = {config.api_token: {config.client_id}}
        self.answers = Answers()
        self._simulation: Simulation | None = None
        self._endpoint: Endpoint | None = None
        # What runs beside the server.
        self._beside: list[Callable[[], Awaitable[None]]] = []
        self._scope = trio.CancelScope()

    async def serve(
        self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """
        Serve until cancelled or stopped.

        Cancelling ends every connection at once; `stop` takes leave first.

        Raises:
            SandboxError: The port can't be bound, or the Pusher server refuses.
        """
        with await _open(self.config.listen) as listening:
            pictures = await trio.to_thread.run_sync(paint, self.config.preview_bytes)
            base = _base_address(listening)
            app = self._assemble(base, pictures)
            upgrade = None if self._endpoint is None else self._endpoint.serve
            server = partial(
                serve,
                app,
                listening,
                setting="listen",
                limits=_LIMITS,
                upgrade=upgrade,
            )
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server)
                    for run in self._beside:
                        nursery.start_soon(run)
                    task_status.started(base)

    def _assemble(self, base: str, pictures: Pictures) -> ASGIApp:
        config = self.config
        addresses = Addresses(config.public_url or base, config.app)
        book = JobBook(config, pictures, addresses, self.statistics)
        channels = Channels()
        publisher: Publisher
        if config.pusher_url is None:
            self._endpoint = Endpoint(config, channels, self.statistics)
            publisher = ChannelPublisher(config.channel, channels, self.statistics)
        else:
            publisher = RemotePublisher(config, self.statistics)
        deliveries = Deliveries(config, self.statistics.webhooks)
        webhooks = Webhooks(addresses, deliveries.send)
        sends = config.webhook_url is not None
        simulation = Simulation(
            config, book, publisher, *([webhooks.announce] if sends else [])
        )
        api = DryApi(
            config,
            book,
            simulation,
            pictures,
            addresses,
            statistics=self.statistics,
            accounts=self.accounts,
        )
        control = Control(
            simulation=simulation,
            statistics=self.statistics,
            book=book,
            status_faults=api.faults,
            accounts=self.accounts,
            answers=self.answers,
            endpoint=self._endpoint,
            webhooks=webhooks if sends else None,
            deliveries=deliveries,
        )
        routes = [*api.routes(), *control.routes()]
        if config.pusher_url is None:
            routes += PusherApi(config, channels, self.statistics).routes()
        self._simulation = simulation
        self._beside = [simulation.run, *([deliveries.run] if sends else [])]
        app = self.answers.around(build_application(routes))
        hosts = [urlsplit(addresses.base).hostname or ""]
        # Browser clients under development may use dryAPI's own endpoints.
        own = ("/sandbox/", "/jobs", "/apps/")
        return HostCheck(app, hosts, hint="--public-url", accepts_private=True, own=own)

    async def set_rate(self, rate: float) -> None:
        """
        Change the rate of simulated events; see `Simulation.set_rate`.

        Raises:
            SandboxError: It isn't running.
        """
        if self._simulation is None:
            raise SandboxError("the sandbox isn't running")
        await self._simulation.set_rate(rate)

    async def stop_emission(self) -> Statistics:
        """
        Stop all simulated events: none follows once this returns.

        Raises:
            SandboxError: It isn't running.
        """
        await self.set_rate(0)
        return self.statistics

    async def stop(self) -> None:
        """Close every connection as soketi does on SIGTERM, then end `serve`."""
        if self._endpoint is not None:
            await self._endpoint.stop()
        self._scope.cancel()


async def _open(listen: str) -> socket.socket:
    host, port = split_address(listen)
    try:
        return await open_socket(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "listen"
        )
    except ListenError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
            raise SandboxError(
                f"{listen} is in use: stop what listens there, or choose another"
                " port with --listen"
            ) from error
        raise SandboxError(f"can't listen on {listen}: {cause}") from error


def _base_address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
