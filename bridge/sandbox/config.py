"""
What a sandbox is told and what it counts, its errors and its signatures.

The command line's option names and texts are in `bridge.cli.sandbox`.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from bridge.errors import BridgeError, ConfigError


__all__ = [
    "EVENT_NAME",
    "Addresses",
    "App",
    "Call",
    "Plan",
    "Prefix",
    "SandboxConfig",
    "SandboxError",
    "Statistics",
    "TooManyJobsError",
    "WebhookStatistics",
    "equal",
    "split_address",
    "webhook_signature",
]


class SandboxError(BridgeError):
    """The sandbox can't run: print the message and exit."""


class TooManyJobsError(BridgeError):
    """Too many requested jobs run at once: answer 429."""


# Pusher's HTTP API refuses a request whose timestamp is further away than this.
_TIMESTAMP_WINDOW_SECONDS = 600.0


def equal(given: str, expected: str) -> bool:
    """Compare in constant time, whatever characters `given` holds."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def webhook_signature(secret: str, timestamp: str, body: bytes) -> str:
    """
    Sign one try of a webhook.

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
        """Sign one socket's subscription to one private channel."""
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

        Returns:
            The value of its `signature` parameter.
        """
        return self._hex(f"{path}?expires={expires}")


def _age_seconds(timestamp: str, now: float) -> float | None:
    # Fifteen digits are more than enough for Unix seconds.
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        return None
    return now - int(timestamp)


# The one event dryAPI sends on a client's channel (its WebSocket documentation).
EVENT_NAME = "request.status.updated"

Plan = Literal["basic", "premium"]

# Between `X-` and the rest of a webhook's headers; deployments differ.
Prefix = Literal["DryAPI", "DeAPI"]


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    Everything that shapes one sandbox.

    Attributes:
        listen: `host:port` of the one port; port 0 takes a free one.
        public_url: The base of preview and result addresses; None derives it
            from the bound address.
        client_id: The account; its channel is `private-client.{client_id}`.
        api_token: The bearer token that the API accepts.
        app_id: The Pusher app's id, part of `/apps/{app_id}/events`.
        app_key: The Pusher app's key, part of `/app/{app_key}`.
        app_secret: Signs channels, publications and result addresses.
        pusher_url: `ws://host:port` of a Pusher server to drive instead of the
            sandbox's own endpoint.
        rate: Simulated events per second; 0 leaves only what `POST /jobs` starts.
        fail: The share of jobs that end as `error`, from 0 to 1.
        preview_bytes: About how long the sharpest preview is as a data URI.
        previews: Whether `in_progress` events carry previews.
        stamp: Whether events carry `sandbox_emitted_at`, which upstream doesn't send.
        wait_for_subscriber: Whether the simulation waits for the channel's first
            subscriber.
        plan: The account's plan, which sets the status endpoint's limits.
        webhook_url: Where webhooks are posted to; None sends none.
        webhook_secret: Signs webhooks.
        webhook_prefix: What their headers' names begin with, after `X-`.
        webhook_retry_scale: What the documented waits between tries are multiplied
            by; 0 to 1.
        keep_finished_jobs: How many finished jobs the status endpoint remembers.
        seed: Makes the sequence of jobs repeatable; None takes a new one.
    """

    listen: str = "127.0.0.1:6001"
    public_url: str | None = None
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
    keep_finished_jobs: int = 10_000
    seed: int | None = None

    def __post_init__(self) -> None:
        """
        Check what the types can't say.

        Raises:
            ConfigError: A value is out of its range; the message names it.
        """
        split_address(self.listen)
        if not (math.isfinite(self.rate) and self.rate >= 0):
            raise ConfigError(f"rate: expected 0 or more events/s, got {self.rate}")
        if not 0 <= self.fail <= 1:
            raise ConfigError(f"fail: expected a share from 0 to 1, got {self.fail}")
        # Below 600 bytes JPEG's own tables fill the file; 1 MB is ten times what
        # soketi lets through (eventLimits.maxPayloadInKb, 100 by default).
        if not 600 <= self.preview_bytes <= 1_000_000:
            raise ConfigError(
                f"preview_bytes: expected 600 to 1000000, got {self.preview_bytes}"
            )
        if self.pusher_url is not None and (
            urlsplit(self.pusher_url).scheme not in {"ws", "wss"}
            or not urlsplit(self.pusher_url).hostname
        ):
            raise ConfigError(
                f"pusher_url: expected ws://host:port, got {self.pusher_url!r}"
            )
        self._check_webhooks()
        for name in ("client_id", "api_token", "app_id", "app_key", "app_secret"):
            if not getattr(self, name):
                raise ConfigError(f"{name}: expected a value, got none")

    def _check_webhooks(self) -> None:
        if self.webhook_url is not None and not _is_http(self.webhook_url):
            # Not repeated: it may hold a password.
            raise ConfigError("webhook_url: expected http:// or https:// and a host")
        # An empty secret would sign too, and nobody would notice.
        if not self.webhook_secret:
            raise ConfigError("webhook_secret: expected a value, got none")
        if not 0 <= self.webhook_retry_scale <= 1:
            raise ConfigError(
                f"webhook_retry_scale: expected 0 to 1, got {self.webhook_retry_scale}"
            )

    def __repr__(self) -> str:
        """Name what tells sandboxes apart, and no secret."""
        return f"SandboxConfig(listen={self.listen!r}, client_id={self.client_id!r})"

    @property
    def channel(self) -> str:
        """The channel that the account's events are sent on."""
        return f"private-client.{self.client_id}"

    @property
    def app(self) -> App:
        """What signs in the Pusher app's name."""
        return App(self.app_key, self.app_secret)


def _is_http(address: str) -> bool:
    try:
        url = urlsplit(address)
        # Reading the port checks it.
        return url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def split_address(listen: str) -> tuple[str, int]:
    """
    Take `host:port` apart.

    Returns:
        The host without brackets, and the port.

    Raises:
        ConfigError: It isn't a host and a port.
    """
    host, colon, port = listen.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ConfigError(f"listen: expected host:port, got {listen!r}")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - `:port` asks for every interface


# dryAPI's result addresses are good for about a day.
_RESULT_SECONDS = 86_400


class Addresses:
    """
    Builds and checks addresses.

    Attributes:
        base: `http://host:port`, what every address begins with.
    """

    def __init__(self, base: str, app: App) -> None:
        self.base = base.rstrip("/")
        self._app = app

    def preview(self, request_id: str) -> str:
        """Say where a job's present preview is."""
        return f"{self.base}/previews/{request_id}.jpg"

    def result(self, request_id: str, now: float) -> str:
        """Sign the address of a job's result."""
        path = f"/results/{request_id}.jpg"
        expires = int(now) + _RESULT_SECONDS
        signature = self._app.result_signature(path, expires)
        return f"{self.base}{path}?expires={expires}&signature={signature}"

    def may_fetch(self, path: str, expires: str, signature: str, now: float) -> bool:
        """Check a signed address."""
        if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
            return False
        expected = self._app.result_signature(path, int(expires))
        return equal(signature, expected) and now <= int(expires)


class WebhookStatistics:
    """
    What became of webhooks.

    Each delivery is one of `delivered`, `failed`, `dropped`, `silenced` and `open`.

    Attributes:
        by_event: Deliveries by event; all there were.
        delivered: Those that got 2xx, at whichever try.
        failed: Those that didn't, ten times.
        dropped: Those never tried because too many waited already.
        silenced: Those that weren't tried, or not again, because webhooks were off.
        open: Those that wait for a try, or for its answer.
        tries: Requests that ended.
        retries: Those of them that weren't a delivery's first.
        faults: Tries without 2xx, by what was wrong.
        failed_in_a_row: Failed deliveries since the last delivered one.
        switched_off: Whether webhooks are off, after ten of those.
        switched_off_total: How often that has happened.
    """

    def __init__(self) -> None:
        self.by_event: dict[str, int] = {}
        self.delivered = 0
        self.failed = 0
        self.dropped = 0
        self.silenced = 0
        self.open = 0
        self.tries = 0
        self.retries = 0
        self.faults = {"redirect": 0, "status": 0, "timeout": 0, "unreachable": 0}
        self.failed_in_a_row = 0
        self.switched_off = False
        self.switched_off_total = 0

    def as_dict(self) -> dict[str, Any]:
        """List every number under its attribute's name, ready for JSON."""
        return {
            **vars(self),
            "by_event": dict(self.by_event),
            "faults": dict(self.faults),
        }


class Statistics:
    """
    Counters since the start, and the few values that go up and down.

    Attributes:
        events_emitted: Simulated events accepted for the channel.
        events_refused: Simulated events that the Pusher server didn't take.
        events_by_status: The accepted ones by their `status`.
        events_published: Events that others published over `/apps/{id}/events`.
        jobs_started: Jobs begun.
        jobs_done: Jobs that ended as `done`.
        jobs_failed: Jobs that ended as `error`, of which no event tells.
        connections: WebSocket connections open now.
        connections_total: WebSocket connections accepted.
        subscriptions: Subscriptions now, over all connections.
        frames_dropped: Frames dropped in silence for slow readers.
        bytes_dropped: Their size.
        connections_refused: Those that were turned away on command.
        status_answers: The status endpoint's answers by their HTTP status.
        webhooks: What became of webhooks.
    """

    def __init__(self) -> None:
        self.events_emitted = 0
        self.events_refused = 0
        self.events_by_status = {"processing": 0, "in_progress": 0, "done": 0}
        self.events_published = 0
        self.jobs_started = 0
        self.jobs_done = 0
        self.jobs_failed = 0
        self.connections = 0
        self.connections_total = 0
        self.subscriptions = 0
        self.frames_dropped = 0
        self.bytes_dropped = 0
        self.connections_refused = 0
        self.status_answers: dict[str, int] = {}
        self.webhooks = WebhookStatistics()

    @property
    def jobs_running(self) -> int:
        """Jobs begun and not ended."""
        return self.jobs_started - self.jobs_done - self.jobs_failed

    def accepted(self, status: str) -> None:
        """Count one simulated event that was accepted for the channel."""
        self.events_emitted += 1
        self.events_by_status[status] += 1

    def answered_status(self, code: int) -> None:
        """Count one answer of the status endpoint."""
        name = str(code)
        self.status_answers[name] = self.status_answers.get(name, 0) + 1

    def as_dict(self) -> dict[str, Any]:
        """List every number under its attribute's name."""
        return {
            **vars(self),
            "events_by_status": dict(self.events_by_status),
            "jobs_running": self.jobs_running,
            "status_answers": dict(self.status_answers),
            "webhooks": self.webhooks.as_dict(),
        }
