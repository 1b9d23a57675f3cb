"""
The connection to a server, in steps: its name, TCP, TLS.

Each step opens a connection of its own and closes it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from bridge.check.step import Step
from bridge.errors import ConnectError, ExitCode
from bridge.http.streams import open_stream


__all__ = ["days_left", "reach_steps", "shake_hands", "warn_of_end"]

# A certificate that has to be renewed this week is worth a warning today.
_SOON_DAYS: Final = 7

# Of a name with many addresses the first ones are enough.
_MAX_ADDRESSES: Final = 3


def reach_steps(
    prefix: str,
    address: str,
    setting: str,
    *,
    needs: Sequence[Step[Any]] = (),
    exit_code: ExitCode = ExitCode.FAILED,
) -> list[Step[Any]]:
    """
    Give the steps to a server's port.

    Args:
        prefix: The first part of the steps' names.
        address: `host:port`.
        setting: The setting with the address, and its variable.
        needs: The steps before.
        exit_code: What the bridge would exit with.
    """
    dns = Step(
        f"{prefix}.dns",
        address,
        partial(_resolve, address),
        f"See that {setting} names the right host, and that this machine's DNS knows"
        " it",
        needs=needs,
        exit_code=exit_code,
    )
    tcp = Step(
        f"{prefix}.tcp",
        address,
        partial(_connect, address),
        f"See that the server listens there, that {setting} names its host and port,"
        " and that no firewall or network policy is between",
        needs=[dns],
        exit_code=exit_code,
    )
    return [dns, tcp]


async def _resolve(address: str, step: Step[None]) -> None:
    parts = urlsplit(f"//{address}")
    host = parts.hostname or ""
    try:
        answers = await trio.socket.getaddrinfo(
            host, parts.port, type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        raise ConnectError(f"can't resolve {host!r}: {error.strerror}") from error
    except UnicodeError as error:
        raise ConnectError(f"{host!r} isn't a host name") from error
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    more = len(addresses) - _MAX_ADDRESSES
    rest = f" and {more} more" if more > 0 else ""
    step.detail = f"{', '.join(addresses[:_MAX_ADDRESSES])}{rest}"


async def _connect(address: str, step: Step[None]) -> None:
    stream = await open_stream(urlsplit(f"http://{address}"))
    await trio.aclose_forcefully(stream)
    step.detail = "connected"


async def shake_hands(
    address: str, tls: Callable[[], ssl.SSLContext], step: Step[Any]
) -> None:
    """
    Open TLS to a server, and describe it: a step's function.

    Args:
        address: `host:port`.
        tls: Returns the TLS context.
        step: The step.

    Raises:
        ConnectError: There is no TLS; without a hint unless it is the certificate.
    """
    stream = await open_stream(urlsplit(f"https://{address}"), tls())
    assert isinstance(stream, trio.SSLStream)
    version, days = stream.version(), days_left(stream.getpeercert())
    await trio.aclose_forcefully(stream)
    step.detail = version if days is None else f"{version}, certificate for {days} d"
    warn_of_end(days, "Renew it on the server", step)


def days_left(certificate: object) -> int | None:
    """Count the days for which a certificate is still valid; None without one."""
    ends = certificate.get("notAfter") if isinstance(certificate, dict) else None
    if not isinstance(ends, str):
        return None
    seconds = ssl.cert_time_to_seconds(ends) - datetime.now(UTC).timestamp()
    return max(int(seconds // 86_400), 0)


def warn_of_end(days: int | None, hint: str, step: Step[Any]) -> None:
    """Warn of a certificate that ends this week."""
    if days is not None and days < _SOON_DAYS:
        step.warn(f"the certificate ends in {days} d", hint)
