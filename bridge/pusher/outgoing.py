"""
The Pusher protocol, version 7, as the client speaks it: its address and frames.

Every name and shape that the bridge puts on the wire stands here. When something
is sent is not decided here; what the server says is read in `protocol`.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import msgspec

from bridge import __version__
from bridge.errors import ConfigError


__all__ = ["check_channel", "ping", "pong", "subscribe", "url"]

# Pusher's and soketi's rule for names of channels; soketi's limit on length.
_CHANNEL: Final = re.compile(r"[-a-zA-Z0-9_=@,.;]{1,200}")


def ping() -> str:
    """Build a client's ping; `data` empty, as pusher-js sends it."""
    return '{"event":"pusher:ping","data":{}}'


def pong() -> str:
    """Build the answer to the server's ping."""
    return '{"event":"pusher:pong","data":{}}'


def check_channel(channel: str) -> str:
    """
    Refuse a channel name that no server accepts.

    It has to be caught here: soketi 1.6 closes every client's connection when
    a subscription comes without a usable channel.

    Args:
        channel: The name with its prefix.

    Returns:
        The same name.

    Raises:
        ConfigError: The name has a character that the protocol forbids.
    """
    if not _CHANNEL.fullmatch(channel):
        raise ConfigError(
            "client_id (BRIDGE_CLIENT_ID) may have letters, digits and -_=@,.;"
            " and at most 185 of them"
        )
    return channel


def subscribe(channel: str, auth: str) -> str:
    """
    Build the subscription to a private channel.

    Args:
        channel: The name, as `check_channel` accepts it.
        auth: `key:signature`, as the auth endpoint gave it.

    Returns:
        The frame's text.
    """
    frame = {
        "event": "pusher:subscribe",
        "data": {"auth": auth, "channel": channel},
    }
    return msgspec.json.encode(frame).decode()


def url(base: str, app_key: str) -> str:
    """
    Build the address that a client connects to.

    Args:
        base: `ws://` or `wss://`, host, port and perhaps a path prefix.
        app_key: The app's public key.

    Returns:
        The address with path `/app/KEY` and protocol 7, this client's name and
        version in its query.

    Raises:
        ConfigError: `base` is no such address.
    """
    try:
        parts = urlsplit(base)
        usable = parts.scheme in {"ws", "wss"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(
            "pusher.url (BRIDGE_PUSHER_URL) must be ws://host[:port][/path] or"
            " wss://host[:port][/path]"
        )
    query = urlencode(
        {"protocol": 7, "client": "dryapi-kafka-bridge", "version": __version__}
    )
    path = f"{parts.path.rstrip('/')}/app/{quote(app_key, safe='')}"
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))
