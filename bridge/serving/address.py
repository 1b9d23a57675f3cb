"""
From `host:port` to a socket that listens.

What can go wrong is said in one sentence that names the setting.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

import trio

from bridge.errors import ListenError


__all__ = ["open_socket"]

# Whoever finds no place waits here; the kernel's own limit (Linux: 4096) may cut it.
_BACKLOG: Final = 1024

_REASONS: Final = {
    errno.EADDRINUSE: "the port is in use by another process",
    errno.EACCES: "this user may not open a port below 1024",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


async def open_socket(listen: str, setting: str) -> socket.socket:
    """
    Bind and listen.

    Args:
        listen: `host:port`, with IPv6 `[::1]:8080`. Port 0 takes a free one. A name is
            resolved once, its IPv4 address preferred.
        setting: The setting that `listen` came from.

    Raises:
        ListenError: The address makes no sense or can't be opened.
    """
    variable = "BRIDGE_" + setting.upper().replace(".", "_")
    try:
        host, port = _parse(listen)
        # getaddrinfo runs in a thread that can't be stopped; the resolver's own
        # timeout bounds it, and addresses are mostly numbers.
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
            f"{setting} ({variable}) is {listen!r}; expected host:port, "
            "for example 127.0.0.1:8080 or [::1]:8080",
            listen=listen,
        ) from error
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
        raise ListenError(
            f"can't listen on {listen}: {reason}; "
            f"set another address with {setting} ({variable})",
            listen=listen,
        ) from error


def _parse(listen: str) -> tuple[str, int]:
    """Split `host:port`; raises ValueError for anything else."""
    host, colon, digits = listen.rpartition(":")
    if not colon or not host or not digits.isascii() or not digits.isdigit():
        raise ValueError(listen)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(listen)
    port = int(digits)
    if port > 65535:
        raise ValueError(listen)
    return host, port
