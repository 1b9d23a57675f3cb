"""
The way to a server, a step at a time: its name, TCP, TLS.

Owns the words for what goes wrong there, whoever's server it is. What is said over the
connection belongs to whoever asked for it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec
import trio

from bridge.doctor.branch import Branch, Found
from bridge.doctor.remedies import ProblemError
from bridge.errors import ExitCode
from bridge.http.streams import os_reason


__all__ = ["SOON_DAYS", "Place", "branch_to", "days_left", "reached"]

# OpenSSL's X509_V_ERR_*: see its manual page of X509_STORE_CTX_get_error.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAMES: Final = frozenset({62, 64})

# What a server's first bytes are called that aren't TLS.
_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}
)

# A certificate that is to be renewed this week is worth a word today.
SOON_DAYS: Final = 7

# Of a name with many addresses the first ones say enough.
_MOST_ADDRESSES: Final = 3


class Place(msgspec.Struct, frozen=True):
    """
    A server's address, and the settings that name it.

    Attributes:
        host: Its host.
        port: Its port.
        is_tls: Whether it is to speak TLS.
        setting: The setting with the address, and its variable.
        ca_setting: The setting with whom to trust there, and its variable.
        plainly: What to set for a server that speaks no TLS.
    """

    host: str
    port: int
    is_tls: bool
    setting: str
    ca_setting: str
    plainly: str

    @classmethod
    def of_url(cls, url: str, setting: str) -> Self:
        """Give the place of one of dryAPI's URLs, and the setting that has it."""
        parts = urlsplit(url)
        is_tls = parts.scheme in {"https", "wss"}
        return cls(
            parts.hostname or "",
            parts.port or (443 if is_tls else 80),
            is_tls,
            setting,
            "pusher.ca_file (BRIDGE_PUSHER_CA_FILE)",
            f"if it is meant to speak none, begin {setting} with"
            f" {'http' if parts.scheme.startswith('http') else 'ws'}://",
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def branch_to(  # noqa: PLR0913, PLR0917 - what a branch needs
    place: Place,
    prefix: str,
    steps: Sequence[str],
    end: float,
    remedy: str,
    exit_code: ExitCode = ExitCode.FAILED,
) -> Branch:
    """
    Give the branch to a server.

    Args:
        place: The server.
        prefix: What the steps of `reached` begin with.
        steps: The steps that follow them.
        end: When the check ends.
        remedy: What to do about a server that doesn't answer.
        exit_code: What the bridge would exit with.
    """
    dns, tcp, tls = (f"{prefix}.{step}" for step in ("dns", "tcp", "tls"))
    mute = ProblemError("it takes connections and says nothing", remedy)
    silence = dict.fromkeys((tls, *steps), mute)
    silence[dns] = ProblemError(
        "DNS says nothing",
        f"See that this machine's DNS works, and that {place.setting} names the right"
        " host",
    )
    silence[tcp] = ProblemError(
        "packets are lost on the way",
        "See that a firewall or network policy lets this machine out to"
        f" {place.setting}",
    )
    ways = [dns, tcp, tls] if place.is_tls else [dns, tcp]
    return Branch(str(place), [*ways, *steps], end, silence, exit_code)


@asynccontextmanager
async def reached(
    branch: Branch, prefix: str, place: Place, tls: Callable[[], ssl.SSLContext]
) -> AsyncIterator[trio.abc.Stream]:
    """Take the steps of name, TCP and TLS, and close the stream at the end."""
    async with AsyncExitStack() as stack:
        with branch.step(f"{prefix}.dns") as found:
            await _resolve(place, found)
        with branch.step(f"{prefix}.tcp") as found:
            tcp = await _connect(place)
            stack.push_async_callback(trio.aclose_forcefully, tcp)
            found.detail = "connected"
        stream: trio.abc.Stream = tcp
        if place.is_tls:
            with branch.step(f"{prefix}.tls") as found:
                stream = await _secure(tcp, place, tls(), found)
        yield stream


async def _resolve(place: Place, found: Found) -> None:
    try:
        answers = await trio.socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        raise ProblemError(
            f"can't resolve {place.host!r}: {error.strerror}",
            f"See that {place.setting} names the right host, and that this machine's"
            " DNS knows it",
        ) from error
    except UnicodeError as error:
        raise ProblemError(
            f"{place.host!r} is no host name", f"Set {place.setting}"
        ) from error
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    more = len(addresses) - _MOST_ADDRESSES
    rest = f" and {more} more" if more > 0 else ""
    found.detail = f"{', '.join(addresses[:_MOST_ADDRESSES])}{rest}"


async def _connect(place: Place) -> trio.SocketStream:
    try:
        return await trio.open_tcp_stream(place.host, place.port)
    except OSError as error:
        raise ProblemError(
            f"can't connect: {os_reason(error)}",
            f"See that the server listens there, that {place.setting} names its host"
            " and port, and that no firewall or network policy stands between",
        ) from error


async def _secure(
    stream: trio.SocketStream, place: Place, tls: ssl.SSLContext, found: Found
) -> trio.abc.Stream:
    secured = trio.SSLStream(
        stream, tls, server_hostname=place.host, https_compatible=True
    )
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        raise _refused(place, error.__cause__) from error
    version = secured.version()
    days = days_left(secured.getpeercert())
    found.detail = version if days is None else f"{version}, certificate for {days} d"
    if days is not None and days < SOON_DAYS:
        found.warn(
            f"the certificate of {place} ends in {days} d", "Renew it on the server"
        )
    return secured


def _refused(place: Place, cause: BaseException | None) -> ProblemError:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _untrusted(place, cause)
    reason = "it ends the connection"
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        reason = cause.reason or reason
    between = "" if reason in _NO_TLS else ", and that nothing between ends it"
    return ProblemError(
        f"no TLS: {reason}" if between else f"speaks no TLS ({reason})",
        f"See that {place.setting} has the port for TLS{between}; {place.plainly}",
    )


def _untrusted(place: Place, cause: ssl.SSLCertVerificationError) -> ProblemError:
    if cause.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        what = "is not good now"
        remedy = "Renew it on the server, and see that this machine's clock is right"
    elif cause.verify_code in _OTHER_NAMES:
        what = "is for another name"
        remedy = f"Set {place.setting} to a name that stands in the certificate"
    else:
        what = "is of nobody that is trusted"
        remedy = f"Set {place.ca_setting} to the authority that issued it"
    said = cause.verify_message.rstrip(".")
    return ProblemError(f"the certificate {what}: {said}", remedy)


def days_left(certificate: object) -> int | None:
    """Tell for how many days a certificate is still good."""
    ends = certificate.get("notAfter") if isinstance(certificate, dict) else None
    if not isinstance(ends, str):
        return None
    seconds = ssl.cert_time_to_seconds(ends) - datetime.now(UTC).timestamp()
    return max(int(seconds // 86_400), 0)
