"""
What a sandbox can be told, with the values that fit a laptop.

Only values and the checks on them. The command line's option names and texts
stand in `bridge.cli.sandbox`; the bridge's own settings in `bridge.settings`.
"""

from __future__ import annotations

import math
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from bridge.errors import ConfigError
from bridge.sandbox.signing import App


__all__ = ["EVENT_NAME", "Plan", "Prefix", "SandboxConfig", "split_address"]

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

    Args:
        listen: `127.0.0.1:6001`, `[::1]:6001`, `:6001` for every interface.

    Returns:
        The host without brackets, and the port.

    Raises:
        ConfigError: It isn't a host and a port.
    """
    host, colon, port = listen.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ConfigError(f"listen: expected host:port, got {listen!r}")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - `:port` asks for every interface
