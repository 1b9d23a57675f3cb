"""
The Pusher protocol, version 7: text in, events out; frames and addresses of the client.

No socket, no clock, no state. Tolerance is the rule: whatever a server sends becomes
one of the events below, and nothing is raised. Control events are believed only where
the protocol puts them: anyone who may publish to a channel can publish an event named
`pusher:error` into it (soketi relays it, with the channel's name), so a control event
that carries a channel it shouldn't carry is data like any other.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Final, TypeAlias, final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import msgspec

from bridge import __version__
from bridge.errors import ConfigError


__all__ = [
    "DEFAULT_ACTIVITY_TIMEOUT_SECONDS",
    "JOB_EVENT",
    "PING",
    "PONG",
    "ChannelEvent",
    "ControlEvent",
    "Established",
    "Event",
    "Ping",
    "Pong",
    "ServerError",
    "SubscriptionError",
    "SubscriptionSucceeded",
    "Unrecognized",
    "channel_of",
    "connect_url",
    "decode",
    "subscribe",
]

JOB_EVENT: Final = "request.status.updated"
"""The event that dryAPI publishes for a job (its documentation, WebSocket)."""

DEFAULT_ACTIVITY_TIMEOUT_SECONDS: Final = 30.0
"""Used where a server sends nothing usable: soketi's and Reverb's own default."""

PING: Final = '{"event":"pusher:ping","data":{}}'
"""The client's ping; `data` empty, as pusher-js sends it."""

PONG: Final = '{"event":"pusher:pong","data":{}}'
"""The answer to the server's ping."""

# Outside of these a server's activity timeout is a mistake: pings every few
# milliseconds, or none for hours.
_ACTIVITY_TIMEOUT_RANGE: Final = (1.0, 3600.0)

# Two numbers with a dot between: the signature covers the text, so anything
# else could only be refused later.
_SOCKET_ID: Final = re.compile(r"[0-9]{1,40}\.[0-9]{1,40}")

# Pusher's and soketi's rule for names of channels; soketi's limit on length.
_CHANNEL: Final = re.compile(r"[-a-zA-Z0-9_=@,.;]{1,200}")


class Established(msgspec.Struct, frozen=True):
    """
    The server gave the connection its identity.

    Attributes:
        socket_id: What a signature has to cover.
        activity_timeout_seconds: Silence after which the client should ping;
            the default where the server's value is unusable.
    """

    socket_id: str
    activity_timeout_seconds: float


class Ping(msgspec.Struct, frozen=True):
    """The server asks for a pong."""


class Pong(msgspec.Struct, frozen=True):
    """The server answers a ping."""


class SubscriptionSucceeded(msgspec.Struct, frozen=True):
    """The server acknowledged a subscription, or a repeated one."""

    channel: str


class SubscriptionError(msgspec.Struct, frozen=True):
    """
    The server refused a subscription; the connection stays open.

    Attributes:
        channel: Which channel.
        status: An HTTP status or a Pusher code, where there is one.
        kind: The server's word for it (`AuthError`), where there is one.
        message: The server's text, shortened.
    """

    channel: str
    status: int | None
    kind: str | None
    message: str


class ServerError(msgspec.Struct, frozen=True):
    """
    A `pusher:error`: the server may close the connection or keep it.

    Attributes:
        code: A code of the table in `close_codes`, where there is one.
        message: The server's text, shortened.
    """

    code: int | None
    message: str


@final
class ChannelEvent(msgspec.Struct, frozen=True, gc=False):
    """
    A published event.

    Attributes:
        event: Its name.
        channel: The channel it came through; None if the frame named none.
        data: The payload as the frame had it: mostly a string (with JSON in
            it), else the decoded JSON value. A payload that can't be decoded
            is given as its JSON text.
        text: The whole frame.
    """

    event: str
    channel: str | None
    data: object
    text: str

    @property
    def original(self) -> bytes:
        """The payload's own bytes: the string's UTF-8, else its JSON text."""
        if isinstance(self.data, str):
            return self.data.encode()
        return bytes(_decode_odd_frame(self.text).data)


class Unrecognized(msgspec.Struct, frozen=True):
    """
    A frame that isn't an event: count it and go on.

    Attributes:
        reason: What is wrong with it; never any of its content.
    """

    reason: str


ControlEvent: TypeAlias = (
    Established
    | Ping
    | Pong
    | ServerError
    | SubscriptionError
    | SubscriptionSucceeded
    | Unrecognized
)
"""What concerns the connection itself."""

Event: TypeAlias = ChannelEvent | ControlEvent


class _Frame(msgspec.Struct, gc=False):
    """The shape of nearly every frame; unknown keys are ignored."""

    event: str
    channel: str | None = None
    data: object = None


class _OddFrame(msgspec.Struct, gc=False):
    """The same, with the payload untouched and any type for the rest."""

    event: object = None
    channel: object = None
    data: msgspec.Raw = msgspec.Raw(b"null")


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_odd_frame = msgspec.json.Decoder(_OddFrame).decode

# MsgspecError: not JSON, or another shape. RecursionError: nested too deeply.
# ValueError: a lone surrogate that no UTF-8 can hold, or a number too long.
_UNDECODABLE: Final = (msgspec.MsgspecError, RecursionError, ValueError)


def decode(message: str | bytes) -> Event:
    """
    Decode one WebSocket message.

    Args:
        message: The text of a text message, or the bytes of a binary one,
            which no Pusher server sends.

    Returns:
        The event; `Unrecognized` for anything else. Never raises.
    """
    if not isinstance(message, str):
        return Unrecognized("a binary message")
    try:
        frame = _decode_frame(message)
    except _UNDECODABLE:
        return _decode_odd(message)
    control = _CONTROL.get(frame.event)
    if control is not None:
        event = control(frame)
        if event is not None:
            return event
    return ChannelEvent(frame.event, frame.channel, frame.data, message)


def _decode_odd(message: str) -> Event:
    """
    Decode a frame that the typed decoder refused.

    Its payload may be JSON that msgspec has no value for (a number out of range, a
    lone surrogate): it was published all the same, so it is passed on as text. No
    server writes control events like that.
    """
    try:
        odd = _decode_odd_frame(message)
        name, channel, data = odd.event, odd.channel, bytes(odd.data).decode()
    except _UNDECODABLE:
        try:
            loaded = json.loads(message)
        except _UNDECODABLE:
            return Unrecognized("not JSON, or nested too deeply")
        if not isinstance(loaded, dict):
            return Unrecognized("not an object")
        name, channel = loaded.get("event"), loaded.get("channel")
        # ASCII escapes keep what can't be encoded; this can't nest too deeply,
        # since it was just decoded.
        data = json.dumps(loaded.get("data"))
    if not isinstance(name, str):
        return Unrecognized("no event name")
    if channel is not None and not isinstance(channel, str):
        return Unrecognized("the channel is not a string")
    return ChannelEvent(name, channel, data, message)


def _members(data: object) -> dict[str, object]:
    """Give a control event's `data` as a dict: it comes as object or string."""
    if isinstance(data, str):
        try:
            data = msgspec.json.decode(data)
        except _UNDECODABLE:
            return {}
    return data if isinstance(data, dict) else {}


def _established(frame: _Frame) -> Event | None:
    if frame.channel is not None:
        return None
    members = _members(frame.data)
    socket_id = members.get("socket_id")
    if not isinstance(socket_id, str) or not _SOCKET_ID.fullmatch(socket_id):
        return Unrecognized("connection_established without a usable socket id")
    return Established(socket_id, _activity_timeout(members.get("activity_timeout")))


def _activity_timeout(value: object) -> float:
    lowest, highest = _ACTIVITY_TIMEOUT_RANGE
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and lowest <= value <= highest
    ):
        return float(value)
    return DEFAULT_ACTIVITY_TIMEOUT_SECONDS


def _server_error(frame: _Frame) -> Event | None:
    if frame.channel is not None:
        return None
    members = _members(frame.data)
    return ServerError(_code(members.get("code")), _line(members.get("message")))


def _subscription_error(frame: _Frame) -> Event | None:
    if frame.channel is None:
        return None
    members = _members(frame.data)
    kind = members.get("type")
    return SubscriptionError(
        frame.channel,
        _code(members.get("status")),
        _line(kind) if isinstance(kind, str) else None,
        _line(members.get("error")),
    )


_CONTROL: Final[dict[str, Callable[[_Frame], Event | None]]] = {
    "pusher:connection_established": _established,
    "pusher:ping": lambda frame: Ping() if frame.channel is None else None,
    "pusher:pong": lambda frame: Pong() if frame.channel is None else None,
    "pusher:error": _server_error,
    "pusher_internal:subscription_succeeded": lambda frame: (
        None if frame.channel is None else SubscriptionSucceeded(frame.channel)
    ),
    "pusher:subscription_error": _subscription_error,
}


def _code(value: object) -> int | None:
    # Four digits at most, as a close code has; JSON knows larger ones.
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10_000:
        return value
    return None


def _line(value: object) -> str:
    """Give a server's text for the log: one short printable line."""
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in value[:200]).strip()


def channel_of(client_id: str) -> str:
    """
    Name an account's channel.

    It has to be checked here: soketi 1.6 closes every client's connection when a
    subscription comes without a usable channel.

    Raises:
        ConfigError: The client id has a character that the protocol forbids.
    """
    channel = f"private-client.{client_id}"
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
        channel: The name, from `channel_of`.
        auth: `key:signature`, from the auth endpoint.
    """
    frame = {"event": "pusher:subscribe", "data": {"auth": auth, "channel": channel}}
    return msgspec.json.encode(frame).decode()


def connect_url(base: str, app_key: str) -> str:
    """
    Build the address that a client connects to.

    Args:
        base: `ws://` or `wss://`, host, port and perhaps a path prefix.
        app_key: The app's public key.

    Returns:
        The address with path `/app/KEY`, and protocol 7, this client's name and
        its version as the query.

    Raises:
        ConfigError: `base` isn't such an address.
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
