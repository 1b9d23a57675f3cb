"""
Sockets: byte streams to a server, with name, TCP and TLS, and listening ones.

Each failure of the system, trio or ssl becomes an error with a message of its own.
Nothing is sent here.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, TypeAlias
from urllib.parse import SplitResult

import trio

from bridge.errors import ConnectError, ListenError
from bridge.http.tls import certificate_fault
from bridge.settings import split_address


__all__ = ["OpenTcp", "address_of", "open_socket", "open_stream", "os_reason"]

# Clients without a slot wait here; the kernel's own limit (Linux: 4096) may reduce it.
_BACKLOG: Final = 1024

_REASONS: Final = {
    errno.EADDRINUSE: "the port is in use by another process",
    errno.EACCES: "this user may not open a port below 1024",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


_ADDRESSES: Final = "pusher.url (BRIDGE_PUSHER_URL) or api_url (BRIDGE_API_URL)"
_AUTHORITIES: Final = "pusher.ca_file (BRIDGE_PUSHER_CA_FILE)"

OpenTcp: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens TCP to a host and a port, as `trio.open_tcp_stream` does."""


async def open_stream(
    url: SplitResult,
    tls: ssl.SSLContext | None = None,
    open_tcp: OpenTcp = trio.open_tcp_stream,
) -> trio.abc.Stream:
    """
    Open the byte stream to a server: name, TCP and, for `wss` and `https`, TLS.

    Args:
        url: The address: `ws`, `wss`, `http` or `https`.
        tls: The TLS context; the system's certificates if None.
        open_tcp: Opens TCP to a host and a port.

    Returns:
        The stream, with the TLS handshake done.

    Raises:
        ConnectError: There is none; the message says why.
    """
    host, address = url.hostname or "", address_of(url)
    try:
        tcp = await open_tcp(host, _port(url))
    except socket.gaierror as error:
        raise ConnectError(f"can't resolve {host!r}: {error.strerror}") from error
    except UnicodeError as error:
        raise ConnectError(f"{host!r} isn't a host name") from error
    except OSError as error:
        raise ConnectError(f"can't reach {address}: {os_reason(error)}") from error
    if url.scheme not in {"wss", "https"}:
        return tcp
    # https_compatible: few servers answer TLS's own close notification.
    stream = trio.SSLStream(
        tcp,
        tls or ssl.create_default_context(),
        server_hostname=host,
        https_compatible=True,
    )
    async with AsyncExitStack() as undo:
        undo.push_async_callback(trio.aclose_forcefully, stream)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            raise _no_tls(address, error.__cause__) from error
        undo.pop_all()
    return stream


def address_of(url: SplitResult) -> str:
    """Give the address as `host:port`, as messages name it."""
    host = url.hostname or ""
    return f"[{host}]:{_port(url)}" if ":" in host else f"{host}:{_port(url)}"


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme in {"wss", "https"} else 80)


def os_reason(error: OSError) -> str:
    """Find the system's message: trio groups those of all addresses."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        # In a stable order, each reason once.
        reasons = dict.fromkeys(
            os_reason(each) for each in cause.exceptions if isinstance(each, OSError)
        )
        return ", ".join(reasons)
    # trio puts the address before the system's words, and there are two or more.
    return os.strerror(error.errno) if error.errno else str(error)


def _no_tls(address: str, cause: BaseException | None) -> ConnectError:
    if isinstance(cause, ssl.SSLCertVerificationError):
        fault, hint = certificate_fault(cause, _ADDRESSES, _AUTHORITIES)
        return ConnectError(f"the certificate of {address} {fault}", hint=hint)
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        reason = cause.reason or "handshake failed"
        return ConnectError(f"no TLS with {address}: {reason}")
    return ConnectError(f"{address} ended the connection during the TLS handshake")


# -- Listening -------------------------------------------------------------------------


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
