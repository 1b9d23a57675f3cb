"""
Configuration and statistics of a sandbox, its errors, and everything it signs.

The options' names, ranges and help texts are in `bridge.cli.sandbox`.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from bridge.errors import BridgeError, ConfigError
from bridge.settings import split_address


__all__ = [
    "EVENT_NAME",
    "Addresses",
    "App",
    "Plan",
    "Prefix",
    "SandboxConfig",
    "SandboxError",
    "Statistics",
    "WebhookStatistics",
    "equal",
    "iso_time",
    "webhook_signature",
]

# The only event on a client's channel.
EVENT_NAME = "request.status.updated"

Plan = Literal["basic", "premium"]

# Between `X-` and the rest of a webhook's headers; deployments differ.
Prefix = Literal["DryAPI", "DeAPI"]


class SandboxError(BridgeError):
    """The sandbox can't run: print the message and exit."""


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one sandbox does; `bridge sandbox --help` describes each option.

    Raises:
        ConfigError: A value can't be used; the message begins with its name. The
            ranges of numbers are checked by the command.
    """

    listen: str = "127.0.0.1:6001"
    client_id: str = "sandbox"
    api_token: str = "sandbox-token"  # noqa: S105 - made up, for this machine only
    app_id: str = "sandbox"
    # The bridge's own default, so that it needs no setting for the key.
    app_key: str = "depin-api-prod-key"
    app_secret: str = "sandbox-secret"  # noqa: S105 - made up, for this machine only
    pusher_url: str | None = None
    rate: float = 20.0
    fail: float = 0.03
    preview_bytes: int = 3_000
    previews: bool = True
    stamp: bool = False
    wait_for_subscriber: bool = True
    plan: Plan = "basic"
    webhook_url: str | None = None
    # Made up as well. dryAPI's own begin with `whsec_`, and have 32 characters or more.
    webhook_secret: str = "whsec_made-up-for-this-machine-only"  # noqa: S105
    webhook_prefix: Prefix = "DryAPI"
    webhook_retry_scale: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check what neither the types nor the command can."""
        try:
            split_address(self.listen)
        except ValueError as error:
            raise ConfigError(
                f"listen: expected host:port, got {self.listen!r}"
            ) from error
        if not math.isfinite(self.rate):
            raise ConfigError(f"rate: expected 0 or more events/s, got {self.rate}")
        # URLs aren't repeated: they may hold a password.
        if self.pusher_url is not None and not _has_host(self.pusher_url, "ws", "wss"):
            raise ConfigError("pusher_url: expected ws:// or wss:// and a host")
        url = self.webhook_url
        if url is not None and not _has_host(url, "http", "https"):
            raise ConfigError("webhook_url: expected http:// or https:// and a host")
        secrets = ("api_token", "app_secret", "webhook_secret")
        for name in ("client_id", "app_id", "app_key", *secrets):
            # An empty secret would sign too, and no error would show it.
            if not getattr(self, name):
                raise ConfigError(f"{name}: expected a value, got none")

    def __repr__(self) -> str:
        """Name what distinguishes sandboxes, and no secret."""
        return f"SandboxConfig(listen={self.listen!r}, client_id={self.client_id!r})"

    @property
    def channel(self) -> str:
        """The channel of the account's events."""
        return f"private-client.{self.client_id}"

    @property
    def app(self) -> App:
        """The Pusher app's signatures."""
        return App(self.app_key, self.app_secret)


def _has_host(address: str, *schemes: str) -> bool:
    try:
        url = urlsplit(address)
        # Reading the port checks it.
        return url.scheme in schemes and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def iso_time(seconds: float) -> str:
    """Write seconds since the epoch as ISO 8601, in UTC."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


# -- Signatures ----------------------------------------------------------------


def equal(given: str, expected: str) -> bool:
    """Compare in constant time, whatever characters `given` holds."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def webhook_signature(secret: str, timestamp: str, body: bytes) -> str:
    """Give the signature header's value for one try of a webhook."""
    message = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


class App:
    """A Pusher app's key and secret."""

    def __init__(self, key: str, secret: str) -> None:
        self._key = key
        self._secret = secret.encode()

    def sign(self, message: str) -> str:
        """Sign a message: HMAC-SHA256 in hexadecimal digits."""
        return hmac.new(self._secret, message.encode(), hashlib.sha256).hexdigest()

    def channel_auth(self, socket_id: str, channel: str) -> str:
        """Sign one socket's subscription to one private channel."""
        return f"{self._key}:{self.sign(f'{socket_id}:{channel}')}"

    def signed_query(
        self, method: str, path: str, body: bytes, now: float
    ) -> dict[str, str]:
        """Build the query of a call of a Pusher server's HTTP API."""
        query = {
            "auth_key": self._key,
            "auth_timestamp": str(int(now)),
            "auth_version": "1.0",
        }
        if body:
            query["body_md5"] = hashlib.md5(body, usedforsecurity=False).hexdigest()
        joined = "&".join(f"{name}={value}" for name, value in sorted(query.items()))
        return query | {"auth_signature": self.sign(f"{method}\n{path}\n{joined}")}


# dryAPI's result addresses are valid for about a day.
_RESULT_SECONDS = 86_400


class Addresses:
    """Addresses of previews and results; each begins with `base`."""

    def __init__(self, base: str, app: App) -> None:
        self.base = base
        self._app = app

    def preview(self, request_id: str) -> str:
        """Give the address of a job's present preview."""
        return f"{self.base}/previews/{request_id}.jpg"

    def result(self, request_id: str) -> str:
        """Sign the address of a job's result."""
        path = f"/results/{request_id}.jpg"
        expires = int(time.time()) + _RESULT_SECONDS
        signature = self._app.sign(f"{path}?expires={expires}")
        return f"{self.base}{path}?expires={expires}&signature={signature}"

    def may_fetch(self, path: str, expires: str, signature: str) -> bool:
        """Check a signed address."""
        # Fifteen digits are more than enough for Unix seconds.
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 15):
            return False
        expected = self._app.sign(f"{path}?expires={expires}")
        return equal(signature, expected) and time.time() <= int(expires)


# -- Statistics ----------------------------------------------------------------


@dataclass
class WebhookStatistics:
    """Webhooks; each is delivered, failed, dropped, silenced or open."""

    by_event: dict[str, int] = field(default_factory=dict)  # all there were
    delivered: int = 0  # got 2xx, at whichever try
    failed: int = 0  # didn't get it, ten times
    dropped: int = 0  # never tried: too many waited already
    silenced: int = 0  # not tried, or not again: webhooks were off
    open: int = 0  # wait for a try, or for its answer
    tries: int = 0  # requests that ended
    retries: int = 0  # of these, all but each webhook's first
    # Tries without 2xx.
    faults: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("redirect", "status", "timeout", "unreachable"), 0
        )
    )
    failed_in_a_row: int = 0  # since the last delivered one
    switched_off: bool = False
    switched_off_total: int = 0


@dataclass
class Statistics:
    """Counters since the start, and the current connections and subscriptions."""

    events_emitted: int = 0  # accepted for the channel
    events_refused: int = 0  # not accepted by the Pusher server of --pusher-url
    # The accepted ones.
    events_by_status: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("processing", "in_progress", "done"), 0)
    )
    jobs_started: int = 0
    jobs_done: int = 0
    jobs_failed: int = 0  # no event reports them
    connections: int = 0
    connections_total: int = 0
    connections_refused: int = 0  # on command
    subscriptions: int = 0
    frames_dropped: int = 0  # for clients that read too slowly
    bytes_dropped: int = 0
    status_answers: dict[str, int] = field(default_factory=dict)
    webhooks: WebhookStatistics = field(default_factory=WebhookStatistics)

    @property
    def jobs_running(self) -> int:
        """Jobs that have not ended."""
        return self.jobs_started - self.jobs_done - self.jobs_failed

    def accepted(self, status: str) -> None:
        """Count one event that was accepted for the channel."""
        self.events_emitted += 1
        self.events_by_status[status] += 1
