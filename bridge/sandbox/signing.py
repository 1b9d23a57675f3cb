"""
The signatures that a Pusher server and dryAPI check.

Pure functions over bytes and text. Who is asked for a signature, and what a
wrong one is answered with, stands in `pusher_api` and `dryapi`; what webhooks
say in `webhooks`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

import msgspec


__all__ = ["App", "Call", "equal", "webhook_signature"]

# Pusher's HTTP API refuses a request whose timestamp is further away than this.
_TIMESTAMP_WINDOW_SECONDS = 600.0


def equal(given: str, expected: str) -> bool:
    """Compare in constant time, whatever characters `given` holds."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def webhook_signature(secret: str, timestamp: str, body: bytes) -> str:
    """
    Sign one try of a webhook.

    Args:
        secret: The account's webhook secret, `whsec_` and all.
        timestamp: The header's text; it is signed with the body.
        body: The raw body, byte for byte.

    Returns:
        The signature header's value.
    """
    message = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


class Call(msgspec.Struct, frozen=True):
    """
    One call of the Pusher server's HTTP API.

    Attributes:
        method: `GET` or `POST`.
        path: The path without query.
        query: The parameters, decoded.
        body: The body as it goes over the wire; empty for none.
    """

    method: str
    path: str
    query: Mapping[str, str] = {}
    body: bytes = b""

    @property
    def body_md5(self) -> str:
        """The body's checksum, as the parameter `body_md5` holds it."""
        return hashlib.md5(self.body, usedforsecurity=False).hexdigest()


class App:
    """A Pusher app's key and secret: signs, and checks what others signed."""

    def __init__(self, key: str, secret: str) -> None:
        self._key = key
        self._secret = secret.encode()

    def _hex(self, message: str) -> str:
        return hmac.new(self._secret, message.encode(), hashlib.sha256).hexdigest()

    def channel_auth(self, socket_id: str, channel: str) -> str:
        """
        Sign one socket's subscription to one private channel.

        Returns:
            `key:hex`, the `auth` of `pusher:subscribe`.
        """
        return f"{self._key}:{self._hex(f'{socket_id}:{channel}')}"

    def call_signature(self, call: Call) -> str:
        """Sign a call by all its parameters but `auth_signature` itself."""
        items = sorted(
            (name.lower(), value)
            for name, value in call.query.items()
            if name != "auth_signature"
        )
        joined = "&".join(f"{name}={value}" for name, value in items)
        return self._hex(f"{call.method}\n{call.path}\n{joined}")

    def signed_query(self, call: Call, now: float) -> dict[str, str]:
        """
        Build the query that Pusher's server libraries send.

        Args:
            call: The call, without query.
            now: Seconds since the epoch.

        Returns:
            The parameters, `auth_signature` among them.
        """
        query = {
            "auth_key": self._key,
            "auth_timestamp": str(int(now)),
            "auth_version": "1.0",
        }
        if call.body:
            query["body_md5"] = call.body_md5
        signed = Call(call.method, call.path, query, call.body)
        return query | {"auth_signature": self.call_signature(signed)}

    def why_refused(self, call: Call, now: float) -> str | None:
        """
        Check a signed call as a Pusher server does.

        Args:
            call: The call as it came.
            now: Seconds since the epoch.

        Returns:
            None if all is well, else what is wrong.
        """
        query = call.query
        age = _age_seconds(query.get("auth_timestamp", ""), now)
        checks_body = bool(call.body) or "body_md5" in query
        fault = None
        if query.get("auth_key") != self._key:
            fault = "The auth_key is unknown."
        elif query.get("auth_version") != "1.0":
            fault = "The auth_version must be 1.0."
        elif age is None:
            fault = "The auth_timestamp must be in Unix seconds."
        elif abs(age) > _TIMESTAMP_WINDOW_SECONDS:
            fault = "The auth_timestamp is more than 600 s away."
        elif checks_body and not equal(query.get("body_md5", ""), call.body_md5):
            fault = "The body_md5 does not match the body."
        elif not equal(query.get("auth_signature", ""), self.call_signature(call)):
            fault = "The auth_signature does not match."
        return fault

    def result_signature(self, path: str, expires: int) -> str:
        """
        Sign a result's address.

        Args:
            path: The address's path.
            expires: Until when it is good, seconds since the epoch.

        Returns:
            The value of its `signature` parameter.
        """
        return self._hex(f"{path}?expires={expires}")


def _age_seconds(timestamp: str, now: float) -> float | None:
    # Fifteen digits are more than enough for Unix seconds.
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        return None
    return now - int(timestamp)
