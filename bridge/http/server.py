"""
HTTP/1.1 server for the bridge's own ports: health, webhooks, board and sandbox.

`serve` runs an ASGI application on a port. A connection carries one request: probes,
scrapes and webhooks come seconds apart, and no client holds a slot by cheap requests.
Every wait for a client has a deadline, and when all connection slots are taken, the
client that has kept the port waiting longest is disconnected. There is no HTTP/2; an
upgrade goes to the caller's handler, if any.

A library's server won't do, because a port may be open to the internet: hypercorn has
no deadline for a body or for a client that doesn't read, and no limit of connections.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final, TypeAlias
from urllib.parse import unquote

import h11
import structlog
import trio
from starlette.types import ASGIApp, Message, Scope

from bridge.http.streams import open_socket
from bridge.http.tls import ReloadingContext


__all__ = ["Limits", "Upgrade", "serve"]

_log = structlog.get_logger("bridge.http")

Upgrade: TypeAlias = Callable[[Scope, trio.abc.Stream, bytes], Awaitable[None]]
"""Serves a WebSocket: the request, the connection, and bytes read after the request."""

# Requests in progress have this long to end when serving ends.
_GRACE_SECONDS: Final = 1.0

_MAX_HEAD_BYTES: Final = 16 * 1024

# Small: as much may be read behind the largest head.
_READ_BYTES: Final = 8 * 1024

# Parsing a chunk takes some 15 us however small it is, so a body may block the loop for
# about 15 ms in all. Clients that don't know a body's length send chunks of kilobytes.
_MAX_CHUNKS: Final = 1024

# What a client still sends after its answer is read and discarded for a moment: closing
# with unread bytes resets the connection, which may destroy the answer on its way.
_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 4 * 1024 * 1024

# A proxy may believe the one and h11 the other: then the end of this body would be a
# request here (RFC 9112 section 6.3).
_FRAMINGS: Final = {b"content-length", b"transfer-encoding"}

_WEBSOCKET: Final = (b"upgrade", b"websocket")

# Of our side: no answer has begun.
_UNANSWERED: Final = {h11.IDLE, h11.SEND_RESPONSE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What a port allows its clients. The application's own time is not limited here.

    Attributes:
        max_connections: How many are open at once; further ones wait in the backlog.
            Each takes a descriptor, and 20 KB of memory with TLS.
        max_body_bytes: Size of a request's body; applications have smaller limits.
        phase_seconds: For each of the TLS handshake, a request's head, its body, and
            until the client has accepted a piece of the answer. Only answers without
            an end (`text/event-stream`) have more than one piece.
        crowded_seconds: While all slots are taken and a client waits for one, the one
            that has kept the port waiting longest is disconnected after this time. A
            second is enough for a handshake and a request.
    """

    max_connections: int = 100
    max_body_bytes: int = 16 * 1024 * 1024
    phase_seconds: float = 10.0
    crowded_seconds: float = 1.0


class _LostError(OSError):
    """
    A client has disconnected, took too long, or sent what isn't accepted.

    `status` is for one that is still there and waits for the answer to its request.
    """

    def __init__(self, status: int | None = None) -> None:
        super().__init__("the client is lost")
        self.status = status


async def serve(  # noqa: PLR0913 - each is one independent choice of the caller
    app: ASGIApp,
    listen: str | socket.socket,
    *,
    setting: str = "operations.listen",
    tls: ReloadingContext | None = None,
    limits: Limits | None = None,
    upgrade: Upgrade | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve an application until cancelled; start it with `nursery.start`.

    When cancelled, the listening socket closes first; requests in progress have a
    second to end.

    Args:
        app: The ASGI application. Its own waits need deadlines of their own.
        listen: `host:port`, with IPv6 `[::1]:8080`, or what `open_socket` returned.
            Port 0 selects a free one.
        setting: The setting that `listen` came from, for errors.
        tls: The server's TLS context; None for plain HTTP.
        limits: What clients may take; None for the defaults.
        upgrade: Serves WebSockets; None answers such requests as any other.
        task_status: Gets the port once clients can connect.

    Raises:
        ListenError: The address isn't valid or can't be opened.
    """
    if isinstance(listen, str):
        listen = await open_socket(listen, setting)
    host, number = listen.getsockname()[:2]
    place = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    scheme = "https" if tls else "http"
    port = _Port(listen, limits or Limits(), setting)

    async def connected(tcp: trio.SocketStream) -> None:
        try:
            stream = tcp if tls is None else await port.encrypted(tcp, tls.current())
            await _Exchange(stream, port, app, upgrade).serve(
                {
                    "type": "http",
                    # Sending to a client that is gone raises an OSError.
                    "asgi": {"version": "3.0", "spec_version": "2.4"},
                    "scheme": scheme,
                    "root_path": "",
                    "client": tcp.socket.getpeername()[:2],
                    "server": tcp.socket.getsockname()[:2],
                }
            )
        except OSError:
            # The client is lost, which isn't worth a line in the log.
            pass
        except Exception:  # noqa: BLE001 - a bug ends one connection, not the port
            _log.exception("port.application_failed")
        finally:
            # trio would close it too, but only after the slot is free.
            tcp.socket.close()
            port.free_slot()

    async with port, trio.open_nursery() as connections:
        _log.info("port.listening", url=f"{scheme}://{place}", setting=setting)
        task_status.started(number)
        try:
            await trio.serve_listeners(connected, [port], handler_nursery=connections)
        finally:
            port.end_requests()


class _Port(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts as many connections as there are slots."""

    def __init__(self, listen: socket.socket, limits: Limits, setting: str) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listen))
        self.limits = limits
        self._setting = setting
        self._taken = 0
        self._freed = trio.lowlevel.ParkingLot()
        # Since when each wait for a client lasts.
        self._waits: dict[trio.CancelScope, float] = {}
        # Requests in progress, and the end of their grace once serving ends.
        self._requests: set[trio.CancelScope] = set()
        self._ends_at = math.inf

    async def accept(self) -> trio.SocketStream:
        """
        Wait for a client, then for a slot; the others stay in the backlog.

        While all slots are taken, the client that has waited longest is disconnected;
        never one whose request the application works on.
        """
        await trio.lowlevel.wait_readable(self._listener.socket)
        patience, most = self.limits.crowded_seconds, self.limits.max_connections
        while self._taken >= most:
            now = trio.current_time()
            until = now + patience
            longest = min(self._waits, key=self._waits.__getitem__, default=None)
            if longest is not None and self._waits[longest] + patience <= now:
                # It leaves at once, unless the application has something to clear up.
                del self._waits[longest]
                longest.cancel()
                _log.warning(
                    "port.crowded", setting=self._setting, max_connections=most
                )
            elif longest is not None:
                until = self._waits[longest] + patience
            with trio.move_on_at(until):
                await self._freed.park()
        stream = await self._listener.accept()
        self._taken += 1
        return stream

    def free_slot(self) -> None:
        """Let another client in: a connection has ended."""
        self._taken -= 1
        self._freed.unpark()

    async def aclose(self) -> None:
        """Close the listener."""
        await self._listener.aclose()

    async def encrypted(
        self, tcp: trio.SocketStream, tls: ssl.SSLContext
    ) -> trio.SSLStream[trio.SocketStream]:
        """Return the stream of a client, with the TLS handshake done."""
        # https_compatible: many clients end without TLS's close notification.
        stream = trio.SSLStream(tcp, tls, server_side=True, https_compatible=True)
        with self.waiting(trio.current_time()):
            await stream.do_handshake()
        return stream

    @contextmanager
    def waiting(self, since: float) -> Iterator[None]:
        """Wait for a client, within the block, for a phase that began at a moment."""
        deadline = since + self.limits.phase_seconds
        with trio.CancelScope(deadline=deadline) as scope:
            self._waits[scope] = since
            try:
                yield
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise _LostError from error
            finally:
                self._waits.pop(scope, None)
        if scope.cancelled_caught:
            raise _LostError(408)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work on a request: the end of serving leaves it its grace."""
        with trio.CancelScope(shield=True, deadline=self._ends_at) as request:
            self._requests.add(request)
            try:
                yield
            finally:
                self._requests.discard(request)

    def end_requests(self) -> None:
        """Let the grace of requests in progress begin."""
        self._ends_at = trio.current_time() + _GRACE_SECONDS
        for request in self._requests:
            request.deadline = self._ends_at


class _Exchange:
    """One request and its answer, as h11 parses them and ASGI has them."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        port: _Port,
        app: ASGIApp,
        upgrade: Upgrade | None,
    ) -> None:
        self._stream = stream
        self._port = port
        self._app = app
        self._upgrade = upgrade
        self._http = h11.Connection(
            h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES
        )
        # When the head or the body began.
        self._since = trio.current_time()
        self._has_body, self._is_head = True, False
        self._body_size = self._chunks = 0
        # An answer's head is sent with the first piece of its body.
        self._head = b""
        # Set once it has ended: answered, or the client lost.
        self._over = trio.Event()
        self._lost: _LostError | None = None

    async def serve(self, scope: Scope) -> None:
        """Receive the request, let the application answer it, and end."""
        http = self._http
        try:
            request = await self._request()
            if request is None:
                return
            self._since = trio.current_time()
            path, _, query = request.target.partition(b"?")
            scope.update(
                http_version=request.http_version.decode(),
                method=request.method.decode().upper(),
                path=unquote(path.decode()),
                raw_path=path,
                query_string=query,
                headers=list(request.headers),
            )
            fields = [(name, value.lower()) for name, value in request.headers]
            if self._upgrade is not None and _WEBSOCKET in fields:
                http.next_event()  # the end of the request
                await self._upgrade(scope, self._stream, http.trailing_data[0])
                return
            with self._port.working():
                await self._answer(scope)
        except _LostError as lost:
            await self._refuse(lost.status)
        if http.our_state in {h11.MUST_CLOSE, h11.CLOSED}:
            await self._linger()

    async def _request(self) -> h11.Request | None:
        """Wait for the request's head; None if the client has ended the connection."""
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        if {name for name, _ in event.headers} >= _FRAMINGS:
            raise _LostError(400)
        return event

    async def _answer(self, scope: Scope) -> None:
        """Let the application answer the request."""
        self._is_head = scope["method"] == "HEAD"
        try:
            await self._app(scope, self._receive, self._send)
        # A bug ends one request, not the bridge; the end of the grace may come with it.
        except* Exception as found:  # noqa: BLE001 - as above
            if self._lost is None:
                error = found.exceptions[0] if len(found.exceptions) == 1 else found
                _log.error("port.application_failed", exc_info=error)
        await self._refuse(500 if self._lost is None else self._lost.status)

    # -- ASGI --------------------------------------------------------------------------

    async def _receive(self) -> Message:
        """Give the application more of the body, or report the end of the exchange."""
        if self._has_body and not self._over.is_set():
            try:
                return await self._body()
            except _LostError as lost:
                self._lose(lost)
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _body(self) -> Message:
        """Wait for more of the body."""
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._write(self._http.send(go_on) or b"")
        event, data = await self._event(), b""
        if isinstance(event, h11.Data):
            data = bytes(event.data)
            self._body_size += len(data)
            self._chunks += event.chunk_start
            is_too_large = self._body_size > self._port.limits.max_body_bytes
            if is_too_large or self._chunks > _MAX_CHUNKS:
                raise _LostError(413)
        else:
            self._has_body = False
        return {"type": "http.request", "body": data, "more_body": self._has_body}

    async def _send(self, message: Message) -> None:
        """Send the application's answer, piece by piece."""
        if self._over.is_set():
            raise _LostError
        if message["type"] == "http.response.start":
            self._has_body = False
            self._head = self._response(message["status"], message.get("headers", []))
            return
        has_more = message.get("more_body", False)
        data = b"" if self._is_head else bytes(message.get("body", b""))
        made, self._head = self._head, b""
        if data:
            made += self._http.send(h11.Data(data=data)) or b""
        if not has_more:
            made += self._http.send(h11.EndOfMessage()) or b""
        try:
            await self._write(made)
        except _LostError:
            # No other answer can follow.
            self._lose(_LostError())
            raise
        if not has_more:
            self._over.set()

    def _lose(self, lost: _LostError) -> None:
        self._lost = lost
        self._over.set()

    # -- The client --------------------------------------------------------------------

    def _response(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Begin the answer: its head; the connection ends behind it."""
        fields = list(headers)
        if not any(name.lower() == b"date" for name, _ in fields):
            fields.append((b"date", formatdate(usegmt=True).encode()))
        fields.append((b"connection", b"close"))
        head = h11.Response(status_code=status, headers=fields)
        return self._http.send(head) or b""

    async def _refuse(self, status: int | None) -> None:
        """Answer a request with a bare status, if no answer has begun."""
        http = self._http
        # Before its head a client has asked for nothing: it gets no answer.
        has_asked = http.their_state is not h11.IDLE
        if status is not None and has_asked and http.our_state in _UNANSWERED:
            head = self._response(status, [(b"content-length", b"0")])
            await self._write(head + (http.send(h11.EndOfMessage()) or b""))

    async def _linger(self) -> None:
        """End the connection so that the client can still read the answer."""
        left = _LINGER_BYTES
        with (
            trio.move_on_after(_LINGER_SECONDS),
            self._port.waiting(trio.current_time()),
        ):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            while left > 0:
                data = await self._stream.receive_some(_READ_BYTES)
                if not data:
                    break
                left -= len(data)
            await self._stream.aclose()

    async def _event(self) -> object:
        """Wait for the head, or for more of the body."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                with self._port.waiting(self._since):
                    data = await self._stream.receive_some(_READ_BYTES)
                self._http.receive_data(bytes(data))
        except h11.RemoteProtocolError as error:
            raise _LostError(error.error_status_hint) from error
        return event

    async def _write(self, data: bytes) -> None:
        if data:
            with self._port.waiting(trio.current_time()):
                await self._stream.send_all(data)
