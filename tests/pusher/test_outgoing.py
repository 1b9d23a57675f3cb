"""What the client says."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge import __version__
from bridge.errors import ConfigError
from bridge.pusher import outgoing


def test_row_01_the_address_names_protocol_client_and_version() -> None:
    """The query has protocol 7, and a path prefix is kept."""
    parts = urlsplit(outgoing.url("wss://host.test:444/prefix/", "the-key"))
    assert parts.scheme == "wss"
    assert parts.netloc == "host.test:444"
    assert parts.path == "/prefix/app/the-key"
    assert parse_qs(parts.query) == {
        "protocol": ["7"],
        "client": ["dryapi-kafka-bridge"],
        "version": [__version__],
    }


def test_an_app_key_can_not_change_the_path() -> None:
    """Characters with a meaning in URLs are escaped."""
    assert (
        urlsplit(outgoing.url("ws://h", "a/../b?c#d")).path == "/app/a%2F..%2Fb%3Fc%23d"
    )


@pytest.mark.parametrize(
    "base",
    [
        "",
        "soketi.test:443",
        "https://soketi.test",
        "wss://",
        "ws://:80",
        "ws://host:port",
        "ws://host:99999",
        "ws://host:0",
        "ws://[::1",
        "ws://user:secret@host",
        "ws://host/?query",
        "ws://host/#fragment",
    ],
)
def test_an_address_that_is_none_is_refused_with_its_setting(base: str) -> None:
    """The error names the setting and repeats nothing of the value."""
    with pytest.raises(ConfigError, match="BRIDGE_PUSHER_URL") as caught:
        outgoing.url(base, "key")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("client_id", ["", "a b", "ü", "a\n", "x" * 186, "a/b"])
def test_a_client_id_that_makes_no_channel_is_refused(client_id: str) -> None:
    """Soketi would close every client's connection for it."""
    channel = f"private-client.{client_id}" if client_id else ""
    with pytest.raises(ConfigError, match="BRIDGE_CLIENT_ID"):
        outgoing.check_channel(channel)


def test_a_client_id_of_every_allowed_character_is_accepted() -> None:
    """The protocol's whole alphabet passes."""
    channel = "private-client.Az09_-=@,.;"
    assert outgoing.check_channel(channel) == channel


def test_frames_are_what_the_protocol_asks_for() -> None:
    """Ping, pong and subscribe carry their members."""
    assert json.loads(outgoing.ping()) == {"event": "pusher:ping", "data": {}}
    assert json.loads(outgoing.pong()) == {"event": "pusher:pong", "data": {}}
    assert json.loads(outgoing.subscribe("private-a", 'k:"s')) == {
        "event": "pusher:subscribe",
        "data": {"channel": "private-a", "auth": 'k:"s'},
    }
