"""
Channel authorization: dryAPI signs a connection's subscription to a private channel.

No error repeats any part of a body: it may hold a signature.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from bridge.errors import AuthorizationError
from bridge.http.client import ApiClient, ApiError, TokenError, retry_after_seconds


__all__ = ["authorize"]

# A response has about 120 bytes. A login page in its place is not read to the end.
_MAX_AUTH_BYTES: Final = 64 * 1024

# Longer than any wait of the session's own; a longer Retry-After is cut to it.
_MAX_RETRY_AFTER_SECONDS: Final = 300.0

_REFUSALS: Final = {
    401: (
        "dryAPI refused the API token (HTTP 401)",
        "Check BRIDGE_API_TOKEN, or the account's api_token_file in [[accounts]]",
    ),
    403: (
        "dryAPI refused the channel (HTTP 403)",
        (
            "Check BRIDGE_CLIENT_ID and that the API token (BRIDGE_API_TOKEN) belongs"
            " to it, or client_id and api_token_file of the account in [[accounts]]"
        ),
    ),
}


class _Signed(msgspec.Struct):
    auth: str


async def authorize(
    client: ApiClient, app_key: str, socket_id: str, channel: str
) -> str:
    """
    Get a channel's signature from `POST {api}/broadcasting/auth`.

    Args:
        client: The client of the account.
        app_key: The key that the signature must be for.
        socket_id: The connection's identity; the signature is valid only for it.
        channel: The channel's name.

    Returns:
        `key:signature`, for `pusher:subscribe`.

    Raises:
        AuthorizationError: There is none; `terminal` says whether to ask again.
    """
    try:
        response = await client.request(
            "broadcasting/auth",
            max_bytes=_MAX_AUTH_BYTES,
            content={"socket_id": socket_id, "channel_name": channel},
        )
    except ApiError as error:
        is_final = isinstance(error, TokenError)
        raise AuthorizationError(str(error), terminal=is_final) from error
    status = response.status
    if status in _REFUSALS:
        message, hint = _REFUSALS[status]
        raise AuthorizationError(message, hint=hint, status=status, terminal=True)
    auth, problem = "", "is signed for another app than pusher.app_key"
    problem += " (BRIDGE_PUSHER_APP_KEY) names"
    if response.is_redirect:
        problem = "is a redirect, which is not followed"
    elif status != 200:
        problem = "isn't an authorization"
    elif response.body is None:
        problem = f"has more than {_MAX_AUTH_BYTES} bytes, or too many chunks"
    else:
        try:
            auth = msgspec.json.decode(response.body, type=_Signed).auth
        except msgspec.ValidationError:
            problem = "has no string 'auth'"
        except (msgspec.MsgspecError, RecursionError, ValueError):
            problem = "is not JSON"
    key, _, signature = auth.partition(":")
    if key == app_key and signature:
        return auth
    after = response.headers.get("retry-after", "")
    wait = retry_after_seconds(after, datetime.now(UTC))
    raise AuthorizationError(
        f"the answer of {response.place} (HTTP {status}, {response.content_type})"
        f" {problem}",
        status=status,
        retry_after_seconds=wait and min(wait, _MAX_RETRY_AFTER_SECONDS),
    )
