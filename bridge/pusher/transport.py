"""
The byte stream under the WebSocket: name, TCP and TLS, and whom to trust.

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

from bridge.errors import ConfigError, ConnectError
from bridge.pusher.pace import PacedStream


__all__ = [
    "OpenStream",
    "client_context",
    "open_transport",
    "place_of",
    "untrusted",
]

OpenStream: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """
    Make the context of a client that checks certificates and names.

    Args:
        ca_file: Certificates (PEM) to trust instead of the system's, or None.

    Returns:
        The context; it may be shared by any number of connections.

    Raises:
        ConfigError: The file can't be read or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        # SSLError is an OSError too: a file that is no PEM.
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"pusher.ca_file (BRIDGE_PUSHER_CA_FILE) can't be used: {reason}"
        ) from error


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


def untrusted(place: str, error: BaseException | None) -> str | None:
    """Say so if what failed is that a certificate isn't trusted."""
    cause = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return (
        f"the certificate of {place} was not accepted: {cause.verify_message}"
        " (a private authority goes into pusher.ca_file, BRIDGE_PUSHER_CA_FILE)"
    )


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
