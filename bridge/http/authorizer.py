"""
Channel authorization: one request for the signature of a socket id and a channel.

When to ask again is decided by the session. No error repeats any part of a response's
body: it may hold a signature.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import httpx  # noqa: TID251 - this is the module that may
import msgspec
import trio

from bridge.errors import AuthorizationError
from bridge.http.dryapi import NOT_A_HEADER, api_address, api_headers, fits_a_header
from bridge.http.headers import retry_after_seconds
from bridge.http.tls import ReloadingContext, untrusted
from bridge.http.transport import BoundedTransport, read_body
from bridge.settings import Secret


__all__ = ["Authorizer"]

# A response has about 120 bytes. A login page in its place is not read to the end.
_MOST_BODY_BYTES: Final = 64 * 1024

# Longer than any wait of the session's own; a longer Retry-After is cut to it.
_MOST_RETRY_AFTER_SECONDS: Final = 300.0

_APP_KEY: Final = "pusher.app_key (BRIDGE_PUSHER_APP_KEY)"
_REFUSALS: Final = {
    401: "dryAPI refused the API token (HTTP 401): check BRIDGE_API_TOKEN, or the"
    " account's api_token_file in [[accounts]]",
    403: "dryAPI refused the channel (HTTP 403): check BRIDGE_CLIENT_ID and that the"
    " API token (BRIDGE_API_TOKEN) belongs to it, or client_id and api_token_file of"
    " the account in [[accounts]]",
}


class _Signed(msgspec.Struct):
    auth: str


class Authorizer:
    """
    `POST {api}/broadcasting/auth` with a bearer token.

    Args:
        api_url: dryAPI's base URL.
        token: The API token, read again for each request.
        app_key: The key that the signature must be for.
        timeout_seconds: The longest time of one request.
        tls: Returns the TLS context for a request; the system's certificates if None.
        transport: Replaces the network, for tests.

    Raises:
        ConfigError: `api_url` isn't an HTTP address.
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
        self._url = api_address(api_url, "broadcasting/auth")
        # For messages: without the user and password that a URL may carry.
        self._place = str(self._url.copy_with(username=None, password=None))
        self._token = token
        self._app_key = app_key
        self._timeout_seconds = timeout_seconds
        self._tls = tls or ReloadingContext(None).current
        self._transport = transport

    async def authorize(self, socket_id: str, channel: str) -> str:
        """
        Get a signature.

        Args:
            socket_id: The connection's identity; the signature is valid only for it.
            channel: The channel's name.

        Returns:
            `key:signature`, for `pusher:subscribe`.

        Raises:
            AuthorizationError: There is none; `terminal` says whether to ask again.
        """
        request = {"socket_id": socket_id, "channel_name": channel}
        token = self._token.reveal()
        try:
            return await self._request(token, request)
        except AuthorizationError as error:
            # The token may have been replaced in the meantime.
            renewed = self._token.reveal()
            if error.status != 401 or renewed == token:
                raise
        return await self._request(renewed, request)

    async def _request(self, token: str, request: dict[str, str]) -> str:
        if not fits_a_header(token):
            raise AuthorizationError(NOT_A_HEADER, terminal=True)
        try:
            with trio.fail_after(self._timeout_seconds):
                return await self._post(token, request)
        except trio.TooSlowError as error:
            raise AuthorizationError(
                f"{self._place} gave no answer within {self._timeout_seconds:g} s"
            ) from error
        except httpx.HTTPError as error:
            place = f"{self._url.host}:{self._url.port or 443}"
            reason = untrusted(place, error) or str(error) or type(error).__name__
            raise AuthorizationError(f"can't ask {self._place}: {reason}") from error

    async def _post(self, token: str, request: dict[str, str]) -> str:
        # One client for one request: requests are rare, and nothing stays open.
        # trust_env off: the environment's proxy or .netrc must not get the token, and
        # the WebSocket couldn't go through the proxy either.
        headers = api_headers(token)
        async with (
            httpx.AsyncClient(
                transport=self._transport or BoundedTransport(self._tls()),
                timeout=None,  # noqa: S113 - the caller's cancel scope is the timeout
                trust_env=False,
            ) as client,
            client.stream("POST", self._url, json=request, headers=headers) as response,
        ):
            body = await read_body(response, _MOST_BODY_BYTES)
        return self._signature(response, body)

    def _signature(self, response: httpx.Response, body: bytes | None) -> str:
        status = response.status_code
        if status in _REFUSALS:
            raise AuthorizationError(_REFUSALS[status], status=status, terminal=True)
        if response.has_redirect_location:
            problem = "is a redirect, which is not followed"
        elif status != 200:
            problem = "is no authorization"
        elif body is None:
            problem = f"has more than {_MOST_BODY_BYTES} bytes, or too many chunks"
        else:
            try:
                auth = msgspec.json.decode(body, type=_Signed).auth
            except msgspec.ValidationError:
                problem = "has no string 'auth'"
            except (msgspec.MsgspecError, RecursionError, ValueError):
                problem = "is not JSON"
            else:
                key, _, signature = auth.partition(":")
                if key == self._app_key and signature:
                    return auth
                problem = f"is signed for another app than {_APP_KEY} names"
        headers = response.headers
        kind = headers.get("content-type", "no content type")[:80]
        kind = "".join(c for c in kind if c.isprintable())
        wait = retry_after_seconds(headers.get("retry-after", ""), datetime.now(UTC))
        raise AuthorizationError(
            f"the answer of {self._place} (HTTP {status}, {kind}) {problem}",
            status=status,
            retry_after_seconds=wait and min(wait, _MOST_RETRY_AFTER_SECONDS),
        )
