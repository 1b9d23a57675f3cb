"""
A job status without its preview, and that preview.

Owns how a preview is taken out of bytes that conform. Whether one must go, and how
that is told, is decided elsewhere.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec


__all__ = ["take_preview", "without_preview"]

_NULL: Final = b"null"

# The key as nearly everybody writes it, up to where its value begins.
_KEY: Final = re.compile(rb'"preview"[ \t\n\r]*:[ \t\n\r]*')

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode


def without_preview(value: bytes) -> bytes:
    """
    Make the preview of a job status null.

    Args:
        value: A conforming job status.

    Returns:
        The same bytes with `null` in the preview's place. Only where the key is
        written with escapes, the members are written anew, each value as it was.
        The value itself if it has no preview.
    """
    members = _members(value)
    preview = members.get("preview")
    # Once: it is nearly all of the value.
    literal = _NULL if preview is None else bytes(preview)
    return value if literal == _NULL else _without(value, members, literal)


def take_preview(value: bytes) -> tuple[str, bytes]:
    """
    Take the preview out of a job status.

    Args:
        value: A conforming job status that has one.

    Returns:
        The preview, and what `without_preview` gives.
    """
    members = _members(value)
    literal = bytes(members["preview"])
    return _text(literal), _without(value, members, literal)


def _without(value: bytes, members: dict[str, msgspec.Raw], literal: bytes) -> bytes:
    wanted = {**members, "preview": msgspec.Raw(_NULL)}
    for key in _KEY.finditer(value):
        start = key.end()
        if value.startswith(literal, start):
            lightened = value[:start] + _NULL + value[start + len(literal) :]
            # A member that nobody knows can hold a preview of its own.
            if _members(lightened) == wanted:
                return lightened
    return msgspec.json.encode(wanted)
