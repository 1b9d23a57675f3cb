"""
The byte stream under the WebSocket: name, TCP and TLS.

Errors of the system, trio and ssl become `ConnectError` here, with a sentence
that says what was wrong with which host and port. Nothing is sent here.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeAlias
from urllib.parse import SplitResult

import trio

from bridge.errors import ConnectError
from bridge.http.tls import untrusted
from bridge.pusher.pace import PacedStream


__all__ = ["OpenStream", "open_transport", "place_of"]

OpenStream: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]


async def open_transport(
    parts: SplitResult, tls: ssl.SSLContext | None, open_stream: OpenStream
) -> trio.abc.Stream:
    """
    Open the byte stream to a server: name, TCP and, for `wss`, TLS.

    Args:
        parts: The address, `ws` or `wss`.
        tls: Whom to trust; the system's certificates if None.
        open_stream: Opens TCP to a host and a port.

    Returns:
        The stream, with the TLS handshake done.

    Raises:
        ConnectError: There is none; the message says why.
    """
    host = parts.hostname or ""
    port = _port(parts)
    place = place_of(parts)
    try:
        transport = PacedStream(await open_stream(host, port))
    except socket.gaierror as error:
        raise ConnectError(f"can't resolve {host!r}: {error.strerror}") from error
    except UnicodeError as error:
        raise ConnectError(f"{host!r} is no host name") from error
    except OSError as error:
        raise ConnectError(f"can't reach {place}: {_os_reason(error)}") from error
    if parts.scheme != "wss":
        return transport
    # https_compatible: few servers answer TLS's own close notification.
    stream = trio.SSLStream(
        transport,
        tls or ssl.create_default_context(),
        server_hostname=host,
        https_compatible=True,
    )
    async with AsyncExitStack() as undo:
        undo.push_async_callback(trio.aclose_forcefully, stream)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            raise ConnectError(_tls_reason(place, error.__cause__)) from error
        undo.pop_all()
    return stream


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "wss" else 80)


def place_of(parts: SplitResult) -> str:
    """Give the address as `host:port`, as messages name it."""
    host = parts.hostname or ""
    return f"[{host}]:{_port(parts)}" if ":" in host else f"{host}:{_port(parts)}"


def _os_reason(error: OSError) -> str:
    """Find the sentence of the system: trio groups those of all addresses."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        # In an order that stays, each reason once.
        reasons = dict.fromkeys(
            _os_reason(each) for each in cause.exceptions if isinstance(each, OSError)
        )
        return ", ".join(reasons)
    # trio puts the address before the system's words, and there are two or more.
    return os.strerror(error.errno) if error.errno else str(error)


def _tls_reason(place: str, cause: BaseException | None) -> str:
    if sentence := untrusted(place, cause):
        return sentence
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        return f"no TLS with {place}: {cause.reason or 'handshake failed'}"
    return f"{place} ended the connection during the TLS handshake"
