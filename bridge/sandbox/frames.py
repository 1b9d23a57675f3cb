"""
The messages of Pusher's protocol 7 as soketi 1.6.1 writes and reads them.

Pure: text and bytes in, text and bytes out. Connections stand in `websocket`,
who gets what in `channels`.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import msgspec


__all__ = [
    "ACTIVITY_TIMEOUT_SECONDS",
    "ClientMessage",
    "channel_event",
    "channel_name_fault",
    "error",
    "established",
    "parse",
    "pong",
    "subscription_error",
    "subscription_succeeded",
    "unauthorized",
]

# What soketi tells clients by default.
ACTIVITY_TIMEOUT_SECONDS = 30

# soketi's eventLimits.maxNameLength and the characters that Pusher allows.
_MAX_NAME_LENGTH = 200
_NAME = re.compile(r"[-a-zA-Z0-9_=@,.;]+")


class ClientMessage(msgspec.Struct, frozen=True):
    """
    What a client said, as far as a server looks at it.

    Attributes:
        event: For instance `pusher:subscribe`.
        data: Its `data`, whatever JSON that is.
        channel: Its `channel`; client events have one.
    """

    event: str
    data: Any = None
    channel: str | None = None


class _ChannelEvent(msgspec.Struct, frozen=True):
    # soketi's order of members.
    event: str
    channel: str
    data: Any


_decode = msgspec.json.Decoder(ClientMessage).decode
_encode = msgspec.json.encode


def _text_frame(payload: bytes) -> bytes:
    # RFC 6455 section 5.2. A server's frames are not masked and no extension is
    # agreed on, so that one encoding serves every subscriber of a channel.
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 1 << 16:
        return b"\x81" + struct.pack("!BH", 126, size) + payload
    return b"\x81" + struct.pack("!BQ", 127, size) + payload


def _frame(message: object) -> bytes:
    return _text_frame(_encode(message))


def parse(text: str) -> ClientMessage | None:
    """Read a client's message; None for what soketi ignores."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None


def established(socket_id: str) -> bytes:
    """Build the first frame of a connection; its `data` is a JSON string."""
    data = {"socket_id": socket_id, "activity_timeout": ACTIVITY_TIMEOUT_SECONDS}
    return _frame(
        {"event": "pusher:connection_established", "data": _encode(data).decode()}
    )


def pong() -> bytes:
    """Build the answer to `pusher:ping`."""
    return _frame({"event": "pusher:pong", "data": {}})


def error(code: int, message: str, *, channel: str | None = None) -> bytes:
    """Build `pusher:error`; soketi's `data` is an object, not a string."""
    about = {} if channel is None else {"channel": channel}
    data = {"code": code, "message": message}
    return _frame({"event": "pusher:error", **about, "data": data})


def subscription_succeeded(channel: str) -> bytes:
    """Build the acknowledgement; soketi leaves `data` out."""
    event = "pusher_internal:subscription_succeeded"
    return _frame({"event": event, "channel": channel})


def subscription_error(channel: str, data: dict[str, Any]) -> bytes:
    """Build the refusal of a subscription."""
    event = "pusher:subscription_error"
    return _frame({"event": event, "channel": channel, "data": data})


def unauthorized(channel: str) -> bytes:
    """Build the refusal of a subscription whose signature is wrong."""
    text = "The connection is unauthorized."
    return subscription_error(
        channel, {"type": "AuthError", "error": text, "status": 401}
    )


def channel_event(event: str, channel: str, data: Any) -> bytes:
    """Build an event as a channel's subscribers get it."""
    return _frame(_ChannelEvent(event, channel, data))


def channel_name_fault(channel: str) -> dict[str, Any] | None:
    """Give the `data` of soketi's refusal of a channel's name; None if allowed."""
    if len(channel) > _MAX_NAME_LENGTH:
        text = f"The channel name is longer than {_MAX_NAME_LENGTH} characters."
        return {"type": "LimitReached", "error": text, "status": 4009}
    if not _NAME.fullmatch(channel):
        # soketi sends no `type` with this one.
        return {"error": "The channel name is not allowed.", "status": 4009}
    return None
