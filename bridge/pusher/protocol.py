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
from typing import Annotated, Any, Final, TypeAlias, final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import msgspec

from bridge import __version__


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
_ActivityTimeout: TypeAlias = Annotated[float, msgspec.Meta(ge=1, le=3600)]

# Two numbers with a dot between: the signature covers the text, so anything
# else could only be refused later.
_SocketId: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"\A[0-9]{1,40}\.[0-9]{1,40}\Z")
]

# Four digits at most, as a close code has; JSON knows larger ones.
_Code: TypeAlias = Annotated[int, msgspec.Meta(gt=0, lt=10_000)]


class ControlEvent(msgspec.Struct, frozen=True):
    """What concerns the connection itself."""


class Established(ControlEvent, frozen=True):
    """The server gave the connection its identity, which a signature has to cover."""

    socket_id: str
    # Silence after which the client should ping.
    activity_timeout_seconds: float


class Ping(ControlEvent, frozen=True):
    """The server asks for a pong."""


class Pong(ControlEvent, frozen=True):
    """The server answers a ping."""


class SubscriptionSucceeded(ControlEvent, frozen=True):
    """The server acknowledged a subscription, or a repeated one."""

    channel: str


class SubscriptionError(ControlEvent, frozen=True):
    """The server refused a subscription; the connection stays open."""

    channel: str
    # An HTTP status or a Pusher code, where there is one.
    status: int | None
    # The server's type of error (`AuthError`) and its text, shortened; or empty.
    kind: str
    message: str


class ServerError(ControlEvent, frozen=True):
    """A `pusher:error`: the server may close the connection or keep it."""

    # A code of the table in `close_codes`, where there is one.
    code: int | None
    # The server's text, shortened.
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


class Unrecognized(ControlEvent, frozen=True):
    """A frame that isn't an event: count it and go on."""

    # What is wrong with it; never any of its content.
    reason: str


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
    """Decode one WebSocket message; never raises. No server sends binary ones."""
    if not isinstance(message, str):
        return Unrecognized("a binary message")
    try:
        frame = _decode_frame(message)
    except _UNDECODABLE:
        return _decode_odd(message)
    if frame.event != JOB_EVENT and (control := _control(frame)) is not None:
        return control
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


def _control(frame: _Frame) -> ControlEvent | None:
    """Read a control event; None if it isn't one, or not where it belongs."""
    event: ControlEvent | None = None
    match frame.event, frame.channel:
        case "pusher:ping", None:
            event = Ping()
        case "pusher:pong", None:
            event = Pong()
        case "pusher:connection_established", None:
            data = _members(frame.data)
            socket_id = _valid(data.get("socket_id"), _SocketId)
            timeout_seconds = _valid(data.get("activity_timeout"), _ActivityTimeout)
            event = (
                Unrecognized("connection_established without a usable socket id")
                if socket_id is None
                else Established(
                    socket_id, timeout_seconds or DEFAULT_ACTIVITY_TIMEOUT_SECONDS
                )
            )
        case "pusher:error", None:
            data = _members(frame.data)
            event = ServerError(
                _valid(data.get("code"), _Code), _line(data.get("message"))
            )
        case "pusher_internal:subscription_succeeded", str(channel):
            event = SubscriptionSucceeded(channel)
        case "pusher:subscription_error", str(channel):
            data = _members(frame.data)
            status, kind = _valid(data.get("status"), _Code), _line(data.get("type"))
            event = SubscriptionError(channel, status, kind, _line(data.get("error")))
    return event


def _members(data: object) -> dict[str, object]:
    """Give a control event's `data` as a dict: it comes as object or string."""
    if isinstance(data, str):
        try:
            data = msgspec.json.decode(data)
        except _UNDECODABLE:
            return {}
    return data if isinstance(data, dict) else {}


def _valid(value: object, kind: Any) -> Any:
    """Give a value if it is of a kind, else None."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


def _line(value: object) -> str:
    """Give a server's text for the log: one short printable line."""
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in value[:200]).strip()


def channel_of(client_id: str) -> str:
    """
    Name an account's channel.

    Settings allow only client ids that make a usable name: soketi 1.6 closes every
    client's connection when a subscription comes without one.
    """
    return f"private-client.{client_id}"


def subscribe(channel: str, auth: str) -> str:
    """Build the subscription to a private channel with its `key:signature`."""
    frame = {"event": "pusher:subscribe", "data": {"auth": auth, "channel": channel}}
    return msgspec.json.encode(frame).decode()


def connect_url(base: str, app_key: str) -> str:
    """Build the address that a client connects to; the base's own path stays."""
    parts = urlsplit(base)
    query = urlencode(
        {"protocol": 7, "client": "dryapi-kafka-bridge", "version": __version__}
    )
    path = f"{parts.path.rstrip('/')}/app/{quote(app_key, safe='')}"
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))
