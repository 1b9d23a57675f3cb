"""
A job status without its preview, and that preview.

Owns how a preview is found in bytes that conform and taken out of them. Whether one
must go, and how that is told, is decided elsewhere.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec


__all__ = ["take_preview", "without_preview"]

_NULL: Final = b"null"
_NAME: Final = b"preview"
_QUOTE: Final = 0x22

# A member's key with what stands before it, up to where its value begins. Possessive:
# there is one way to read it, and of a long key nothing is kept to return to.
_KEY: Final = re.compile(
    rb'[ \t\n\r,{]*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t\n\r]*+:[ \t\n\r]*+'
)
_SCALAR: Final = re.compile(rb"[-+.0-9eE]++|null|true|false")

_Span = tuple[int, int]

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode


def without_preview(value: bytes) -> bytes:
    """
    Make the preview of a job status null.

    Args:
        value: A conforming job status.

    Returns:
        The same bytes with `null` in the preview's place; the value itself if it
        stands there already.
    """
    return _without(value, _find(value))


def take_preview(value: bytes) -> tuple[str, bytes]:
    """
    Take the preview out of a job status.

    Args:
        value: A conforming job status that has one.

    Returns:
        The preview, and what `without_preview` gives.
    """
    start, end = span = _find(value)
    if value.find(b"\\", start, end) < 0:
        # 6 us of 100 KB, where the decoder of JSON takes 39.
        text = str(memoryview(value)[start + 1 : end - 1], "utf-8")
    else:
        text = _text(value[start:end])
    return text, _without(value, span)


def _without(value: bytes, span: _Span) -> bytes:
    start, end = span
    if value.startswith(_NULL, start):
        return value
    return value[:start] + _NULL + value[end:]


def _find(value: bytes) -> _Span:
    """
    Find where the preview begins and ends.

    Member by member, since one that nobody knows can hold any number of previews of
    its own. Where what stands before it is plain, nothing is decoded: searching two
    bytes crosses a preview of 100 KB in 2 us, decoding it takes 31.
    """
    place = 0
    while (key := _KEY.match(value, place)) is not None:
        start = key.end()
        end = _plain_end(value, start)
        if end is None or b"\\" in key[1]:
            break
        if key[1] == _NAME:
            return start, end
        place = end
    return _find_decoded(value)


def _plain_end(value: bytes, start: int) -> int | None:
    """Tell where a value ends that has neither escapes nor members."""
    if value[start] != _QUOTE:
        scalar = _SCALAR.match(value, start)
        return None if scalar is None else scalar.end()
    end = value.find(b'"', start + 1) + 1
    return None if value.find(b"\\", start, end) >= 0 else end


def _find_decoded(value: bytes) -> _Span:
    """Find the preview by the lengths of the values before it, whatever they are."""
    place = 0
    # In their order: keys are unique.
    for name, literal in _members(value).items():
        key = _KEY.match(value, place)
        assert key is not None
        place = key.end() + len(literal)
        if name == "preview":
            return key.end(), place
    raise ValueError("a conforming status has a preview, be it null")
