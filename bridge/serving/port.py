"""
Opens a port and serves an application on it.

In the service the only importer of hypercorn. What is answered belongs to the
application; this module knows addresses, sockets and how serving ends.
"""

from __future__ import annotations

import errno
import logging
import socket
from typing import Final, cast

import hypercorn.trio
import structlog
import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette

from bridge.errors import ListenError
from bridge.serving.limits import Limits
from bridge.serving.tls import Tls


__all__ = ["serve"]

_log = structlog.get_logger("bridge.serving")

# Probes and scrapers are few.
_BACKLOG = 128

# An answer takes milliseconds; a client that needs longer is not waited for.
_GRACE_SECONDS = 1.0

# hypercorn shields the writing of an answer against cancellation: a client that
# stopped reading would hold up the end of the process for ever. The kernel
# gives it up after this time without progress (Linux; RFC 5482).
_STUCK_CLIENT_MILLISECONDS: Final = 5_000

_REASONS = {
    errno.EADDRINUSE: "the port is in use by another process",
    errno.EACCES: "this user may not open a port below 1024",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


async def serve(  # noqa: PLR0913 - each is one independent choice of the caller
    app: Starlette,
    listen: str,
    *,
    setting: str = "operations.listen",
    tls: Tls | None = None,  # noqa: ARG001 - the port's next step
    limits: Limits | None = None,  # noqa: ARG001 - likewise
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve an application until cancelled; start it with `nursery.start`.

    The listening socket closes first when it is cancelled; requests under way
    have a second to end. The trio loop serves: while the loop stalls, nothing
    is answered.

    Args:
        app: The ASGI application.
        listen: `host:port`, with IPv6 `[::1]:8080`. Port 0 takes a free one. A
            name is resolved once, its IPv4 address preferred.
        setting: The setting that `listen` came from, for errors.
        tls: Where the certificate lies; None where TLS ends before the port.
        limits: What clients may take; None for the defaults.
        task_status: Is told the port once clients can connect.

    Raises:
        ListenError: The address makes no sense or can't be opened.
    """
    listener = await _open(listen, setting)
    host, port = listener.getsockname()[:2]
    config = _config(listener)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        # The socket listens already: whoever connects before hypercorn accepts
        # waits in the backlog.
        nursery.start_soon(_serve_shielded, app, config, stop)
        try:
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            _log.info("port.listening", url=url, setting=setting)
            task_status.started(port)
            await trio.sleep_forever()
        finally:
            stop.set()


async def _serve_shielded(app: Starlette, config: Config, stop: trio.Event) -> None:
    """Let hypercorn end by its own rules and deadlines once `stop` is set."""
    with trio.CancelScope(shield=True):
        await hypercorn.trio.serve(
            # Both speak ASGI, each with types of its own.
            cast("ASGIFramework", app),
            config,
            shutdown_trigger=stop.wait,
            mode="asgi",
        )


def _config(listener: socket.socket) -> Config:
    config = Config()
    # hypercorn owns the descriptor from here on.
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = _GRACE_SECONDS
    config.shutdown_timeout = _GRACE_SECONDS
    config.include_server_header = False
    config.accesslog = None
    # Its level is set by `logs`: a failing application is logged, no more.
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


async def _open(listen: str, setting: str) -> socket.socket:
    """Bind and listen, or say in one sentence why not and where it was set."""
    variable = "BRIDGE_" + setting.upper().replace(".", "_")
    try:
        host, port = _parse(listen)
        # getaddrinfo runs in a thread that can't be stopped; the resolver's own
        # timeout bounds it, and addresses are mostly numbers.
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        host, port = str(address[0]), int(address[1])
        listener = socket.create_server(
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
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Connections inherit it from the listener.
        listener.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STUCK_CLIENT_MILLISECONDS
        )
    return listener


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
