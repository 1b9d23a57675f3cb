"""The fake dryAPI: the sandbox, with faults on command, in a thread of its own.

with DryApi(soketi, {"client": "token"}).serving() as dryapi:
    dryapi.answer(AUTH, status=503, headers={"Retry-After": "1"})
    dryapi.reset(AUTH)
    assert dryapi.authorizations[0].channel == "private-client.client"
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Queue
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import trio
import trio.lowlevel

from bridge.sandbox import Sandbox, SandboxConfig
from bridge.sandbox.api import Answer, Asked
from tests.kit.publisher import Soketi


AUTH = "/broadcasting/auth"
STATUS = "/api/v1/client/request-status/"

_DEADLINE_SECONDS = 10.0


@dataclass(frozen=True)
class Authorization:
    """A request for a signature as it came."""

    authorization: str
    accept: str
    socket_id: str
    channel: str


class DryApi:
    """A dryAPI in front of a soketi."""

    def __init__(
        self,
        soketi: Soketi,
        accounts: Mapping[str, str],
        *,
        tls: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        (client_id, token), *others = accounts.items()
        defaults = {"rate": 0, "wait_for_subscriber": False, "preview_bytes": 700}
        self._sandbox = Sandbox(
            SandboxConfig(
                listen="127.0.0.1:0",
                client_id=client_id,
                api_token=token,
                pusher_url=soketi.url,
                app_id=soketi.app.id,
                app_key=soketi.app.key,
                app_secret=soketi.app.secret,
                **(defaults | options),
            )
        )
        for other, its_token in others:
            self.admit(other, its_token)
        self._tls = tls
        self._scope = trio.CancelScope()
        self._trio: trio.lowlevel.TrioToken | None = None
        self.url = ""

    def answer(self, path: str, **answer: Any) -> None:
        """Answer requests for a path so; see `bridge.sandbox.api.Answer`."""
        self._do(lambda: self._sandbox.answers.order(Answer(path, **answer)))

    def reset(self, path: str) -> None:
        """Answer as dryAPI does again."""
        self.answer(path, seconds=0)

    def admit(self, client_id: str, token: str) -> None:
        """Let a token authorize a client's channel."""
        self._sandbox.accounts.setdefault(token, set()).add(client_id)

    def revoke(self, token: str) -> None:
        """Refuse a token from now on."""
        self._sandbox.accounts.pop(token, None)

    @property
    def requests(self) -> list[Asked]:
        """What was asked, in order."""
        return list(self._sandbox.answers.requests)

    @property
    def authorizations(self) -> list[Authorization]:
        """The requests for signatures, in order."""
        return [
            Authorization(
                one.authorization,
                one.accept,
                str(one.fields.get("socket_id", "")),
                str(one.fields.get("channel_name", "")),
            )
            for one in self.requests
            if (one.method, one.path) == ("POST", AUTH)
        ]

    @property
    def status_calls(self) -> list[tuple[str, str]]:
        """The tokens and jobs of the requests for a job's status, in order."""
        return [
            (one.authorization.removeprefix("Bearer "), one.path.removeprefix(STATUS))
            for one in self.requests
            if one.path.startswith(STATUS)
        ]

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    @contextmanager
    def serving(self) -> Iterator[DryApi]:
        """Serve in a thread as long as the block runs."""
        started = Queue[str | BaseException]()
        thread = Thread(target=self._run, args=(started.put,))
        thread.start()
        try:
            begun = started.get()
            if isinstance(begun, BaseException):
                raise begun
            self.url = begun
            yield self
        finally:
            if self._trio is not None:
                self._trio.run_sync_soon(self._scope.cancel)
            thread.join()

    def _run(self, tell: Callable[[str | BaseException], None]) -> None:
        try:
            trio.run(self._serve, tell)
        except BaseException as error:  # noqa: BLE001 - who waits for it raises it
            tell(error)

    async def _serve(self, tell: Callable[[str], None]) -> None:
        self._trio = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                url = await nursery.start(self._sandbox.serve)
                if self._tls is not None:
                    url = await self._serve_tls(self._tls, url, nursery)
                tell(url)

    async def _serve_tls(
        self, tls: ssl.SSLContext, url: str, nursery: trio.Nursery
    ) -> str:
        """End TLS in front of it; give its address."""
        host, port = urlsplit(url).hostname, urlsplit(url).port
        assert host is not None
        assert port is not None

        async def handle(client: trio.SSLStream[trio.SocketStream]) -> None:
            server = await trio.open_tcp_stream(host, port)
            async with client, server, trio.open_nursery() as both:
                both.start_soon(_pass_on, client, server, both.cancel_scope)
                both.start_soon(_pass_on, server, client, both.cancel_scope)

        serve = functools.partial(trio.serve_ssl_over_tcp, handle, 0, tls, host=host)
        (listener,) = await nursery.start(serve)
        own = listener.transport_listener.socket.getsockname()[1]
        return f"https://{host}:{own}"

    def _do(self, order: Callable[[], object]) -> None:
        """Run an order where the sandbox runs, and wait until it is in force."""
        assert self._trio is not None
        done = Event()

        def run() -> None:
            order()
            done.set()

        # Not trio's own way, which refuses a caller that runs trio itself.
        self._trio.run_sync_soon(run)
        assert done.wait(_DEADLINE_SECONDS)


async def _pass_on(
    source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, scope: trio.CancelScope
) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for chunk in source:
            await sink.send_all(chunk)
    scope.cancel()
