"""What a request to dryAPI needs: the address, and the headers with a token."""

from __future__ import annotations

from typing import Final

import httpx  # noqa: TID251 - this is a module that may

from bridge import __version__
from bridge.errors import ConfigError


__all__ = ["NOT_A_HEADER", "api_address", "api_headers", "fits_a_header"]

NOT_A_HEADER: Final = (
    "the API token (BRIDGE_API_TOKEN, or the account's api_token_file) has characters"
    " that no HTTP header can carry"
)


def api_address(api_url: str, path: str) -> httpx.URL:
    """
    Build the address of one of dryAPI's endpoints.

    Raises:
        ConfigError: `api_url` isn't an HTTP address.
    """
    wrong = "api_url (BRIDGE_API_URL) must be an http:// or https:// URL"
    try:
        url = httpx.URL(f"{api_url.rstrip('/')}/{path}")
    except httpx.InvalidURL as error:
        raise ConfigError(wrong) from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(wrong)
    return url


def fits_a_header(token: str) -> bool:
    """Check a token before a library does, which would repeat it in its error."""
    return token.isascii() and token.isprintable() and token == token.strip()


def api_headers(token: str) -> dict[str, str]:
    """Return the headers of a request."""
    return {
        "Authorization": f"Bearer {token}",
        # Without it Laravel answers with a redirect to a login page.
        "Accept": "application/json",
        # A compressed body could be far larger than what is counted.
        "Accept-Encoding": "identity",
        "User-Agent": f"dryapi-kafka-bridge/{__version__}",
    }
