"""
The way to a server, a step at a time: its name, TCP, TLS.

Owns the words for what goes wrong there, whoever's server it is. What is said over the
connection belongs to whoever asked for it.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec
import trio

from bridge.doctor.branch import Found
from bridge.doctor.remedies import ProblemError
from bridge.errors import ExitCode


__all__ = [
    "SOON_DAYS",
    "Place",
    "connect",
    "days_left",
    "resolve",
    "secure",
    "unanswered_name",
]

# OpenSSL's X509_V_ERR_*: see its manual page of X509_STORE_CTX_get_error.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAMES: Final = frozenset({62, 64})

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
        setting: The setting with the address, and its variable.
        ca_setting: The setting with whom to trust there, and its variable.
        plainly: What to set for a server that speaks no TLS.
        exit_code: What the bridge exits with where it can't be reached.
    """

    host: str
    port: int
    setting: str
    ca_setting: str
    plainly: str
    exit_code: ExitCode = ExitCode.FAILED

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


async def resolve(place: Place, found: Found) -> None:
    """
    Look the host's name up.

    Raises:
        ProblemError: There is no such name.
    """
    try:
        answers = await trio.socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        raise ProblemError(
            f"can't resolve {place.host!r}: {error.strerror}",
            f"See that {place.setting} names the right host, and that this machine's"
            " DNS knows it",
            place.exit_code,
        ) from error
    except UnicodeError as error:
        raise ProblemError(
            f"{place.host!r} is no host name", f"Set {place.setting}", place.exit_code
        ) from error
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    more = len(addresses) - _MOST_ADDRESSES
    rest = f" and {more} more" if more > 0 else ""
    found.detail = f"{', '.join(addresses[:_MOST_ADDRESSES])}{rest}"


def unanswered_name(
    setting: str, exit_code: ExitCode = ExitCode.FAILED
) -> ProblemError:
    """Say that nobody tells where a host is, for a setting that names it."""
    return ProblemError(
        "DNS says nothing",
        f"See that this machine's DNS works, and that {setting} names the right host",
        exit_code,
    )


async def connect(place: Place, found: Found) -> trio.SocketStream:
    """
    Open TCP.

    Raises:
        ProblemError: Nothing takes the connection.
    """
    try:
        stream = await trio.open_tcp_stream(place.host, place.port)
    except OSError as error:
        raise ProblemError(
            f"can't connect: {', '.join(dict.fromkeys(_reasons(error)))}",
            f"See that the server listens there, that {place.setting} names its host"
            " and port, and that no firewall or network policy stands between",
            place.exit_code,
        ) from error
    found.detail = "connected"
    return stream


def _reasons(error: OSError) -> Iterator[str]:
    """Give the system's words: trio groups those of all addresses."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        for each in cause.exceptions:
            if isinstance(each, OSError):
                yield from _reasons(each)
    else:
        yield os.strerror(error.errno) if error.errno else str(error)


async def secure(
    stream: trio.SocketStream, place: Place, tls: ssl.SSLContext, found: Found
) -> trio.SSLStream[trio.SocketStream]:
    """
    Do the TLS handshake.

    Raises:
        ProblemError: It fails, or the certificate isn't one to trust.
    """
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
    reason = None
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        reason = cause.reason
    if reason in {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}:
        return ProblemError(
            f"speaks no TLS ({reason})",
            f"See that {place.setting} has the port for TLS; {place.plainly}",
            place.exit_code,
        )
    said = reason or "it ends the connection"
    return ProblemError(
        f"no TLS: {said}",
        f"See that {place.setting} has the port for TLS, and that nothing between"
        f" ends it; {place.plainly}",
        place.exit_code,
    )


def _untrusted(place: Place, cause: ssl.SSLCertVerificationError) -> ProblemError:
    said = cause.verify_message.rstrip(".")
    if cause.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        return ProblemError(
            f"the certificate is not good now: {said}",
            "Renew it on the server, and see that this machine's clock is right",
            place.exit_code,
        )
    if cause.verify_code in _OTHER_NAMES:
        return ProblemError(
            f"the certificate is for another name: {said}",
            f"Set {place.setting} to a name that stands in the certificate",
            place.exit_code,
        )
    return ProblemError(
        f"the certificate is of nobody that is trusted: {said}",
        f"Set {place.ca_setting} to the authority that issued it",
        place.exit_code,
    )


def days_left(certificate: object) -> int | None:
    """Tell for how many days a certificate is still good."""
    ends = certificate.get("notAfter") if isinstance(certificate, dict) else None
    if not isinstance(ends, str):
        return None
    seconds = ssl.cert_time_to_seconds(ends) - datetime.now(UTC).timestamp()
    return max(int(seconds // 86_400), 0)
