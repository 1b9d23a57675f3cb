"""
The connection to a server, in steps: its name, TCP, TLS.

Each step opens a connection of its own and closes it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from bridge.check.step import Step, Steps
from bridge.errors import ConnectError
from bridge.http.streams import open_stream


__all__ = ["add_server", "describe_certificate", "shake_hands"]

# A certificate that has to be renewed this week is worth a warning today.
_SOON_DAYS: Final = 7


def add_server(
    steps: Steps, prefix: str, address: str, setting: str, **options: Any
) -> Step[None]:
    """
    Add the steps to a server's port, and give the last one.

    Args:
        steps: The list.
        prefix: The first part of the steps' names.
        address: `host:port`.
        setting: The setting with the address, and its variable.
        options: Those of the steps.
    """
    parts = urlsplit(f"//{address}")
    host = parts.hostname or ""
    hint = f"See that {setting} names the right host, and that this machine's DNS knows"

    @steps.step(f"{prefix}.dns", address, f"{hint} it", **options)
    async def dns(step: Step[None]) -> None:
        try:
            found = await trio.socket.getaddrinfo(
                host, parts.port, type=socket.SOCK_STREAM
            )
        except socket.gaierror as error:
            raise ConnectError(f"can't resolve {host!r}: {error.strerror}") from error
        except UnicodeError as error:
            raise ConnectError(f"{host!r} isn't a host name") from error
        step.detail = ", ".join(dict.fromkeys(str(one[4][0]) for one in found))

    hint = (
        f"See that the server listens there, that {setting} names its host and port,"
        " and that no firewall or network policy is between"
    )

    @steps.step(f"{prefix}.tcp", address, hint, **{**options, "needs": [dns]})
    async def tcp(step: Step[None]) -> None:
        stream = await open_stream(urlsplit(f"http://{address}"))
        await trio.aclose_forcefully(stream)
        step.detail = "connected"

    return tcp


async def shake_hands(tls: Callable[[], ssl.SSLContext], step: Step[Any]) -> None:
    """
    Open TLS to the address that is a step's subject, and describe it.

    Raises:
        ConnectError: There is no TLS; without a hint unless it is the certificate.
    """
    stream = await open_stream(urlsplit(f"https://{step.subject}"), tls())
    assert isinstance(stream, trio.SSLStream)
    version, certificate = stream.version(), stream.getpeercert()
    await trio.aclose_forcefully(stream)
    describe_certificate(version, certificate, "Renew it on the server", step)


def describe_certificate(
    what: str, certificate: Any, hint: str, step: Step[Any]
) -> None:
    """Note for how many days a certificate is valid, and warn of an early end."""
    ends = ssl.cert_time_to_seconds(certificate["notAfter"])
    days = max(int((ends - datetime.now(UTC).timestamp()) // 86_400), 0)
    step.detail = f"{what}, certificate for {days} d"
    if days < _SOON_DAYS:
        step.warn(f"the certificate ends in {days} d", hint)
