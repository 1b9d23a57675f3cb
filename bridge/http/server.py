"""
HTTP/1.1 server for the bridge's own ports: health, webhooks, board and sandbox.

`serve` runs an ASGI application on a port. Every wait for a client has a deadline, and
when all connection slots are taken, the client that has kept the port waiting longest
is disconnected. There is no HTTP/2; an upgrade goes to the caller's handler, if any.

A library's server won't do, because a port may be open to the internet: hypercorn has
no deadline for a body or for a client that doesn't read, and no limit of connections.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
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

# How much may follow a head of the largest size: little.
_HEAD_READ_BYTES: Final = 8 * 1024
_BODY_READ_BYTES: Final = 64 * 1024

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
_CLOSE: Final = (b"connection", b"close")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What a port allows its clients. The application's own time is not limited here.

    Attributes:
        max_connections: How many are open at once; further ones wait in the backlog.
            Each takes a descriptor, and 20 KB of memory with TLS.
        crowded_seconds: While all slots are taken and a client waits for one, the one
            that has kept the port waiting longest is disconnected after this time; a
            connection that is idle after an answer at once. A second is enough for a
            handshake and a request.
        handshake_seconds: For the TLS handshake: some round trips, two packets lost.
        head_seconds: Until a request's head is received, from the connection's start
            or the end of the last answer; also how long an idle connection stays.
        body_seconds: From the head until the whole body is received.
        answer_seconds: Until the client has accepted a piece of an answer. Only answers
            without an end (`text/event-stream`) have more than one.
        max_head_bytes: Size of a request's head.
        max_body_bytes: Size of a request's body; applications have smaller limits.
        max_requests: Requests on one connection, so that other clients get a turn.
    """

    max_connections: int = 100
    crowded_seconds: float = 1.0
    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    answer_seconds: float = 10.0
    max_head_bytes: int = 16 * 1024
    max_body_bytes: int = 16 * 1024 * 1024
    max_requests: int = 100


class _LostError(OSError):
    """
    A client has disconnected, took too long, or sent too much.

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
    port = _Port(app, limits or Limits(), setting, tls, upgrade)
    async with trio.SocketListener(trio.socket.from_stdlib_socket(listen)) as bound:
        place = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
        url = f"https://{place}" if tls else f"http://{place}"
        _log.info("port.listening", url=url, setting=setting)
        task_status.started(number)
        await port.serve(bound)


class _Port(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts as many connections as have a slot; it runs them."""

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        setting: str,
        tls: ReloadingContext | None,
        upgrade: Upgrade | None,
    ) -> None:
        self.app, self.limits, self.upgrade = app, limits, upgrade
        self._setting = setting
        self._tls = tls
        self._taken = 0
        self._freed = trio.Event()
        # From when on each wait for a client may be ended while others need its slot.
        self._waits: dict[trio.CancelScope, float] = {}
        # Requests in progress, and the end of their grace once serving ends.
        self._requests: set[trio.CancelScope] = set()
        self._ends_at = math.inf
        self.keeps_connections = True

    async def serve(self, listener: trio.SocketListener) -> None:
        """Serve until cancelled."""
        self._listener = listener
        async with trio.open_nursery() as connections:
            try:
                await trio.serve_listeners(
                    self._connected, [self], handler_nursery=connections
                )
            finally:
                self.keeps_connections = False
                self._ends_at = trio.current_time() + _GRACE_SECONDS
                for request in self._requests:
                    request.deadline = self._ends_at

    async def accept(self) -> trio.SocketStream:
        """
        Wait for a client, then for a slot; the others stay in the backlog.

        While all slots are taken, the client that has waited longest is disconnected;
        never one whose request the application works on.
        """
        await trio.lowlevel.wait_readable(self._listener.socket)
        pause, now = self.limits.crowded_seconds, trio.current_time
        while self._taken >= self.limits.max_connections:
            # While others wait for a slot, no client keeps its own by cheap requests.
            self.keeps_connections = False
            longest = min(self._waits, key=self._waits.__getitem__, default=None)
            until = math.inf if longest is None else self._waits[longest]
            with trio.move_on_at(min(until, now() + pause)):
                await self._freed.wait()
                continue
            if longest is None or self._waits.get(longest, math.inf) > now():
                continue
            del self._waits[longest]
            longest.cancel()
            most = self.limits.max_connections
            _log.warning("port.crowded", setting=self._setting, max_connections=most)
            # It leaves at once, unless the application has something to clear up.
            with trio.move_on_after(pause):
                await self._freed.wait()
        self.keeps_connections = True
        stream = await self._listener.accept()
        self._taken += 1
        return stream

    async def aclose(self) -> None:
        """Close the listener."""
        await self._listener.aclose()

    @contextmanager
    def waiting(
        self, seconds: float, since: float, *, is_idle: bool = False
    ) -> Iterator[None]:
        """Wait for a client, within the block, for so long since a moment."""
        patience = 0.0 if is_idle else self.limits.crowded_seconds
        with trio.CancelScope(deadline=since + seconds) as scope:
            self._waits[scope] = since + patience
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

    async def _connected(self, tcp: trio.SocketStream) -> None:
        try:
            scope = {
                "type": "http",
                # Sending to a client that is gone raises an OSError.
                "asgi": {"version": "3.0", "spec_version": "2.4"},
                "scheme": "https" if self._tls else "http",
                "root_path": "",
                "client": tcp.socket.getpeername()[:2],
                "server": tcp.socket.getsockname()[:2],
            }
            await _Connection(await self._encrypted(tcp), self, scope).serve()
        except OSError:
            # The client is lost, which isn't worth a line in the log.
            pass
        except Exception:  # noqa: BLE001 - a bug ends one connection, not the port
            _log.exception("port.application_failed")
        finally:
            # trio would close it too, but only after the slot is free.
            tcp.socket.close()
            self._taken -= 1
            self._freed.set()
            self._freed = trio.Event()

    async def _encrypted(self, tcp: trio.SocketStream) -> trio.abc.Stream:
        if self._tls is None:
            return tcp
        # https_compatible: many clients end without TLS's close notification.
        stream = trio.SSLStream(
            tcp, self._tls.current(), server_side=True, https_compatible=True
        )
        with self.waiting(self.limits.handshake_seconds, trio.current_time()):
            await stream.do_handshake()
        return stream


class _Connection:
    """
    One client's connection: request after request, parsed by h11.

    A request and its answer, as ASGI has them, are an exchange; `_start` begins one.
    """

    def __init__(self, stream: trio.abc.Stream, port: _Port, scope: Scope) -> None:
        self._stream = stream
        self._port = port
        self._scope = scope
        self._requests = 0
        size = port.limits.max_head_bytes
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=size)

    async def serve(self) -> None:
        """Serve requests until the connection ends."""
        http = self._http
        while True:
            try:
                request = await self._next_request()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
                break
            if request is None:
                return
            scope = self._start(request)
            fields = [(name, value.lower()) for name, value in request.headers]
            if self._port.upgrade is not None and _WEBSOCKET in fields:
                http.next_event()  # the end of the request
                await self._port.upgrade(scope, self._stream, http.trailing_data[0])
                return
            with self._port.working():
                await self._exchange(scope)
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                break
            http.start_next_cycle()
        if http.our_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}:
            await self._linger()

    async def _next_request(self) -> h11.Request | None:
        """Wait for a request's head; None if the client has ended the connection."""
        self._since = trio.current_time()
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                if {name for name, _ in event.headers} >= _FRAMINGS:
                    raise h11.RemoteProtocolError("both framings")
                return event
            if event is not h11.NEED_DATA:
                return None
            is_idle = self._requests > 0 and not self._http.trailing_data[0]
            seconds = self._port.limits.head_seconds
            await self._read(_HEAD_READ_BYTES, seconds, is_idle=is_idle)

    def _start(self, request: h11.Request) -> Scope:
        """Start an exchange."""
        self._requests += 1
        # Set once the exchange has ended: answered, or the client lost.
        self._over = trio.Event()
        self._lost: _LostError | None = None
        self._since = trio.current_time()
        self._has_body = True
        self._body_size = self._chunks = 0
        self._is_bodiless = request.method == b"HEAD"
        # An answer's head is sent with the first piece of its body.
        self._head = b""
        path, _, query = request.target.partition(b"?")
        return {
            **self._scope,
            "http_version": request.http_version.decode(),
            "method": request.method.decode().upper(),
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "headers": list(request.headers),
        }

    async def _exchange(self, scope: Scope) -> None:
        """Let the application answer a request."""
        try:
            await self._port.app(scope, self._receive, self._send)
        # A bug ends one request, not the bridge; the end of the grace may come with it.
        except* Exception as found:  # noqa: BLE001 - as above
            if self._lost is None:
                error = found.exceptions[0] if len(found.exceptions) == 1 else found
                _log.error("port.application_failed", exc_info=error)
        status = 500 if self._lost is None else self._lost.status
        if status is not None:
            await self._refuse(status)

    # -- ASGI --------------------------------------------------------------------------

    async def _receive(self) -> Message:
        """Give the application more of the body, or report the end of the exchange."""
        if self._has_body and not self._over.is_set():
            try:
                data, more = await self._body()
            except h11.RemoteProtocolError as error:
                self._lose(_LostError(error.error_status_hint))
            except _LostError as error:
                self._lose(error)
            else:
                self._has_body = more
                return {"type": "http.request", "body": data, "more_body": more}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """Send the application's answer, piece by piece."""
        if self._over.is_set():
            raise _LostError
        if message["type"] == "http.response.start":
            self._start_answer(message["status"], list(message.get("headers", [])))
            return
        has_more = message.get("more_body", False)
        data = b"" if self._is_bodiless else bytes(message.get("body", b""))
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

    def _start_answer(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self._http.their_state is h11.SEND_BODY:
            # An unread body that is here already doesn't end the connection; what is
            # wrong with it isn't worth an answer of its own.
            with suppress(h11.RemoteProtocolError, _LostError):
                self._parsed_body()
        self._has_body = False
        self._is_bodiless |= status in {204, 304}
        if not any(name.lower() == b"date" for name, _ in headers):
            headers.append(_date())
        is_kept = self._port.keeps_connections and self._http.their_state is h11.DONE
        if not is_kept or self._requests >= self._port.limits.max_requests:
            headers.append(_CLOSE)
        head = h11.Response(status_code=status, headers=headers)
        self._head = self._http.send(head) or b""

    def _lose(self, lost: _LostError) -> None:
        self._lost = lost
        self._over.set()

    # -- The client --------------------------------------------------------------------

    async def _body(self) -> tuple[bytes, bool]:
        """Wait for more of the body; return it, and whether there is more."""
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._write(self._http.send(go_on) or b"")
        while True:
            found, has_ended = self._parsed_body()
            if found or has_ended:
                return found, not has_ended
            await self._read(_BODY_READ_BYTES, self._port.limits.body_seconds)

    def _parsed_body(self) -> tuple[bytes, bool]:
        """Return what has been read of the body, and whether that is its end."""
        pieces: list[bytes] = []
        while True:
            event = self._http.next_event()
            if not isinstance(event, h11.Data):
                return b"".join(pieces), isinstance(event, h11.EndOfMessage)
            pieces.append(event.data)
            self._body_size += len(event.data)
            self._chunks += event.chunk_start
            is_too_large = self._body_size > self._port.limits.max_body_bytes
            if is_too_large or self._chunks > _MAX_CHUNKS:
                raise _LostError(413)

    async def _refuse(self, status: int) -> None:
        """Answer with a bare status, if no answer has begun; the connection ends."""
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            headers = [(b"content-length", b"0"), _date(), _CLOSE]
            head = h11.Response(status_code=status, headers=headers)
            made = self._http.send(head) or b""
            await self._write(made + (self._http.send(h11.EndOfMessage()) or b""))

    async def _linger(self) -> None:
        """End the connection so that the client can still read the answer."""
        left = _LINGER_BYTES
        with self._port.waiting(_LINGER_SECONDS, trio.current_time()):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            while left > 0:
                data = await self._stream.receive_some(_BODY_READ_BYTES)
                if not data:
                    break
                left -= len(data)
            await self._stream.aclose()

    async def _read(self, size: int, seconds: float, *, is_idle: bool = False) -> None:
        """Read more of a head or of a body, within its time."""
        with self._port.waiting(seconds, self._since, is_idle=is_idle):
            data = await self._stream.receive_some(size)
        self._http.receive_data(bytes(data))

    async def _write(self, data: bytes) -> None:
        if data:
            seconds = self._port.limits.answer_seconds
            with self._port.waiting(seconds, trio.current_time()):
                await self._stream.send_all(data)


def _date() -> tuple[bytes, bytes]:
    return b"date", formatdate(usegmt=True).encode()
