"""
Opens a port and serves an application on it, over HTTP/1.1.

What is answered belongs to the application; this module knows how a connection begins,
which request comes after which, and how serving ends.

It is no library's server, since the port may stand on the open internet: of those that
run on trio hypercorn has no deadline for a body or for a client that doesn't read, no
limit to connections, and speaks HTTP/2 to whoever asks for it, whatever ALPN says.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import h11
import structlog
import trio
from starlette.applications import Starlette

from bridge.serving.address import open_socket
from bridge.serving.connection import Connection, GoneError
from bridge.serving.descriptors import places_for
from bridge.serving.exchange import Ends, Exchange
from bridge.serving.grace import Grace
from bridge.serving.limits import Limits
from bridge.serving.places import Door, Places, TooLateError
from bridge.serving.tls import Certificate, Tls


__all__ = ["serve"]

_log = structlog.get_logger("bridge.serving")

_Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


async def serve(  # noqa: PLR0913 - each is one independent choice of the caller
    app: Starlette,
    listen: str,
    *,
    setting: str = "operations.listen",
    tls: Tls | None = None,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve an application until cancelled; start it with `nursery.start`.

    The listening socket closes first when it is cancelled; requests under way
    have a second to end. The trio loop serves: while the loop stalls, nothing
    is answered.

    Args:
        app: The ASGI application. Its own waits need deadlines of their own.
        listen: `host:port`, with IPv6 `[::1]:8080`. Port 0 takes a free one. A
            name is resolved once, its IPv4 address preferred.
        setting: The setting that `listen` came from, for errors.
        tls: Where the certificate lies; None where TLS ends before the port.
        limits: What clients may take; None for the defaults.
        task_status: Is told the port once clients can connect.

    Raises:
        ListenError: The address makes no sense or can't be opened.
        ConfigError: The files of `tls` can't be used.
    """
    certificate = None if tls is None else Certificate(tls)
    listening = await open_socket(listen, setting)
    limits = limits or Limits()
    places = places_for(limits.max_connections, setting)
    limits = replace(limits, max_connections=places)
    port = _Port(app, limits, Places(limits, setting), certificate)
    host, number = listening.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    address = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    async with listener:
        _log.info("port.listening", url=f"{scheme}://{address}", setting=setting)
        # The socket listens already: whoever connects now waits in the backlog.
        task_status.started(number)
        await port.serve(listener)


class _Port:
    """
    An open port.

    Args:
        app: What answers.
        limits: What clients may take.
        places: How many of them there are.
        certificate: What TLS ends with, or None.
    """

    def __init__(
        self,
        app: Starlette,
        limits: Limits,
        places: Places,
        certificate: Certificate | None,
    ) -> None:
        self._app = app
        self._limits = limits
        self._certificate = certificate
        self._places = places
        self._grace = Grace()

    async def serve(self, listener: trio.SocketListener) -> None:
        """Serve until cancelled."""
        door = Door(listener, self._places)
        async with trio.open_nursery() as connections:
            try:
                await trio.serve_listeners(
                    self._connected, [door], handler_nursery=connections
                )
            finally:
                self._grace.begin()

    async def _connected(self, transport: trio.SocketStream) -> None:
        try:
            await self._converse(transport)
        except (TooLateError, GoneError):
            # That is how bad clients end, and nothing to tell of each.
            pass
        finally:
            # trio would, but after the place is given away.
            transport.socket.close()
            self._places.leave()

    async def _converse(self, transport: trio.SocketStream) -> None:
        ends = _ends(transport, is_tls=self._certificate is not None)
        stream = await self._shaken_hands(transport)
        connection = Connection(stream, self._places, self._limits)
        while not self._grace.has_begun:
            try:
                request = await connection.next_request()
            except h11.RemoteProtocolError as error:
                await connection.refuse(error.error_status_hint)
                break
            if request is None:
                return
            with self._grace.under_way():
                await self._answer(
                    connection, Exchange(connection, request, ends, self._grace)
                )
            if not connection.is_kept:
                break
        if connection.has_answered:
            await connection.end()

    async def _shaken_hands(self, transport: trio.SocketStream) -> _Stream:
        if self._certificate is None:
            return transport
        stream = trio.SSLStream(
            transport,
            self._certificate.context(),
            server_side=True,
            # Many clients end without a goodbye, as browsers do.
            https_compatible=True,
        )
        seconds = self._limits.handshake_seconds
        with self._places.waiting(seconds, since=trio.current_time()):
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                raise GoneError from error
        return stream

    async def _answer(self, connection: Connection, exchange: Exchange) -> None:
        try:
            await self._app(exchange.scope(), exchange.receive, exchange.send)
        # A bug ends one request, not the bridge; the end of the grace may come with it.
        except* Exception as found:  # noqa: BLE001 - as above
            if not exchange.is_lost:
                alone = len(found.exceptions) == 1
                error = found.exceptions[0] if alone else found
                _log.error("port.application_failed", exc_info=error)
        if exchange.refusal is not None:
            await connection.refuse(exchange.refusal)
            if exchange.refusal is HTTPStatus.REQUEST_TIMEOUT:
                # Nor is it waited for until it has read that.
                raise TooLateError
        elif not exchange.is_over:
            await connection.refuse(HTTPStatus.INTERNAL_SERVER_ERROR)


def _ends(transport: trio.SocketStream, *, is_tls: bool) -> Ends:
    try:
        client, server = transport.socket.getpeername(), transport.socket.getsockname()
    except OSError as error:
        raise GoneError from error
    return client[:2], server[:2], is_tls
