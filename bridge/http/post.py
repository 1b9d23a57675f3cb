"""
One POST with a body of limited size, for the Schema Registry and for token endpoints.

Kafka's thread runs asyncio and `bridge check` trio: httpx and anyio work in both.
Redirects aren't followed, and nothing is compressed. The proxies of the environment and
.netrc aren't used: a proxy must not receive a password.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping

import anyio
import httpx  # noqa: TID251 - this module may

from bridge import __version__


__all__ = ["NoResponseError", "basic_credentials", "post"]


class NoResponseError(Exception):
    """
    There is no response: `str()` says why, as the end of a sentence about the server.

    Attributes:
        certificate: Why the server's certificate isn't trusted; None if that isn't
            the reason.
    """

    def __init__(self, reason: str, certificate: str | None = None) -> None:
        super().__init__(reason)
        self.certificate = certificate


def basic_credentials(username: str, password: str) -> str:
    """Return the value after `Basic` in the header `Authorization`."""
    return base64.b64encode(f"{username}:{password}".encode()).decode()


async def post(  # noqa: PLR0913 - each is one independent fact
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    tls: ssl.SSLContext,
    timeout_seconds: float,
    max_bytes: int,
) -> tuple[int, bytes]:
    """
    Send a request over a connection of its own, and receive the response.

    Args:
        url: The address.
        body: The request's body.
        headers: Its headers, besides those of every request.
        tls: Which certificates are trusted.
        timeout_seconds: The longest time for all of it.
        max_bytes: The rest of a longer response isn't read.

    Returns:
        The status, and the body or a part of it that is longer than `max_bytes`.

    Raises:
        NoResponseError: There is none.
    """
    received = bytearray()
    try:
        with anyio.fail_after(timeout_seconds):
            async with (
                httpx.AsyncClient(
                    verify=tls,
                    timeout=None,  # noqa: S113 - the scope above is the timeout
                    trust_env=False,
                    follow_redirects=False,
                ) as client,
                client.stream(
                    "POST",
                    url,
                    content=body,
                    headers={
                        # A compressed body could be far larger than what is counted.
                        "Accept-Encoding": "identity",
                        "User-Agent": f"dryapi-kafka-bridge/{__version__}",
                        **headers,
                    },
                ) as response,
            ):
                # Cancelled, not broken out of: httpx nests generators, and those that
                # are left half-way are not closed.
                with anyio.CancelScope() as reading:
                    async for chunk in response.aiter_raw():
                        received += chunk
                        if len(received) > max_bytes:
                            reading.cancel()
                return response.status_code, bytes(received)
    except TimeoutError as error:
        raise NoResponseError(f"gave no answer within {timeout_seconds:g} s") from error
    except httpx.HTTPError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                reason = cause.verify_message.rstrip(".")
                raise NoResponseError("has an untrusted certificate", reason) from error
            cause = cause.__cause__ or cause.__context__
        reason = str(error) or type(error).__name__
        raise NoResponseError(f"can't be asked: {reason}") from error
