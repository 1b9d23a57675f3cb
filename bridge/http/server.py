"""
HTTP/1.1 server for the bridge's own ports: health, webhooks, board and sandbox.

`serve` runs an ASGI application on a port. Every wait for a client has a deadline, and
when all connection slots are taken, the client that has kept the port waiting longest
is disconnected. There is no HTTP/2; an upgrade goes to the caller's handler, if any.

A library's server won't do, because a port may be open to the internet: hypercorn has
no deadline for a body or for a client that doesn't read, and no limit of connections.
"""

from __future__ import annotations

import errno
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

from bridge.errors import ListenError
from bridge.http.tls import ReloadingContext
from bridge.settings import split_address


__all__ = ["Limits", "Upgrade", "open_socket", "serve"]

_log = structlog.get_logger("bridge.http")

Upgrade: TypeAlias = Callable[[Scope, trio.abc.Stream, bytes], Awaitable[None]]
"""Serves a WebSocket: the request, the connection, and bytes read after the request."""

# Clients without a slot wait here; the kernel's own limit (Linux: 4096) may reduce it.
_BACKLOG: Final = 1024

# Requests in progress have this long to end when serving ends.
_GRACE_SECONDS: Final = 1.0

# Crowding is logged once in this time, not for each disconnected client.
_LOG_SECONDS: Final = 60.0

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

# An answer of this type has no end: each of its pieces has the deadline of an answer.
_ENDLESS: Final = b"text/event-stream"

_BODILESS: Final = {204, 304}

_REASONS: Final = {
    errno.EADDRINUSE: "the port is in use by another process",
    errno.EACCES: "this user may not open a port below 1024",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What a port allows its clients. The application's own time is not limited here.

    Attributes:
        max_connections: How many are open at once; further ones wait in the backlog.
            Each takes a descriptor, and 20 KB of memory with TLS.
        crowded_seconds: While all slots are taken and a client waits for one, whoever
            has kept the port waiting for this long is disconnected, the longest first;
            a connection that is idle after an answer at once. A second: a handshake and
            a request over the worst of networks are done by then.
        handshake_seconds: For the TLS handshake: some round trips, two packets lost.
        head_seconds: Until a request's whole head is received, from the connection's
            start or the end of the last answer; also how long an idle connection stays.
        body_seconds: From the head until the whole body is received.
        answer_seconds: Until the client has accepted an answer, from its first byte. Of
            an answer without end (`text/event-stream`) each piece may take this long.
        max_head_bytes: Size of a request's head, as most servers and proxies limit it.
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


class _GoneError(OSError):
    """The client has disconnected."""


class _TooLateError(Exception):
    """A client took too long, or another one needed its slot: end the connection."""


class _TooLargeError(Exception):
    """A body is too large, or comes in too many chunks."""


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
        url = "https://" if tls else "http://"
        url += f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
        _log.info("port.listening", url=url, setting=setting)
        task_status.started(number)
        await port.serve(bound)


async def open_socket(listen: str, setting: str) -> socket.socket:
    """
    Bind and listen.

    Args:
        listen: `host:port`. A name is resolved once, its IPv4 address preferred.
        setting: The setting that `listen` came from, for errors.

    Raises:
        ListenError: The address isn't valid or can't be opened.
    """
    variable = "BRIDGE_" + setting.upper().replace(".", "_")
    try:
        host, port = split_address(listen)
        # getaddrinfo runs in a thread that can't be stopped; the resolver's own
        # timeout limits it, and addresses are mostly numbers.
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        host, port = str(address[0]), int(address[1])
        return socket.create_server(
            (host, port),
            family=family,
            backlog=_BACKLOG,
            # In a cluster with both families, "any address" means both.
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except ValueError as error:
        raise ListenError(
            f"{setting} ({variable}) is {listen!r}",
            hint="Expected is host:port, for example 127.0.0.1:8080 or [::1]:8080",
            listen=listen,
        ) from error
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
        raise ListenError(
            f"can't listen on {listen}: {reason}",
            hint=f"Set another address with {setting} ({variable})",
            listen=listen,
        ) from error


class _Port(trio.abc.Listener[trio.SocketStream]):
    """
    An open port: its connection slots, and the waits that may be ended for others.

    It is the listener that accepts only as many connections as have a slot.
    """

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
        self.is_crowded = False
        self._evicted, self._logged_at = 0, -math.inf
        # Requests in progress, and the end of their grace once serving ends.
        self._requests: set[trio.CancelScope] = set()
        self._ends_at = math.inf

    @property
    def is_ending(self) -> bool:
        """Whether serving ends, so that no connection is kept for another request."""
        return self._ends_at < math.inf

    async def serve(self, listener: trio.SocketListener) -> None:
        """Serve until cancelled."""
        self._listener = listener
        async with trio.open_nursery() as connections:
            try:
                await trio.serve_listeners(
                    self._connected, [self], handler_nursery=connections
                )
            finally:
                self._ends_at = trio.current_time() + _GRACE_SECONDS
                for request in self._requests:
                    request.deadline = self._ends_at

    async def accept(self) -> trio.SocketStream:
        """Wait for a client, then for a slot; the others stay in the backlog."""
        await trio.lowlevel.wait_readable(self._listener.socket)
        while self._taken >= self.limits.max_connections:
            self.is_crowded = True
            await self._free_a_slot()
        self.is_crowded = False
        stream = await self._listener.accept()
        self._taken += 1
        return stream

    async def aclose(self) -> None:
        """Close the listener."""
        await self._listener.aclose()

    async def _free_a_slot(self) -> None:
        """
        Wait until a client leaves, or disconnect the one that has waited longest.

        A connection whose request the application works on is never disconnected.
        """
        now, pause = trio.current_time(), self.limits.crowded_seconds
        longest = min(self._waits, key=self._waits.__getitem__, default=None)
        evict_at = now + pause if longest is None else self._waits[longest]
        with trio.move_on_at(min(evict_at, now + pause)):
            await self._freed.wait()
            return
        if longest is None or self._waits.get(longest, math.inf) > trio.current_time():
            return
        del self._waits[longest]
        longest.cancel()
        self._log_eviction()
        # It leaves at once, unless the application has something to clear up.
        with trio.move_on_after(pause):
            await self._freed.wait()

    def _log_eviction(self) -> None:
        self._evicted += 1
        now = trio.current_time()
        if now < self._logged_at + _LOG_SECONDS:
            return
        _log.warning(
            "port.crowded",
            setting=self._setting,
            max_connections=self.limits.max_connections,
            ended=self._evicted,
        )
        self._logged_at, self._evicted = now, 0

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
                raise _GoneError from error
            finally:
                self._waits.pop(scope, None)
        if scope.cancelled_caught:
            raise _TooLateError

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
            try:
                client, server = tcp.socket.getpeername(), tcp.socket.getsockname()
            except OSError:
                return
            scope = {
                "type": "http",
                # Sending to a client that is gone raises an OSError.
                "asgi": {"version": "3.0", "spec_version": "2.4"},
                "scheme": "https" if self._tls else "http",
                "root_path": "",
                "client": client[:2],
                "server": server[:2],
            }
            await _Connection(await self._encrypted(tcp), self, scope).serve()
        except (_TooLateError, _GoneError):
            # Clients end like this; none of them is worth a line in the log.
            pass
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
    """One client's connection: request after request, parsed by h11."""

    def __init__(self, stream: trio.abc.Stream, port: _Port, scope: Scope) -> None:
        self.port = port
        self.requests = 0
        self._stream = stream
        self._scope = scope
        self._body_size = self._chunks = 0
        size = port.limits.max_head_bytes
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=size)

    async def serve(self) -> None:
        """Serve requests until the connection ends."""
        http = self.http
        while not self.port.is_ending:
            try:
                request = await self._next_request()
            except h11.RemoteProtocolError as error:
                await self.refuse(error.error_status_hint)
                break
            if request is None:
                return
            scope = {**self._scope, **_request_scope(request)}
            if self.port.upgrade is not None and _is_websocket(request):
                http.next_event()  # the end of the request
                await self._hand_over(scope, self.port.upgrade)
                return
            with self.port.working():
                await self._answer(scope)
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                break
            http.start_next_cycle()
        if http.our_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}:
            await self._linger()

    async def _next_request(self) -> h11.Request | None:
        """Wait for a request's head; None if the client has ended the connection."""
        self._body_size = self._chunks = 0
        since = trio.current_time()
        is_idle = self.requests > 0
        while True:
            event = self.http.next_event()
            if isinstance(event, h11.Request):
                self.requests += 1
                if {name for name, _ in event.headers} >= _FRAMINGS:
                    raise h11.RemoteProtocolError("both framings")
                return event
            if event is not h11.NEED_DATA:
                return None
            is_idle = is_idle and not self.http.trailing_data[0]
            await self._read(
                _HEAD_READ_BYTES,
                self.port.limits.head_seconds,
                since,
                is_idle=is_idle,
            )

    async def _hand_over(self, scope: Scope, upgrade: Upgrade) -> None:
        try:
            await upgrade(scope, self._stream, self.http.trailing_data[0])
        except Exception:  # noqa: BLE001 - a bug ends one connection, not the port
            _log.exception("port.application_failed")

    async def _answer(self, scope: Scope) -> None:
        exchange = _Exchange(self, is_head=scope["method"] == "HEAD")
        try:
            await self.port.app(scope, exchange.receive, exchange.send)
        # A bug ends one request, not the bridge; the end of the grace may come with it.
        except* Exception as found:  # noqa: BLE001 - as above
            if not exchange.is_lost:
                alone = len(found.exceptions) == 1
                error = found.exceptions[0] if alone else found
                _log.error("port.application_failed", exc_info=error)
        if exchange.refusal is not None:
            await self.refuse(exchange.refusal)
            if exchange.refusal == 408:
                raise _TooLateError  # no more waiting for it
        elif not exchange.over.is_set():
            await self.refuse(500)

    async def body(self, since: float) -> tuple[bytes, bool]:
        """Wait for more of the body; give what there is, and whether there is more."""
        if self.http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self.write(self.http.send(go_on), since)
        while True:
            found, has_ended = self.parsed_body()
            if found or has_ended:
                return found, not has_ended
            await self._read(_BODY_READ_BYTES, self.port.limits.body_seconds, since)

    def parsed_body(self) -> tuple[bytes, bool]:
        """Give what has been read of the body, and whether that is its end."""
        pieces: list[bytes] = []
        while True:
            event = self.http.next_event()
            if not isinstance(event, h11.Data):
                return b"".join(pieces), isinstance(event, h11.EndOfMessage)
            pieces.append(event.data)
            self._body_size += len(event.data)
            self._chunks += event.chunk_start
            if self._chunks > _MAX_CHUNKS:
                raise _TooLargeError
            if self._body_size > self.port.limits.max_body_bytes:
                raise _TooLargeError

    def head(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        *,
        is_last: bool = False,
    ) -> bytes:
        """Make an answer's head; it says whether the connection is kept."""
        if not any(name.lower() == b"date" for name, _ in headers):
            headers = [*headers, (b"date", formatdate(usegmt=True).encode())]
        # While others wait for a slot, no client keeps its own by cheap requests.
        is_last |= self.port.is_ending or self.port.is_crowded
        is_last |= self.requests >= self.port.limits.max_requests
        if is_last or self.http.their_state is not h11.DONE:
            headers.append((b"connection", b"close"))
        return self.http.send(h11.Response(status_code=status, headers=headers)) or b""

    async def write(self, data: bytes | None, since: float) -> None:
        """Send bytes of an answer, whose time started at `since`."""
        if data:
            with self.port.waiting(self.port.limits.answer_seconds, since):
                await self._stream.send_all(data)

    async def refuse(self, status: int) -> None:
        """Answer with a bare status, if no answer has begun; the connection ends."""
        if self.http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        head = self.head(status, [(b"content-length", b"0")], is_last=True)
        end = self.http.send(h11.EndOfMessage()) or b""
        await self.write(head + end, trio.current_time())

    async def _linger(self) -> None:
        """End the connection so that the client can still read the answer."""
        left = _LINGER_BYTES
        with self.port.waiting(_LINGER_SECONDS, trio.current_time()):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            while left > 0:
                data = await self._stream.receive_some(_BODY_READ_BYTES)
                if not data:
                    break
                left -= len(data)
            await self._stream.aclose()

    async def _read(
        self, max_bytes: int, seconds: float, since: float, *, is_idle: bool = False
    ) -> None:
        with self.port.waiting(seconds, since, is_idle=is_idle):
            data = await self._stream.receive_some(max_bytes)
        self.http.receive_data(bytes(data))


class _Exchange:
    """
    One request and its answer, as ASGI has them.

    Attributes:
        over: Set once it has ended: answered, or lost.
        is_lost: Whether the client didn't send or accept its part.
        refusal: The status for a client that is lost, but there to read it.
    """

    def __init__(self, connection: _Connection, *, is_head: bool) -> None:
        self.over = trio.Event()
        self.is_lost = False
        self.refusal: int | None = None
        self._connection = connection
        self._body_since = trio.current_time()
        self._answer_since: float | None = None
        self._is_bodiless = is_head
        self._is_endless = False
        self._has_body = True
        # An answer's head is sent with the first piece of its body.
        self._head = b""

    async def receive(self) -> Message:
        """Give the application more of the body, or report the end of the exchange."""
        if self._has_body and not self.over.is_set():
            try:
                data, more = await self._connection.body(self._body_since)
            except h11.RemoteProtocolError as error:
                self._lose(error.error_status_hint)
            except _TooLargeError:
                self._lose(413)
            except _TooLateError:
                self._lose(408)
            except _GoneError:
                self._lose()
            else:
                self._has_body = more
                return {"type": "http.request", "body": data, "more_body": more}
        await self.over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send the application's answer, piece by piece."""
        if self.over.is_set():
            raise _GoneError
        if message["type"] == "http.response.start":
            self._start(message["status"], list(message.get("headers", [])))
            return
        has_more = message.get("more_body", False)
        data = b"" if self._is_bodiless else bytes(message.get("body", b""))
        http, made = self._connection.http, self._head
        self._head = b""
        if data:
            made += http.send(h11.Data(data=data)) or b""
        if not has_more:
            made += http.send(h11.EndOfMessage()) or b""
        since = self._answer_since
        if since is None or self._is_endless:
            since = trio.current_time()
        try:
            await self._connection.write(made, since)
        except (_GoneError, _TooLateError) as error:
            self._lose()
            raise _GoneError from error
        if not has_more:
            self.over.set()

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self._connection.http.their_state is h11.SEND_BODY:
            # An unread body that is here already doesn't end the connection; what is
            # wrong with it isn't worth an answer of its own.
            with suppress(h11.RemoteProtocolError, _TooLargeError):
                self._connection.parsed_body()
        self._has_body = False
        self._is_bodiless |= status in _BODILESS
        self._is_endless = any(
            name.lower() == b"content-type" and value.startswith(_ENDLESS)
            for name, value in headers
        )
        self._answer_since = trio.current_time()
        self._head = self._connection.head(status, headers)

    def _lose(self, refusal: int | None = None) -> None:
        self.is_lost, self.refusal = True, refusal
        self.over.set()


def _request_scope(request: h11.Request) -> Scope:
    path, _, query = request.target.partition(b"?")
    return {
        "http_version": request.http_version.decode(),
        "method": request.method.decode().upper(),
        "path": unquote(path.decode()),
        "raw_path": path,
        "query_string": query,
        "headers": list(request.headers),
    }


def _is_websocket(request: h11.Request) -> bool:
    return any(
        name == b"upgrade" and value.lower() == b"websocket"
        for name, value in request.headers
    )
