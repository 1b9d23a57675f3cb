"""
Which kind of image bytes are, by the bytes alone.

Owns the closed list of kinds. Each is a picture that any browser shows and none that
can hold a script: SVG and HTML are never let through, whatever they are called. Beside
the pattern of the MIME Sniffing Standard what must follow it is looked at, up to where
the image begins; pixels are not decoded, so an image may still be cut off.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from types import MappingProxyType
from typing import Final


__all__ = ["CONTENT_TYPES", "SYNONYMS", "sniff"]

# Names of the same kinds that are written, though not registered.
SYNONYMS: Final = MappingProxyType(
    {
        "image/jpg": "image/jpeg",
        "image/pjpeg": "image/jpeg",
        "image/x-png": "image/png",
    }
)

_U32: Final = struct.Struct(">I")
_U16: Final = struct.Struct(">H")

# The markers of JPEG that a segment follows, less those that begin or end an image:
# https://www.w3.org/Graphics/JPEG/itu-t81.pdf, table B.1.
_FIRST_SEGMENT: Final = 0xC0
_LAST_SEGMENT: Final = 0xFE
_WITHOUT_SEGMENT: Final = range(0xD0, 0xDA)

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER: Final = b"\x00\x00\x00\rIHDR"
_PNG_HEADER_END: Final = len(_PNG) + 4 + 4 + 13

# A screen descriptor follows: size, flags, background, aspect ratio.
_GIF_SCREEN_END: Final = 13

_WEBP_CHUNKS: Final = frozenset({b"VP8 ", b"VP8L", b"VP8X"})

_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
# A box of types is short: libavif writes 28 or 32 bytes.
_MOST_FTYP_BYTES: Final = 256


def _is_jpeg(data: bytes) -> bool:
    if not data.startswith(b"\xff\xd8\xff") or len(data) < 6:
        return False
    marker = data[3]
    return (
        _FIRST_SEGMENT <= marker <= _LAST_SEGMENT
        and marker not in _WITHOUT_SEGMENT
        # The length counts itself.
        and _U16.unpack_from(data, 4)[0] >= 2
    )


def _is_png(data: bytes) -> bool:
    header_at = len(_PNG)
    if not data.startswith(_PNG) or not data.startswith(_PNG_HEADER, header_at):
        return False
    header = data[header_at + 4 : _PNG_HEADER_END]
    checksum = data[_PNG_HEADER_END : _PNG_HEADER_END + 4]
    return checksum == _U32.pack(zlib.crc32(header))


def _is_webp(data: bytes) -> bool:
    return (
        data.startswith(b"RIFF")
        and data.startswith(b"WEBP", 8)
        and data[12:16] in _WEBP_CHUNKS
    )


def _is_gif(data: bytes) -> bool:
    return data.startswith((b"GIF87a", b"GIF89a")) and len(data) >= _GIF_SCREEN_END


def _is_avif(data: bytes) -> bool:
    if not data.startswith(b"ftyp", 4) or len(data) < 16:
        return False
    size = _U32.unpack_from(data)[0]
    if size % 4 or not 16 <= size <= min(len(data), _MOST_FTYP_BYTES):
        return False
    # The major brand, its version, then those that it is compatible with.
    brands = {data[at : at + 4] for at in (8, *range(16, size, 4))}
    return not brands.isdisjoint(_AVIF_BRANDS)


_KINDS: Final[tuple[tuple[str, Callable[[bytes], bool]], ...]] = (
    ("image/jpeg", _is_jpeg),
    ("image/png", _is_png),
    ("image/webp", _is_webp),
    ("image/gif", _is_gif),
    ("image/avif", _is_avif),
)

CONTENT_TYPES: Final = tuple(content_type for content_type, _ in _KINDS)


def sniff(data: bytes) -> str | None:
    """
    Tell what image bytes are.

    Returns:
        One of `CONTENT_TYPES`; None where they are none of them.
    """
    return next((kind for kind, is_kind in _KINDS if is_kind(data)), None)
