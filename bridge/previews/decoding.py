"""
From a preview's text to bytes: data URIs and bare base64.

Owns which spellings are understood. A data URI is read as the Fetch Standard's
"data: URL processor" reads it, but for line ends before its comma, and base64 as the
Infra Standard's "forgiving-base64 decode": what a browser shows is understood here.
What it refuses is refused, but for the URL-safe alphabet, which some encoders write.
"""

from __future__ import annotations

import binascii
import re
from contextlib import suppress
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec


__all__ = ["UndecodableError", "decode"]

# What stands before the comma is a type and some parameters; a longer one is no head.
_HEAD_CHARACTERS: Final = 1024

_SCHEME: Final = "data:"

# The end of a head whose body is base64.
_BASE64: Final = re.compile(r"; *base64\Z", re.IGNORECASE)

# A type and subtype are tokens: https://mimesniff.spec.whatwg.org/#parsing-a-mime-type
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - no secret
_ESSENCE: Final = re.compile(rf"{_TOKEN}/{_TOKEN}")

# These say nothing of what kind of image it is.
_NO_CLAIMS: Final = frozenset({"application/octet-stream", "text/plain"})

# ASCII whitespace, which both standards let stand anywhere in base64.
_WHITESPACE: Final = " \t\n\f\r"
_TIDY: Final = str.maketrans("-_", "+/", _WHITESPACE)

# What a URL's parser takes away: C0 controls and spaces at both ends.
_AROUND_A_URL: Final = "".join(map(chr, range(0x21)))


class UndecodableError(ValueError):
    """The text can't be decoded; the message goes on after "the preview"."""


def decode(text: str) -> tuple[bytes, str | None]:
    """
    Decode a preview.

    Args:
        text: As it stands in the event.

    Returns:
        The bytes, and the media type that the text claims for them, in small letters;
        None where it claims none.

    Raises:
        UndecodableError: The text can't be decoded.
    """
    start = len(text) - len(text.lstrip(_AROUND_A_URL))
    if text[start : start + len(_SCHEME)].lower() != _SCHEME:
        return _from_base64(text), None
    start += len(_SCHEME)
    comma = text.find(",", start, start + _HEAD_CHARACTERS)
    if comma < 0:
        raise UndecodableError("is a data URI without a comma")
    head = text[start:comma].strip(_WHITESPACE)
    claimed = _claimed(head)
    if _BASE64.search(head):
        return _from_base64(text[comma + 1 :], is_url=True), claimed
    return _from_url(text[comma + 1 :]), claimed


def _claimed(head: str) -> str | None:
    """Read the media type without its parameters, if it is one."""
    essence = head.partition(";")[0].strip(_WHITESPACE).lower()
    if not _ESSENCE.fullmatch(essence) or essence in _NO_CLAIMS:
        return None
    return essence


def _from_url(body: str) -> bytes:
    """Undo percent-encoding; a fragment is no part of the data."""
    body = body.rstrip(_AROUND_A_URL).partition("#")[0]
    return unquote_to_bytes(re.sub("[\t\n\r]", "", body))


def _from_base64(body: str, *, is_url: bool = False) -> bytes:
    """Undo base64, at once where it is written as nearly everybody does."""
    # Four times as fast as CPython's (43 us of 100 KB), and as strict on any version.
    with suppress(ValueError):  # also of a text that isn't ASCII
        return msgspec.convert(body, bytes)
    if is_url:
        body = _from_url(body).decode("latin-1")
    body = body.translate(_TIDY)
    # Padding is whole or left out: the standard refuses any other.
    if len(body) % 4 == 0:
        body = body.removesuffix("=").removesuffix("=")
    data = None
    if not body.endswith("="):
        with suppress(ValueError):
            padded = body + "=" * (-len(body) % 4)
            data = binascii.a2b_base64(padded, strict_mode=True)
    if data is None:
        raise UndecodableError("is no data URI and no base64")
    return data
