"""
Channel authorisation: the only module of this package that speaks to httpx.

It asks dryAPI to sign one socket id for one channel and says why it did not
get a signature. Whether and when to ask again is `attempt`'s business.

What stands in an answer's body is never repeated in an error: it may hold a
signature, and a login page helps nobody.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

import httpx  # noqa: TID251 - this is the module that may
import msgspec
import trio

from bridge import __version__
from bridge.errors import AuthorizationError, ConfigError
from bridge.http.headers import retry_after_seconds
from bridge.http.tls import ReloadingContext, untrusted
from bridge.settings import Secret


__all__ = ["Authorizer", "ChannelAuthorizer"]

# An answer has about 120 bytes. A login page in its place is not read to the end.
_MOST_BODY_BYTES: Final = 64 * 1024

# Longer than any wait of the session's own; a server that asks for hours is
# asked again before that.
_MOST_RETRY_AFTER_SECONDS: Final = 300.0


class ChannelAuthorizer(Protocol):
    """What the session needs: something that gets signatures."""

    async def authorize(self, socket_id: str, channel: str) -> str:
        """
        Get a signature.

        Args:
            socket_id: The connection's identity; a signature is for it alone.
            channel: The channel's name.

        Returns:
            `key:signature`, for `pusher:subscribe`.

        Raises:
            AuthorizationError: There is none; it says whether asking again helps.
        """
        ...


class Authorizer:
    """
    `POST {api}/broadcasting/auth` with a bearer token.

    Args:
        api_url: dryAPI's base URL.
        token: The API token, read again for each request.
        app_key: The key that the signature has to be for.
        timeout_seconds: The longest time of one request.
        tls: Says for each request whom to trust; the system's certificates if None.
        transport: Carries requests in place of the network, for tests.

    Raises:
        ConfigError: `api_url` is no HTTP address.
    """

    def __init__(  # noqa: PLR0913 - each is a setting or a seam of its own
        self,
        api_url: str,
        token: Secret,
        *,
        app_key: str,
        timeout_seconds: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        try:
            self._url = httpx.URL(f"{api_url.rstrip('/')}/broadcasting/auth")
        except httpx.InvalidURL as error:
            raise ConfigError(
                "api_url (BRIDGE_API_URL) must be an http:// or https:// URL"
            ) from error
        if self._url.scheme not in {"http", "https"} or not self._url.host:
            raise ConfigError(
                "api_url (BRIDGE_API_URL) must be an http:// or https:// URL"
            )
        port = f":{self._url.port}" if self._url.port else ""
        # For messages: without the user and password that a URL may carry.
        self._place = f"{self._url.scheme}://{self._url.host}{port}{self._url.path}"
        self._token = token
        self._app_key = app_key
        self._timeout_seconds = timeout_seconds
        self._tls = tls or ReloadingContext(None).current
        self._transport = transport

    async def authorize(self, socket_id: str, channel: str) -> str:
        """Get a signature, as `ChannelAuthorizer` says."""
        token = self._token.reveal()
        try:
            return await self._ask(token, socket_id, channel)
        except AuthorizationError as error:
            # 401: a token that was exchanged meanwhile deserves a try of its own.
            renewed = self._token.reveal()
            if error.status != 401 or renewed == token:
                raise
        return await self._ask(renewed, socket_id, channel)

    async def _ask(self, token: str, socket_id: str, channel: str) -> str:
        if not token.isascii() or not token.isprintable() or token != token.strip():
            # Caught here because libraries repeat the header in their errors.
            raise AuthorizationError(
                "the API token (BRIDGE_API_TOKEN, or the account's api_token_file) has"
                " characters that no HTTP header can carry",
                terminal=True,
            )
        try:
            with trio.fail_after(self._timeout_seconds):
                response, body = await self._post(token, socket_id, channel)
        except trio.TooSlowError as error:
            raise AuthorizationError(
                f"{self._place} gave no answer within {self._timeout_seconds:g} s"
            ) from error
        except httpx.HTTPError as error:
            place = f"{self._url.host}:{self._url.port or 443}"
            reason = untrusted(place, error) or str(error) or type(error).__name__
            raise AuthorizationError(f"can't ask {self._place}: {reason}") from error
        return self._signature(response, body)

    async def _post(
        self, token: str, socket_id: str, channel: str
    ) -> tuple[httpx.Response, bytes]:
        # One client for one request: requests are rare, and nothing stays open.
        # trust_env off: a proxy or .netrc of the environment must not meet the
        # token, and the WebSocket couldn't go through the proxy either.
        async with (
            httpx.AsyncClient(
                verify=self._tls(),
                transport=self._transport,
                timeout=None,  # noqa: S113 - the caller's cancel scope is the timeout
                trust_env=False,
                follow_redirects=False,
            ) as client,
            client.stream(
                "POST",
                self._url,
                json={"socket_id": socket_id, "channel_name": channel},
                headers={
                    "Authorization": f"Bearer {token}",
                    # Without it Laravel answers with a redirect to a login page.
                    "Accept": "application/json",
                    # What is compressed could be far larger than what is counted.
                    "Accept-Encoding": "identity",
                    "User-Agent": f"dryapi-kafka-bridge/{__version__}",
                },
            ) as response,
        ):
            body = bytearray()
            # Cancelled, not broken out of: httpx nests generators, and those that
            # are left half-way are not closed.
            with trio.CancelScope() as reading:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _MOST_BODY_BYTES:
                        reading.cancel()
            return response, bytes(body)

    def _signature(self, response: httpx.Response, body: bytes) -> str:
        status = response.status_code
        if status == 401:
            raise AuthorizationError(
                "dryAPI refused the API token (HTTP 401): check BRIDGE_API_TOKEN, or"
                " the account's api_token_file in [[accounts]]",
                status=status,
                terminal=True,
            )
        if status == 403:
            raise AuthorizationError(
                "dryAPI refused the channel (HTTP 403): check BRIDGE_CLIENT_ID and"
                " that the API token (BRIDGE_API_TOKEN) belongs to it, or client_id"
                " and api_token_file of the account in [[accounts]]",
                status=status,
                terminal=True,
            )
        if status != 200:
            raise self._unusable(
                response,
                "is a redirect, which is not followed"
                if response.has_redirect_location
                else "is no authorisation",
            )
        if len(body) > _MOST_BODY_BYTES:
            raise self._unusable(response, f"has more than {_MOST_BODY_BYTES} bytes")
        try:
            answer = msgspec.json.decode(body)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            # Without the cause, which may quote the body.
            raise self._unusable(response, "is not JSON") from None
        auth = answer.get("auth") if isinstance(answer, dict) else None
        if not isinstance(auth, str):
            raise self._unusable(response, "has no string 'auth'")
        key, _, signature = auth.partition(":")
        if key != self._app_key or not signature:
            raise self._unusable(
                response,
                "is signed for another app than pusher.app_key"
                " (BRIDGE_PUSHER_APP_KEY) names",
            )
        return auth

    def _unusable(self, response: httpx.Response, why: str) -> AuthorizationError:
        kind = response.headers.get("content-type", "no content type")
        kind = "".join(c for c in kind[:80] if c.isprintable())
        return AuthorizationError(
            f"the answer of {self._place} (HTTP {response.status_code}, {kind}) {why}",
            status=response.status_code,
            retry_after_seconds=_retry_after(response.headers.get("retry-after")),
        )


def _retry_after(value: str | None) -> float | None:
    """Read how long the endpoint wants to be left alone."""
    seconds = None if value is None else retry_after_seconds(value, datetime.now(UTC))
    return None if seconds is None else min(seconds, _MOST_RETRY_AFTER_SECONDS)
